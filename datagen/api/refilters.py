"""A new version out of the attempts that are there: by other filters, or a reviewer's marks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from datagen.api.datasets import Name, Number, open_row
from datagen.api.dependencies import Submitter
from datagen.api.job_view import JobView
from datagen.api.jobs import MADE, IdempotencyKey, make_job
from datagen.api.problems import field_problem, problem_responses
from datagen.api.recipe_body import Body, models_for
from datagen.deployment_rules import DeploymentRules
from datagen.recipe import canonical_json
from datagen.refilter import Changes, keep_marks, plan_refilter
from datagen.resolve import ResolvedRecipe
from datagen.submission import BATCH

_OPTION = r"^[a-z0-9][a-z0-9_-]{0,62}(\.[a-z][a-z0-9_]{0,62})?$"


class RefilterRequest(Body):
    """set: "filter.option" -> its value; a filter -> off or on. marks: marks.json of a report.
    drop_flagged: near copies of the newest evaluation go."""

    set: Annotated[
        dict[Annotated[str, Field(pattern=_OPTION)], Any],
        Field(
            default_factory=dict, max_length=64, json_schema_extra={"additionalProperties": False}
        ),
    ]
    marks: dict[str, Any] | None = None
    drop_flagged: bool = False


def router() -> APIRouter:
    routes = APIRouter(prefix="/datasets", tags=["datasets"])

    @routes.post(
        "/{name}/versions/{version}/refilter",
        status_code=201,
        responses={**MADE, **problem_responses(409, 410, 429)},
    )
    def refilter(
        context: Submitter,
        name: Name,
        version: Number,
        body: RefilterRequest,
        key: IdempotencyKey,
        response: Response,
    ) -> JobView:
        """The recipe of this version with other filters: what a fresh run of it would make, and the
        model makes only the images that are missing."""
        row = open_row(context, name, version)
        changes = _changes(body)

        def resolved() -> ResolvedRecipe:
            return plan_refilter(
                context.catalog,
                context.store,
                row,
                changes,
                lambda names: models_for(context, names),
                DeploymentRules.of(context.settings, serves=True),
            ).resolved

        request = [name, row.version, body.model_dump()]
        job = make_job(context, key, request, resolved, BATCH, response)
        by = context.principal.actor
        keep_marks(context.catalog, context.store, row, changes, by=by)
        return job

    return routes


def _changes(body: RefilterRequest) -> Changes:
    marks = None if body.marks is None else _json("marks", body.marks)
    _json("set", body.set)
    return Changes(body.set, marks, "marks", body.drop_flagged)


def _json(field: str, value: dict[str, Any]) -> bytes:
    """Raises RequestError for what no JSON text can hold, such as NaN or half a character."""
    try:
        return canonical_json(value)
    except (ValueError, RecursionError):
        raise field_problem(field, value, "plain JSON: finite numbers and whole text") from None
