"""Previews: the first eight images of each class, in seconds, at interactive priority.

Their attempts are those that a job of the same recipe and seed begins with: it finds them made.
A preview is thrown away after an hour, or when it is deleted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from fastapi import APIRouter, Response
from pydantic import BaseModel

from datagen.api.dependencies import Context, Reader, Submitter, audit
from datagen.api.job_view import JobView, State, full_view, told_error
from datagen.api.jobs import JobId
from datagen.api.problems import field_problem, problem_responses
from datagen.api.recipe_body import RecipeBody, read_recipe, resolve_in
from datagen.catalog.jobs import get_job_by_uid
from datagen.catalog.retention import cancel_preview
from datagen.catalog.rows import PUBLISHED, Job
from datagen.catalog.samples import first_samples, list_shards
from datagen.errors import NotFoundError
from datagen.recipe import Recipe
from datagen.submission import INTERACTIVE, PREVIEW, PREVIEW_IMAGES, Request, submit
from datagen.sweeper import wake_job

KEPT_S = 3600.0
# Of a recipe with more classes, the first: an answer holds every picture.
MAX_CLASSES = 100
MAX_CLASSES_SENT = 1000


class PreviewImage(BaseModel):
    class_name: str
    ordinal: int
    png_base64: str


class PreviewView(BaseModel):
    """images: once the state is PUBLISHED."""

    state: State
    error: str | None
    images: list[PreviewImage]


def router() -> APIRouter:
    routes = APIRouter(prefix="/previews", tags=["previews"])

    @routes.post("", status_code=201, responses=problem_responses(409, 429))
    def make_preview(context: Submitter, body: RecipeBody) -> JobView:
        """Asked for again while it is kept, it is the same one."""
        recipe = read_recipe(body.recipe)
        if len(recipe.classes) > MAX_CLASSES_SENT:
            expected = f"at most {MAX_CLASSES_SENT} classes in a preview"
            raise field_problem("recipe.classes", recipe.classes, expected)
        resolved = resolve_in(context, _first_of(recipe))
        request = Request(
            priority=INTERACTIVE,
            kind=PREVIEW,
            created_by=context.principal.actor,
            expires_in_s=KEPT_S,
        )
        job = submit(context.catalog, resolved, context.settings, request)
        wake_job(context.catalog, job.id, context.wake)
        return full_view(context, job)

    @routes.get("/{job_id}")
    def read_preview(context: Reader, job_id: JobId) -> PreviewView:
        job = _preview_of(context, job_id)
        images = list(_images(context, job)) if job.state == PUBLISHED else []
        return PreviewView(state=job.state, error=told_error(job), images=images)  # type: ignore[arg-type]

    @routes.delete("/{job_id}", status_code=204, responses=problem_responses(409))
    def delete_preview(context: Submitter, job_id: JobId) -> Response:
        job = _preview_of(context, job_id)
        cancel_preview(context.catalog, job.id)
        audit(context, "preview.delete", job_id, {"name": job.name})
        return Response(status_code=204)

    return routes


def _preview_of(context: Context, uid: str) -> Job:
    job = get_job_by_uid(context.catalog, uid)
    if job is None or job.kind != PREVIEW:
        raise NotFoundError(f"preview {uid} does not exist")
    return job


def _first_of(recipe: Recipe) -> Recipe:
    """The same recipe, cut to its first images: with one seed, their keys are the whole's."""
    classes = [
        request.model_copy(update={"count": min(PREVIEW_IMAGES, request.count)})
        for request in recipe.classes[:MAX_CLASSES]
    ]
    return recipe.model_copy(update={"classes": tuple(classes)})


def _images(context: Context, job: Job) -> Iterator[PreviewImage]:
    shards = list_shards(context.catalog, job.id)
    for request in json.loads(job.recipe_body)["classes"]:
        name = request["name"]
        for row in first_samples(context.catalog, job.id, name, limit=PREVIEW_IMAGES):
            png = context.store.get_range(shards[row.shard].key, row.offset, row.size)
            yield PreviewImage(
                class_name=name,
                ordinal=row.ordinal,
                png_base64=base64.b64encode(png).decode(),
            )
