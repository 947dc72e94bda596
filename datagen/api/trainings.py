"""Trainings: model recipes given to the service, watched, cancelled, tried again.

A worker of the queue `train` makes the model, which is then registered for the tenant.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from datagen.api.dependencies import Context, Reader, Submitter, audit
from datagen.api.events import BATCH, STREAM, EventId, EventStream, LastEventId, Look
from datagen.api.job_view import optional_time, time_text, without_paths
from datagen.api.jobs import IdempotencyKey
from datagen.api.paging import Page, Paging
from datagen.api.problems import (
    FieldError,
    RequestError,
    field_error,
    field_problem,
    problem_responses,
)
from datagen.api.recipes import BODIES, YAML, json_recipe, read_body
from datagen.catalog.idempotency import KeyReusedError
from datagen.catalog.rows import RUNNING
from datagen.catalog.trainings import (
    LIVE_STATES,
    QUEUED,
    TRAIN_QUEUE,
    Training,
    cancel_training,
    get_training,
    list_training_events,
    list_trainings,
    retry_training,
)
from datagen.catalog.workers import live_queues
from datagen.errors import RecipeError
from datagen.faults import InvalidRecipe, Problem
from datagen.recipe import canonical_json
from datagen.training.model_recipe import ModelRecipe, parse_model_recipe
from datagen.trainings import submit_training

TrainingId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits")]
State = Literal["QUEUED", "RUNNING", "PUBLISHED", "FAILED", "CANCELLED"]


class TrainingProgress(BaseModel):
    """images_seen: of num_images, real images that the model was shown. losses: of the last step.
    best_distance: of the weights kept so far to held-out images, null before the first evaluation.
    seconds_left: at the pace of now; null unless it runs."""

    images_seen: int
    num_images: int
    seconds: float
    losses: dict[str, float]
    best_distance: float | None
    best_images_seen: int
    seconds_left: float | None


class TrainingLinks(BaseModel):
    """model: once it is PUBLISHED."""

    self: str
    events: str
    model: str | None


class TrainingView(BaseModel):
    """recipe and waiting_for: null in lists. checkpoint_images_seen: where another worker would go
    on from. tries: since it last got on. error: of the last try. waiting_for: what it needs
    that is not there."""

    id: str
    name: str
    state: State
    recipe: dict[str, Any] | None
    recipe_digest: str
    progress: TrainingProgress | None
    checkpoint_images_seen: int | None
    tries: int
    model_digest: str | None
    error: str | None
    waiting_for: str | None
    created_by: str | None
    created_at: str
    started_at: str | None
    ended_at: str | None
    links: TrainingLinks


_MADE: dict[int | str, dict[str, Any]] = {
    200: {"model": TrainingView, "description": "The key or the recipe has this training already"},
    **problem_responses(409, 410, 429),
}


def router() -> APIRouter:
    routes = APIRouter(prefix="/trainings", tags=["trainings"])
    _add_making(routes)
    _add_reading(routes)
    _add_events(routes)
    _add_changing(routes)
    return routes


def _add_making(routes: APIRouter) -> None:
    @routes.post("", status_code=201, responses=_MADE, openapi_extra=BODIES)
    def submit(
        context: Submitter,
        body: Annotated[bytes, Depends(read_body)],
        key: IdempotencyKey,
        response: Response,
        content_type: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> TrainingView:
        """A model recipe. A body of type application/yaml is the recipe's text itself; then each
        fault has its line. A recipe that is queued or being trained gets that training."""
        training, is_new = _submit(context, body, content_type, key)
        if is_new:
            audit(
                context,
                "training.submit",
                training.uid,
                {"name": training.name, "recipe_digest": training.recipe_digest},
            )
        context.wake(TRAIN_QUEUE, training.id, 1)
        response.status_code = 201 if is_new else 200
        response.headers["Location"] = f"/v1/trainings/{training.uid}"
        return _full_view(context, training)


def _add_reading(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_trainings(
        context: Reader,
        page: Paging,
        state: Annotated[list[State] | None, Query(max_length=5)] = None,
        name: Annotated[str | None, Query(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = None,
    ) -> Page[TrainingView]:
        """Newest first, without recipes."""
        after = page.after(context.tenant, "trainings", (int,))
        found = list_trainings(
            context.catalog,
            limit=page.limit + 1,
            before_id=int(after[0]) if after else None,
            states=state or (),
            name=name,
        )
        last = found[page.limit - 1].id if len(found) > page.limit else None
        items = [_summary(training) for training in found]
        return page.page(items, context.tenant, "trainings", None if last is None else [last])

    @routes.get("/{training_id}")
    def read_training(context: Reader, training_id: TrainingId) -> TrainingView:
        return _full_view(context, get_training(context.catalog, training_id))


def _add_events(routes: APIRouter) -> None:
    num_open = Counter[str]()

    @routes.get("/{training_id}/events", response_class=StreamingResponse, responses=STREAM)
    async def stream_training_events(
        context: Reader, training_id: TrainingId, after: EventId = 0, last_event_id: LastEventId = 0
    ) -> StreamingResponse:
        """Server-sent events, as those of a job."""
        await run_in_threadpool(get_training, context.catalog, training_id)
        look = partial(_look, context, training_id)
        return EventStream(context, num_open, look, last_event_id or after)


def _add_changing(routes: APIRouter) -> None:
    @routes.post("/{training_id}/cancel", responses=problem_responses(409))
    def cancel(context: Submitter, training_id: TrainingId) -> TrainingView:
        """Its worker stops within a few steps; its checkpoints are deleted later. Refused once the
        model may be registered."""
        training = cancel_training(context.catalog, training_id)
        audit(context, "training.cancel", training_id, {"name": training.name})
        return _full_view(context, training)

    @routes.post("/{training_id}/retry", responses=problem_responses(409, 429))
    def retry(context: Submitter, training_id: TrainingId) -> TrainingView:
        """Of a failed training: it goes on from its last checkpoint."""
        training = retry_training(context.catalog, training_id)
        audit(context, "training.retry", training_id, {"name": training.name})
        context.wake(TRAIN_QUEUE, training.id, 1)
        return _full_view(context, training)


def _submit(context: Context, body: bytes, content_type: str, key: str) -> tuple[Training, bool]:
    is_text = content_type.partition(";")[0].strip().lower() == YAML
    try:
        return submit_training(
            context.catalog,
            _read_recipe(body, is_text=is_text),
            context.settings,
            idempotency_key=key,
            created_by=context.principal.actor,
        )
    except KeyReusedError:
        expected = "another key: this one belongs to a request with another body"
        raise field_problem("header.Idempotency-Key", key, expected) from None
    except InvalidRecipe as error:
        raise _refusal(error, has_lines=is_text) from None
    except RecipeError as error:
        fault = field_error("recipe", None, f"a model recipe ({error})")
        raise RequestError(422, "invalid", str(error), [fault]) from None


def _read_recipe(body: bytes, *, is_text: bool) -> ModelRecipe:
    try:
        text = body if is_text else canonical_json(json_recipe(body))
    except ValueError as error:  # NaN, or half of a surrogate pair
        raise field_problem("recipe", None, f"plain values of JSON ({error})") from None
    return parse_model_recipe(text, source="recipe")


def _refusal(error: InvalidRecipe, *, has_lines: bool) -> RequestError:
    """Each fault with its field and, of text, its line."""
    errors = [_field_error(problem, has_lines=has_lines) for problem in error.problems]
    detail = f"{error.num_problems} fault(s) in the recipe; errors lists them"
    return RequestError(422, "invalid", detail, errors)


def _field_error(problem: Problem, *, has_lines: bool) -> FieldError:
    separator = "" if not problem.field or problem.field.startswith("[") else "."
    told = field_error(f"recipe{separator}{problem.field}", problem.value, problem.expected)
    if not has_lines or problem.line is None:
        return told
    return told.model_copy(update={"message": problem.describe("recipe")})


def _look(context: Context, uid: str, after_id: int) -> Look:
    training = get_training(context.catalog, uid)
    events = list_training_events(context.catalog, training.id, after_id=after_id, limit=BATCH)
    progress = _progress(training)
    text = json.dumps({} if progress is None else progress.model_dump())
    return Look(events, text, has_ended=training.state not in LIVE_STATES)


def _full_view(context: Context, training: Training) -> TrainingView:
    more = {"recipe": json.loads(training.recipe), "waiting_for": _waiting_for(context, training)}
    return _summary(training).model_copy(update=more)


def _summary(training: Training) -> TrainingView:
    """What the row tells."""
    is_published = training.state == "PUBLISHED"
    return TrainingView(
        id=training.uid,
        name=training.name,
        state=training.state,  # type: ignore[arg-type]  # pydantic checks it
        recipe=None,
        recipe_digest=training.recipe_digest,
        progress=_progress(training),
        checkpoint_images_seen=training.checkpoint_images_seen,
        tries=training.tries,
        model_digest=training.model_digest if is_published else None,
        error=None if training.error is None else without_paths(training.error),
        waiting_for=None,
        created_by=training.created_by,
        created_at=time_text(training.created_at),
        started_at=optional_time(training.started_at),
        ended_at=optional_time(training.ended_at),
        links=TrainingLinks(
            self=f"/v1/trainings/{training.uid}",
            events=f"/v1/trainings/{training.uid}/events",
            model=f"/v1/models/{training.name}" if is_published else None,
        ),
    )


def _progress(training: Training) -> TrainingProgress | None:
    if training.progress is None:
        return None
    told = json.loads(training.progress)
    missing = max(0, training.num_images - told["images_seen"])
    pace = told["images_seen"] / told["seconds"] if told["seconds"] > 0 else 0.0
    is_going = training.state == RUNNING and pace > 0
    return TrainingProgress(
        **told,
        num_images=training.num_images,
        seconds_left=missing / pace if is_going else None,
    )


def _waiting_for(context: Context, training: Training) -> str | None:
    if training.state != QUEUED or TRAIN_QUEUE in live_queues(context.catalog):
        return None
    return f"a worker of queue {TRAIN_QUEUE}: none is alive (python -m workers train)"
