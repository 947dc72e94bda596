"""Jobs: submitted once per idempotency key, listed, watched, cancelled, tried again, grown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import AwareDatetime, BeforeValidator, Field

from datagen.api.dependencies import Context, Reader, Submitter, audit
from datagen.api.job_view import JobView, Priority, State, full_view, summary
from datagen.api.paging import Page, Paging
from datagen.api.priorities import check_priority
from datagen.api.problems import field_problem, problem_responses
from datagen.api.recipe_body import Body, RecipeObject, read_recipe, resolve_again, resolve_in
from datagen.catalog.idempotency import KeyReusedError, drop_key, take_key
from datagen.catalog.jobs import (
    cancel_job,
    find_job,
    get_job,
    get_job_by_uid,
    list_jobs,
    retry_job,
    set_priority,
)
from datagen.catalog.rows import Job
from datagen.errors import NotFoundError
from datagen.recipe import MAX_IMAGES, canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.submission import Request, restart, submit
from datagen.sweeper import wake_job

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits")]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[!-~]{1,255}$",
        description="1 to 255 visible ASCII characters: the same key gives the same job",
    ),
]
_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


def _written_out(value: Any) -> Any:
    """A bare number would be taken for seconds since the epoch."""
    if isinstance(value, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]", value):
        raise ValueError("expected a date and time such as 2026-01-31T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_out), Query()]


class JobRequest(Body):
    recipe: RecipeObject
    priority: Priority = "batch"


class PriorityChange(Body):
    priority: Priority


class TopUp(Body):
    """classes: class name -> how many images it shall have; other classes stay as they are."""

    classes: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")],
            Annotated[int, Field(ge=1, le=10_000_000)],
        ],
        Field(
            min_length=1,
            max_length=10_000,
            json_schema_extra={"additionalProperties": False},
        ),
    ]


MADE: dict[int | str, dict[str, Any]] = {
    200: {"model": JobView, "description": "The key or the recipe has this job already"},
    **problem_responses(409, 429),
}


def router() -> APIRouter:
    routes = APIRouter(prefix="/jobs", tags=["jobs"])
    _add_making(routes)
    _add_reading(routes)
    _add_changing(routes)
    return routes


def _add_making(routes: APIRouter) -> None:
    @routes.post("", status_code=201, responses=MADE)
    def submit_job(
        context: Submitter, body: JobRequest, key: IdempotencyKey, response: Response
    ) -> JobView:
        """A recipe that has a job that was not cancelled gets that one."""
        recipe = read_recipe(body.recipe)
        check_priority(body.priority, recipe.num_images)
        request = [recipe.to_json(), body.priority]

        def resolved() -> ResolvedRecipe:
            return resolve_in(context, recipe)

        return make_job(context, key, request, resolved, body.priority, response)

    @routes.post("/{job_id}/top-up", status_code=201, responses=MADE)
    def top_up_job(
        context: Submitter, job_id: JobId, body: TopUp, key: IdempotencyKey, response: Response
    ) -> JobView:
        """The same recipe with more images: those that exist are used as they are."""
        job = job_of(context, job_id)

        def resolved() -> ResolvedRecipe:
            resolved = resolve_again(context, _grown(job, body.classes))
            check_priority(job.priority, resolved.recipe.num_images)
            return resolved

        request = [job.uid, body.classes]
        return make_job(context, key, request, resolved, job.priority, response)


def _add_reading(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_jobs(
        context: Reader,
        page: Paging,
        state: Annotated[list[State] | None, Query(max_length=5)] = None,
        name: Annotated[str | None, Query(pattern=_NAME)] = None,
        created_after: Moment | None = None,
        created_before: Moment | None = None,
    ) -> Page[JobView]:
        """Newest first, without progress and cost."""
        after = page.after(context.tenant, "jobs", (int,))
        found = list_jobs(
            context.catalog,
            limit=page.limit + 1,
            before_id=int(after[0]) if after else None,
            states=state or (),
            name=name,
            created_after=created_after.timestamp() if created_after else None,
            created_before=created_before.timestamp() if created_before else None,
        )
        last = found[page.limit - 1].id if len(found) > page.limit else None
        items = [summary(job) for job in found]
        return page.page(items, context.tenant, "jobs", None if last is None else [last])

    @routes.get("/{job_id}")
    def read_job(context: Reader, job_id: JobId) -> JobView:
        return full_view(context, job_of(context, job_id))


def _add_changing(routes: APIRouter) -> None:
    @routes.post("/{job_id}/cancel", responses=problem_responses(409))
    def cancel(context: Submitter, job_id: JobId) -> JobView:
        """Refused once the manifest may be there: a job is cancelled or published, never both."""
        return _change(context, job_id, "job.cancel", lambda job: cancel_job(context.catalog, job))

    @routes.post("/{job_id}/retry", responses=problem_responses(409, 429))
    def retry(context: Submitter, job_id: JobId) -> JobView:
        """Of a failed job: its failed units are tried again, what is done stays done."""
        return _change(context, job_id, "job.retry", lambda job: retry_job(context.catalog, job))

    @routes.post("/{job_id}/restart", responses=problem_responses(409, 429))
    def restart_under_fingerprint(context: Submitter, job_id: JobId) -> JobView:
        """From the beginning, under the fingerprint of the workers of now."""
        job = job_of(context, job_id)
        resolved = resolve_again(context, job.recipe_body)

        def again(_: int) -> Job:
            return restart(context.catalog, job, resolved, context.settings)

        return _change(context, job_id, "job.restart", again)

    @routes.patch("/{job_id}")
    def change_priority(context: Submitter, job_id: JobId, body: PriorityChange) -> JobView:
        check_priority(body.priority, job_of(context, job_id).num_images)

        def change(job: int) -> Job:
            return set_priority(context.catalog, job, body.priority)

        return _change(context, job_id, "job.priority", change)


def job_of(context: Context, uid: str) -> Job:
    """Raises NotFoundError, also for another tenant's."""
    job = get_job_by_uid(context.catalog, uid)
    if job is None:
        raise NotFoundError(f"job {uid} does not exist; GET /v1/jobs lists those that do")
    return job


