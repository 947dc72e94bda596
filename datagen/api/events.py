"""Events as a stream (text/event-stream): what happened to a job, in order, and how far it is.

Events of the catalog have an id, with which a client that lost its connection goes on; `progress`
has none, since it is a view of now. The stream ends when the job has ended. The router is of jobs;
trainings.py streams its own events through EventStream.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from datagen.api.dependencies import Context, Reader
from datagen.api.job_view import progress_of, without_paths
from datagen.api.jobs import JobId, job_of
from datagen.api.problems import problem_response, problem_responses
from datagen.catalog.events import list_events
from datagen.catalog.jobs import get_job
from datagen.catalog.progress import measure_job
from datagen.catalog.rows import ACTIVE_STATES, PUBLISHED, EventRow

POLL_S = 0.5
HEARTBEAT_S = 15.0
# Then the client asks again: a key that was revoked meanwhile is noticed.
MAX_STREAM_S = 3600.0
MAX_STREAMS = 20  # of a tenant, open at once in one process of the API
BATCH = 200

EventId = Annotated[int, Query(ge=0, lt=2**63, description="Only events after this one")]
LastEventId = Annotated[
    int, Header(alias="Last-Event-ID", ge=0, lt=2**63, description="0 is as if it were not sent")
]


# Of one event, as readers of event streams understand the schema.
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string"},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
# Of a route that streams them.
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": _EVENT}}},
    **problem_responses(429),
}


class Look(NamedTuple):
    """What is new of a thing: events after one, at most BATCH; progress: JSON, as it is now.
    has_ended: before the events were read, so that its end is among them."""

    events: list[EventRow]
    progress: str
    has_ended: bool


class EventStream(StreamingResponse):
    """The events, or 429 if the tenant has too many streams open. num_open: by tenant. look: is
    given the id of the last event that was sent."""

    def __init__(
        self, context: Context, num_open: Counter[str], look: Callable[[int], Look], after: int
    ) -> None:
        super().__init__(_stream(look, after), media_type="text/event-stream")
        self._context = context
        self._num_open = num_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tenant = self._context.tenant
        if self._num_open[tenant] >= MAX_STREAMS:
            detail = f"tenant {tenant} has {MAX_STREAMS} event streams open; close one first"
            refusal = problem_response(429, "quota", detail, request_id=self._context.request_id)
            await refusal(scope, receive, send)
            return
        self._num_open[tenant] += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._num_open[tenant] -= 1


def router() -> APIRouter:
    routes = APIRouter(prefix="/jobs", tags=["jobs"])
    num_open = Counter[str]()

    @routes.get("/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
    async def stream_events(
        context: Reader, job_id: JobId, after: EventId = 0, last_event_id: LastEventId = 0
    ) -> StreamingResponse:
        """Server-sent events. Last-Event-ID, as a browser sends it, goes before `after`."""
        job = await run_in_threadpool(job_of, context, job_id)
        look = partial(_look, context, job.id)
        return EventStream(context, num_open, look, last_event_id or after)

    return routes


async def _stream(look: Callable[[int], Look], after_id: int) -> AsyncIterator[str]:
    """Idle streams hold neither a thread nor a connection."""
    started = told = time.monotonic()
    last_progress = ""
    while time.monotonic() - started < MAX_STREAM_S:
        events, progress, has_ended = await run_in_threadpool(look, after_id)
        for event in events:
            after_id = event.id
            body = without_paths(event.body)
            yield f"id: {event.id}\nevent: {event.type}\ndata: {body}\n\n"
        if progress != last_progress:
            yield f"event: progress\ndata: {progress}\n\n"
        if has_ended and len(events) < BATCH:
            return
        if events or progress != last_progress:
            told = time.monotonic()
        elif time.monotonic() - told >= HEARTBEAT_S:
            yield ": still here\n\n"
            told = time.monotonic()
        last_progress = progress
        if len(events) < BATCH:
            await asyncio.sleep(POLL_S)


def _look(context: Context, job_id: int, after_id: int) -> Look:
    job = get_job(context.catalog, job_id)
    assert job is not None
    events = list_events(context.catalog, job_id, after_id=after_id, limit=BATCH)
    measure = measure_job(context.catalog, job_id, finished=job.state == PUBLISHED)
    progress = json.dumps(progress_of(job, measure).model_dump())
    return Look(events, progress, has_ended=job.state not in ACTIVE_STATES)
