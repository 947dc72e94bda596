"""Server-Sent Events out of bytes, however they are cut. Called by both senders.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream"; lines end with LF or CRLF, as ours do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from datagen.client.problems import ServiceUnavailableError
from datagen.client.results import TERMINAL_EVENTS, Event

MAX_EVENT_BYTES = 1 << 24


class EventReader:
    """One connection's events. An event that the end of the stream cuts off is never given out."""

    def __init__(self) -> None:
        self._buffer = b""
        self._id: str | None = None
        self._type = "message"
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise ServiceUnavailableError("the event stream has a line without an end")
        for line in lines:
            event = self._take(line.removesuffix(b"\r").decode(errors="replace"))
            if event is not None:
                yield event

    def _take(self, line: str) -> Event | None:
        if not line:
            return self._finish()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        return None

    def _finish(self) -> Event | None:
        text, kind, event_id = "\n".join(self._data), self._type, self._id
        self._data, self._type, self._id = [], "message", None
        if not text:
            return None
        try:
            body = json.loads(text)
        except ValueError:
            raise ServiceUnavailableError(f"event {event_id}: its data is no JSON") from None
        return Event(id=event_id, type=kind, body=body if isinstance(body, dict) else {})


class Position:
    """How far a reader of a job's events has come, over all its connections.

    num_new: events of this connection that a later one will not repeat.
    """

    def __init__(self, last_id: str | None) -> None:
        self.last_id = last_id
        self.has_ended = False
        self.num_new = 0

    def note(self, event: Event) -> None:
        if event.id is not None:
            self.num_new += 1
            self.last_id = event.id
            self.has_ended = event.type in TERMINAL_EVENTS

    def headers(self) -> dict[str, str]:
        """Of the next connection."""
        self.num_new = 0
        resume = {} if self.last_id is None else {"Last-Event-ID": self.last_id}
        return {"Accept": "text/event-stream", **resume}
