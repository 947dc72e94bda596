"""What a client may send, and how slowly; what every answer carries."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from datagen.api.limits import MAX_BODY_BYTES, Limits
from tests.api.conftest import Api, serve


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        yield connection


def head(path: str, key: str, *lines: str) -> bytes:
    shared = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    return "\r\n".join([*shared, *lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def test_a_large_body_is_refused_by_its_announced_length(api: Api) -> None:
    response = api.acme.post("/jobs", content=b"x" * (MAX_BODY_BYTES + 1))
    assert response.status_code == 413
    assert response.json()["type"] == "urn:datagen:problem:too-large"


def test_a_large_body_is_refused_without_reading_it(api: Api) -> None:
    """The length is announced, and not a byte is sent: the answer comes all the same."""
    with connected(api.url) as connection:
        connection.sendall(head("/v1/jobs", api.key(), f"Content-Length: {10**12}"))
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_large_body_is_cut_off_while_it_is_read(api: Api) -> None:
    """In chunks, so that no length is announced; it never ends, and the answer comes all the
    same."""
    with connected(api.url) as connection:
        chunked = ("Transfer-Encoding: chunked", "Content-Type: application/json")
        connection.sendall(head("/v1/recipes/plan", api.key(), *chunked))
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_body_below_the_limit_is_read(api: Api) -> None:
    body = b'{"recipe": {}}' + b" " * (MAX_BODY_BYTES - 14)
    headers = {"Content-Type": "application/json"}
    response = api.acme.post("/recipes/validate", content=body, headers=headers)
    assert response.status_code == 200


@pytest.fixture
def impatient_url() -> Iterator[str]:
    """The same layer around an app that reads its body, with little patience."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await Request(scope, receive).body() if scope["method"] == "POST" else b""
        await PlainTextResponse(f"{len(body)} bytes")(scope, receive, send)

    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await Limits(app, body_timeout_s=0.3)(scope, receive, send)

    with serve(with_lifespan) as url:
        yield url


def test_a_client_that_sends_its_body_too_slowly_is_cut_off(impatient_url: str) -> None:
    with connected(impatient_url) as connection:
        connection.sendall(head("/", "", "Content-Length: 100") + b"x")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"urn:datagen:problem:too-slow" in received


def test_dripping_does_not_help(impatient_url: str) -> None:
    """The time is for the whole body, not for each piece."""
    with connected(impatient_url) as connection:
        connection.sendall(head("/", "", "Content-Length: 100000"))
        connection.settimeout(0.05)
        received, dripped = b"", 0
        while not received and dripped < 400:
            try:
                connection.sendall(b"x")
                received = connection.recv(65536)
            except TimeoutError:
                dripped += 1
    assert received.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_is_quick_enough_is_answered(impatient_url: str) -> None:
    with connected(impatient_url) as connection:
        connection.sendall(head("/", "", "Content-Length: 5", "Connection: close") + b"12345")
        assert answer(connection).endswith(b"5 bytes")


def test_every_answer_carries_the_security_headers(api: Api) -> None:
    with api.client() as client:
        answers = [client.get("/healthz"), client.get("/jobs"), api.acme.get("/jobs")]
    for response in answers:
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["x-request-id"]


def test_a_request_id_is_kept_if_it_is_plain(api: Api) -> None:
    given = {"X-Request-ID": "abc-1"}
    assert api.acme.get("/jobs", headers=given).headers["x-request-id"] == "abc-1"
    odd = {"X-Request-ID": "a b<script>"}
    assert api.acme.get("/jobs", headers=odd).headers["x-request-id"] != "a b<script>"


@pytest.mark.parametrize("path", ["/v1/recipes/validate", "/v1/recipes/plan", "/v1/models"])
def test_a_client_that_goes_amid_its_body_is_no_fault(
    api: Api, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    is_form = path == "/v1/models"
    begun = b"--b\r\nContent" if is_form else b'{"recipe'
    incoming: list[Message] = [
        {"type": "http.request", "body": begun, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    kind = b"multipart/form-data; boundary=b" if is_form else b"application/json"
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {api.key()}".encode()),
            (b"content-type", kind),
        ],
    }
    asyncio.run(api.app(scope, receive, send))
    assert incoming == []
    assert sent == []
    assert caplog.records == []