def _change(context: Context, uid: str, action: str, change: Callable[[int], Job]) -> JobView:
    job = change(job_of(context, uid).id)
    audit(context, action, uid, {"name": job.name, "state": job.state})
    wake_job(context.catalog, job.id, context.wake)
    return full_view(context, job)


def make_job(
    context: Context,
    key: str,
    request: list[Any],
    resolved: Callable[[], ResolvedRecipe],
    priority: str,
    response: Response,
) -> JobView:
    """request: what the key stands for. The key is free again if nothing comes of it."""
    body_sha256 = hashlib.sha256(canonical_json(request)).hexdigest()
    try:
        job_id = take_key(context.catalog, key, body_sha256=body_sha256)
    except KeyReusedError:
        expected = "another key: this one belongs to a request with another body"
        raise field_problem("header.Idempotency-Key", key, expected) from None
    if job_id is None:
        try:
            job, is_new = _submit(context, resolved(), key, priority)
        except BaseException:
            drop_key(context.catalog, key)
            raise
    else:
        found = get_job(context.catalog, job_id)
        assert found is not None
        job, is_new = found, False
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/jobs/{job.uid}"
    return full_view(context, job)


def _submit(
    context: Context, resolved: ResolvedRecipe, key: str, priority: str
) -> tuple[Job, bool]:
    known = find_job(context.catalog, resolved.recipe.name, resolved.digest)
    request = Request(priority=priority, created_by=context.principal.actor, idempotency_key=key)
    job = submit(context.catalog, resolved, context.settings, request)
    audit(
        context,
        "job.submit",
        job.uid,
        {"name": job.name, "recipe_digest": job.recipe_digest, "num_images": job.num_images},
    )
    wake_job(context.catalog, job.id, context.wake)
    return job, known is None


def _grown(job: Job, classes: dict[str, int]) -> str:
    """The job's pinned recipe with higher counts. Raises RequestError for one that is lower, and
    for a class that the recipe has not."""
    content = json.loads(job.recipe_body)
    by_name = {c["name"]: c for c in content["classes"]}
    for name, count in classes.items():
        known = by_name.get(name)
        if known is None:
            raise field_problem(f"classes.{name}", count, "a class of the job's recipe")
        if count < known["count"]:
            expected = f"at least {known['count']}, which the recipe has already"
            raise field_problem(f"classes.{name}", count, expected)
        known["count"] = count
    total = sum(c["count"] for c in content["classes"])
    if total > MAX_IMAGES:
        raise field_problem("classes", total, f"at most {MAX_IMAGES} images over all classes")
    return canonical_json(content).decode()
