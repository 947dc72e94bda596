"""A real HTTP server that does as a script says: answers, drops the connection, cuts a stream."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Turn = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class FaultyServer:
    """turns: what happens to the next requests, in order; one too many drops its connection.

    routes: path -> what always happens there, whatever the turns say.
    """

    url: str
    turns: deque[Turn] = field(default_factory=deque)
    routes: dict[str, Turn] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def paths(self) -> list[str]:
        return [request.path for request in self.seen]


def answer(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Turn:
    """content: bytes, or JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def turn(request: BaseHTTPRequestHandler) -> None:
        _head(request, status, {"Content-Length": str(len(body)), **(headers or {})})
        request.wfile.write(body)

    return turn


def problem(status: int, slug: str, detail: str, errors: Sequence[Mapping[str, Any]] = ()) -> Turn:
    content = {
        "type": f"urn:datagen:problem:{slug}",
        "title": slug,
        "status": status,
        "detail": detail,
        "errors": list(errors),
    }
    return answer(content, status=status, headers={"Content-Type": "application/problem+json"})


def drop(request: BaseHTTPRequestHandler) -> None:
    """The connection ends without a byte of an answer."""


def cut(content: bytes, *, missing: int) -> Turn:
    """Promises `missing` bytes more than it sends."""

    def turn(request: BaseHTTPRequestHandler) -> None:
        _head(request, 200, {"Content-Length": str(len(content) + missing)})
        request.wfile.write(content)

    return turn


def stream(*chunks: str) -> Turn:
    """Server-Sent Events; the connection ends after the last chunk, whole or not."""

    def turn(request: BaseHTTPRequestHandler) -> None:
        _head(request, 200, {"Content-Type": "text/event-stream"})
        for chunk in chunks:
            request.wfile.write(chunk.encode())
            request.wfile.flush()

    return turn


def _head(request: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Connection", "close")
    request.end_headers()


@contextmanager
def faulty_server(*turns: Turn) -> Iterator[FaultyServer]:
    class Handler(BaseHTTPRequestHandler):
        def _act(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            server.seen.append(Seen(self.command, self.path, dict(self.headers), body))
            route = server.routes.get(self.path.partition("?")[0])
            turn = route or (server.turns.popleft() if server.turns else drop)
            turn(self)
            self.close_connection = True

        do_GET = do_POST = do_PATCH = do_DELETE = _act

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the tests' stderr."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = FaultyServer(f"http://127.0.0.1:{listener.server_address[1]}", deque(turns))
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
