"""What only S3 can show: wrong keys, missing buckets, servers and networks that fail.

Faults come from a proxy in front of the real server, which fails in the ways that networks and
servers do: it drops the reply to a put that was done, answers for the server, cuts a body short.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

import pytest

from datagen.errors import (
    ObjectMissingError,
    RetryableError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from datagen.store import S3Store, Store, open_store


class FaultyProxy(ThreadingHTTPServer):
    """Forwards to the server. `faults`: one for each of the next requests, then none.

    A fault is a status, "yes" or "web page" to answer in the server's place, "drop" (forward, then
    close without the reply), "cut" (forward, send half of the body) or "pass".
    """

    daemon_threads = True

    def __init__(self, endpoint_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(endpoint_url).netloc
        self.faults: list[int | str] = []
        self.num_requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        proxy = self.server
        assert isinstance(proxy, FaultyProxy)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.faults.pop(0) if proxy.faults else "pass"
        proxy.num_requests += 1
        if isinstance(fault, int):
            code = {409: "ConditionalRequestConflict", 503: "SlowDown"}.get(fault, "Fault")
            reply = f"<Error><Code>{code}</Code><Message>by the test</Message></Error>".encode()
            return self.send(fault, [("Content-Type", "application/xml")], reply)
        if fault == "yes":
            return self.send(200, [("ETag", '"0"')], b"")
        if fault == "web page":
            return self.send(200, [("Content-Type", "text/html")], b"<html><p>It works")
        upstream = http.client.HTTPConnection(proxy.target)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, body, dict(self.headers))
            response = upstream.getresponse()
            reply = response.read()
        self.close_connection = fault != "pass"
        if fault != "drop":
            headers = [item for item in response.getheaders() if item[0] != "Content-Length"]
            self.send(response.status, headers, reply, is_cut=fault == "cut")

    def send(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, is_cut: bool = False
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if is_cut else body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    do_GET = do_PUT = do_HEAD = do_DELETE = answer


@pytest.fixture
def store(s3_url: str, s3_endpoint: str) -> S3Store:
    store = open_store(s3_url, endpoint_url=s3_endpoint)
    assert isinstance(store, S3Store)
    return store


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_endpoint) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxied(s3_url: str, proxy: FaultyProxy) -> Store:
    return open_store(s3_url, endpoint_url=proxy.url)


def calls_of(store: Store) -> list[Callable[[], object]]:
    return [
        store.check,
        lambda: store.put_new("a", b"x"),
        lambda: store.get("a"),
        lambda: store.get_range("a", 0, 1),
        lambda: store.open("a"),
        lambda: store.size("a"),
        lambda: list(store.list("")),
        lambda: store.delete("a"),
    ]


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_told(store: S3Store, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "wrong")

    for call in calls_of(store):
        with pytest.raises(StoreError, match=r"403.*set AWS_ACCESS_KEY_ID") as caught:
            call()
        assert not isinstance(caught.value, RetryableError)


def test_no_keys_are_told(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")

    for call in calls_of(store):
        with pytest.raises(StoreError, match=r"credentials.*set AWS_ACCESS_KEY_ID") as caught:
            call()
        assert not isinstance(caught.value, RetryableError)


def test_an_unknown_profile_is_told(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody-has-this")

    with pytest.raises(StoreError, match=r"nobody-has-this.*AWS_PROFILE"):
        store.check()


def test_a_missing_bucket_is_told(s3_endpoint: str) -> None:
    store = open_store("s3://no-such-bucket/prefix", endpoint_url=s3_endpoint)

    for call in calls_of(store):
        with pytest.raises(StoreError, match="bucket 'no-such-bucket' does not exist") as caught:
            call()
        assert not isinstance(caught.value, (RetryableError, ObjectMissingError))


def test_a_server_that_is_down_may_be_tried_again(s3_url: str, s3_endpoint: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = open_store(s3_url, endpoint_url=endpoint_url)

        for call in (store.check, lambda: store.get("a")):
            with pytest.raises(StoreUnavailableError) as caught:
                call()
            assert endpoint_url in str(caught.value)
            assert "DATAGEN_S3_ENDPOINT_URL" in str(caught.value)


def test_a_host_without_a_name_is_told(s3_url: str, s3_endpoint: str) -> None:
    store = open_store(s3_url, endpoint_url="http://no-such-host.invalid:8333")

    with pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid"):
        store.check()


def test_a_put_whose_reply_was_lost_is_success(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = ["drop"]

    assert proxied.put_new("a", b"x" * 100_000) is False  # the retry met the object of the first

    assert proxied.get("a") == b"x" * 100_000
    assert proxy.num_requests == 4  # the lost put, its retry, the comparison; then the get


def test_a_conflict_with_another_writer_is_tried_again(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = [409, 409]

    assert proxied.put_new("a", b"x") is True


def test_endless_conflicts_end(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = [409] * 100

    with pytest.raises(StoreUnavailableError, match="other writers of the same name"):
        proxied.put_new("a", b"x")
    assert proxy.num_requests < 10


def test_an_object_deleted_between_put_and_comparison_is_put_again(
    proxied: Store, proxy: FaultyProxy
) -> None:
    proxy.faults = [412]

    assert proxied.put_new("a", b"x") is True


def test_a_fault_that_passes_is_not_seen(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = [503, 500, "pass", 503]

    assert proxied.put_new("a", b"x") is True
    assert proxied.get("a") == b"x"


@pytest.mark.parametrize("status", [500, 503])
def test_a_fault_that_stays_may_be_tried_again(
    proxied: Store, proxy: FaultyProxy, status: int
) -> None:
    proxy.faults = [status] * 3

    with pytest.raises(StoreUnavailableError, match=f"cannot write .*: {status} "):
        proxied.put_new("a", b"x")
    assert proxied.put_new("a", b"x") is True


def test_a_full_server_is_told(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = [507] * 3

    with pytest.raises(StoreFullError, match="make room"):
        proxied.put_new("a", b"x")


def test_a_body_cut_short_is_never_taken_for_whole(proxied: Store, proxy: FaultyProxy) -> None:
    proxied.put_new("a", b"x" * 100_000)

    proxy.faults = ["cut"]
    with pytest.raises(StoreUnavailableError, match="cannot read"):
        proxied.get("a")
    proxy.faults = ["cut"]
    with proxied.open("a") as stream, pytest.raises(StoreUnavailableError):
        stream.read()
    proxy.faults = ["cut"]
    with pytest.raises(StoreUnavailableError):
        proxied.get_range("a", 10, 50_000)
    assert proxied.get("a") == b"x" * 100_000


def test_check_refuses_a_server_that_overwrites(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = ["pass", "yes"]

    with pytest.raises(StoreError, match="ignores If-None-Match"):
        proxied.check()


def test_something_else_than_an_s3_server_is_told(proxied: Store, proxy: FaultyProxy) -> None:
    proxy.faults = ["web page"] * 3
    with pytest.raises(StoreError, match="DATAGEN_S3_ENDPOINT_URL"):
        list(proxied.list(""))

    proxy.faults = [301]
    with pytest.raises(StoreError, match="DATAGEN_S3_ENDPOINT_URL"):
        proxied.get("a")
