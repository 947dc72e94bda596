"""A faulty HTTP proxy in front of the real S3 server. Called by the tests of this folder.

Requests go on as they came, Host and all, so that their signatures stay valid. Faults are drawn
from a seeded stream, one draw a request, and counted, so that a test can assert that they fired.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>by the test</Message></Error>"
_DENIED = b"<Error><Code>AccessDenied</Code><Message>by the test</Message></Error>"
_INTERNAL = b"<Error><Code>InternalError</Code><Message>by the test</Message></Error>"


@dataclass(frozen=True)
class Faults:
    """Shares of the requests, from 0 to 1; the rest passes.

    refused: answered 500 or 503 SlowDown in the server's place. dropped: done by the server, its
    reply withheld. corrupt_reads, corrupt_writes: one bit of the body is flipped on its way; of
    requests that have one.
    """

    refused: float = 0.0
    dropped: float = 0.0
    corrupt_reads: float = 0.0
    corrupt_writes: float = 0.0


class FaultyS3(ThreadingHTTPServer):
    """num_fired: fault -> times. faults may be changed while requests run."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, endpoint_url: str, faults: Faults | None = None, *, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(endpoint_url).netloc
        self.faults = faults or Faults()
        self.num_fired: Counter[str] = Counter()
        self.num_requests = 0
        self.forbidden = ""  # the end of paths whose first reply is withheld, and 403 after that
        self._down_until = 0.0
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def go_down(self, seconds: float) -> None:
        """Every connection is closed without a reply until then."""
        self._down_until = time.monotonic() + seconds

    def draw(self, *, has_body: bool) -> str:
        """The fault of one request, or "pass"."""
        with self._lock:
            self.num_requests += 1
            fault = self._draw(has_body=has_body)
            if not fault.startswith("corrupt_reads"):  # counted when there is a body to corrupt
                self.num_fired[fault] += 1
            return fault

    def _draw(self, *, has_body: bool) -> str:
        if time.monotonic() < self._down_until:
            return "down"
        share = self._random.random()
        for name in ("refused", "dropped", "corrupt_reads", "corrupt_writes"):
            share -= getattr(self.faults, name)
            if share < 0:
                if name == "corrupt_writes" and not has_body:
                    return "pass"
                return name
        return "pass"

    def flip(self, body: bytes) -> bytes:
        """The body with one bit of it flipped."""
        changed = bytearray(body)
        with self._lock:
            changed[self._random.randrange(len(body))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were killed close their connections: no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self) -> None:
        proxy = self.server
        assert isinstance(proxy, FaultyS3)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = proxy.draw(has_body=bool(body))
        if proxy.forbidden and self.path.endswith(proxy.forbidden):
            proxy.num_fired["forbidden"] += 1
            fault = "403" if proxy.num_fired["forbidden"] > 1 else "dropped"
        if fault == "403":
            self._send(403, [("Content-Type", "application/xml")], _DENIED)
        elif fault == "down":
            self.close_connection = True
        elif fault == "refused":
            status, reply = (500, _INTERNAL) if proxy.num_requests % 2 else (503, _SLOW_DOWN)
            self._send(status, [("Content-Type", "application/xml")], reply)
        else:
            self._forward(proxy, fault, body)

    def _forward(self, proxy: FaultyS3, fault: str, body: bytes) -> None:
        sent = proxy.flip(body) if fault == "corrupt_writes" else body
        upstream = http.client.HTTPConnection(proxy.target, timeout=60)
        with contextlib.closing(upstream):
            upstream.request(self.command, self.path, sent, dict(self.headers))
            response = upstream.getresponse()
            reply = response.read()
        if fault == "dropped":
            self.close_connection = True
            return
        if fault == "corrupt_reads" and self.command == "GET" and reply and response.status < 300:
            proxy.num_fired[fault] += 1
            reply = proxy.flip(reply)
        kept = ("content-length", "transfer-encoding", "connection")
        headers = [item for item in response.getheaders() if item[0].lower() not in kept]
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self._send(response.status, headers, reply, length=length)

    def _send(
        self,
        status: int,
        headers: list[tuple[str, str]],
        body: bytes,
        *,
        length: str | None = None,
    ) -> None:
        """length: as the server gave it to a HEAD, which has no body to measure."""
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer


@contextlib.contextmanager
def faulty_s3(
    endpoint_url: str, faults: Faults | None = None, *, seed: int = 0
) -> Iterator[FaultyS3]:
    with FaultyS3(endpoint_url, faults, seed=seed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
