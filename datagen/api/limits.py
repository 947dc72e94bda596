"""The outermost layer, plain ASGI: request id, security headers, and how much a client may send.

The body is counted while it is read, whatever Content-Length says, and must have arrived in time:
a client that sends too much or too slowly is answered and cut off. Called by app.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datagen.api.problems import CutOff, problem_response

MAX_BODY_BYTES = 2**20
MAX_MODEL_BYTES = 2**30 + 2**23  # the largest weights, and what comes with them
LINGER_S = 1.0
BODY_TIMEOUT_S, MODEL_TIMEOUT_S = 30.0, 1800.0

_MODELS = ("POST", "/v1/models")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Limits:
    def __init__(self, app: ASGIApp, *, body_timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        exchange = _Exchange(scope, receive, send, timeout_s=self._body_timeout_s)
        if _CONTROL.search(scope["path"]) or b"%00" in scope["query_string"]:
            await exchange.run(_refuse_address)
        elif _length(headers) > exchange.max_bytes:
            await exchange.refuse(*exchange.too_large())
        else:
            await exchange.run(self._app)


async def _refuse_address(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body first: a connection that is closed over unread bytes may lose the answer."""
    while (await receive()).get("more_body", False):
        pass
    response = problem_response(
        400,
        "bad-request",
        "the address has a control character",
        request_id=scope["state"]["request_id"],
    )
    await response(scope, receive, send)


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else 0


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, timeout_s: float) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        is_model = (scope["method"], scope["path"]) == _MODELS
        self.max_bytes = MAX_MODEL_BYTES if is_model else MAX_BODY_BYTES
        self._timeout_s = MODEL_TIMEOUT_S if is_model else timeout_s
        self._deadline = time.monotonic() + self._timeout_s
        self._num_bytes = 0
        self._has_body = True  # more of the request's body may come
        self._answered = False
        self._gone = False  # the client, before its body had arrived
        self._fault: tuple[int, str, str] | None = None

    async def run(self, app: ASGIApp) -> None:
        with contextlib.suppress(CutOff):
            await app(self._scope, self._limited_receive, self._guarded_send)
        if self._fault is not None and not self._answered:
            await self.refuse(*self._fault)

    async def refuse(self, status: int, slug: str, detail: str) -> None:
        """Closes the connection, a moment later: a client that is still sending reads the answer
        only if what it sends until then is taken."""
        response = problem_response(
            status,
            slug,
            detail,
            request_id=self._scope["state"]["request_id"],
            headers={"Connection": "close"},
        )
        self._fault = None
        await response(self._scope, self._receive, self._send_and_linger)

    async def _send_and_linger(self, message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not is_last:
            await self._guarded_send(message)
            return
        await self._guarded_send({**message, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while self._has_body:
                    taken = await self._receive()
                    self._has_body = taken.get("more_body", False)
        await self._guarded_send({"type": "http.response.body", "body": b""})

    def too_large(self) -> tuple[int, str, str]:
        return 413, "too-large", f"the body is too large: expected at most {self.max_bytes} bytes"

    async def _limited_receive(self) -> Message:
        if not self._has_body:
            return await self._receive()  # waits for the client to go away
        try:
            async with asyncio.timeout(self._deadline - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            detail = f"the body did not arrive within {self._timeout_s:g} s"
            raise self._cut_off(408, "too-slow", detail) from None
        if message["type"] == "http.disconnect":
            self._gone = True
            raise CutOff("the client has gone")
        self._has_body = message.get("more_body", False)
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self.max_bytes:
            raise self._cut_off(*self.too_large())
        return message

    def _cut_off(self, status: int, slug: str, detail: str) -> CutOff:
        self._fault = (status, slug, detail)
        return CutOff(detail)

    async def _guarded_send(self, message: Message) -> None:
        """Drops what the app answers once the request was cut off; adds the headers."""
        if self._gone or (self._fault is not None and not self._answered):
            return
        if message["type"] == "http.response.start":
            self._answered = True
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._scope["state"]["request_id"]
            headers.setdefault("Cache-Control", "no-store")
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
