"""Recipes before they are submitted: what is wrong with one, and what it would take."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from datagen.api.dependencies import Context, Reader
from datagen.api.recipe_body import Body, RecipeBody, models_for, read_recipe, resolve_in
from datagen.catalog.workers import live_workers
from datagen.deployment_rules import DeploymentRules
from datagen.errors import RecipeError
from datagen.faults import InvalidRecipe, show
from datagen.fingerprint import generation_queue
from datagen.forecast import forecast
from datagen.recipe import parse_recipe
from datagen.resolve import ResolvedRecipe, check_real_data_of, model_requests, resolve

YAML = "application/yaml"


class RecipeFault(BaseModel):
    """field: like classes[1].count. line: of YAML text, from 1."""

    field: str
    value: str
    expected: str
    message: str
    line: int | None


class Validation(BaseModel):
    """resolved: the recipe with every default filled in and its model pinned; digest: of it."""

    valid: bool
    errors: list[RecipeFault]
    resolved: dict[str, Any] | None
    digest: str | None


class PlanCost(BaseModel):
    """device: null if nobody measured the model."""

    device: float | None
    storage_per_month: float
    currency: str


class PlanView(BaseModel):
    """counts: class name -> split -> images. seconds: null if nobody measured the model."""

    counts: dict[str, dict[str, int]]
    num_images: int
    units: int
    shards: int
    dataset_bytes: int
    cache_bytes: int
    seconds: float | None
    cost: PlanCost


async def read_body(request: Request) -> bytes:
    return await request.body()


_MAX_SHOWN = 120  # characters of a value


class AnyRecipeBody(Body):
    """recipe: whatever it holds, the answer says what is wrong with it."""

    recipe: dict[str, Any]


BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": AnyRecipeBody.model_json_schema()},
            YAML: {"schema": {"description": "The text of a recipe"}},
        },
    }
}


def router() -> APIRouter:
    routes = APIRouter(prefix="/recipes", tags=["recipes"])

    @routes.post("/validate", openapi_extra=BODIES)
    def validate_recipe(
        context: Reader,
        body: Annotated[bytes, Depends(read_body)],
        content_type: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Validation:
        """All faults at once. A body of type application/yaml is the recipe's text itself; then
        each fault has its line."""
        try:
            if content_type.partition(";")[0].strip().lower() == YAML:
                resolved = _resolve_text(context, body)
            else:
                resolved = resolve_in(context, read_recipe(json_recipe(body)))
        except InvalidRecipe as error:
            return Validation(valid=False, errors=_faults(error), resolved=None, digest=None)
        except RecipeError as error:
            fault = RecipeFault(
                field="", value="", expected="a recipe", message=str(error), line=None
            )
            return Validation(valid=False, errors=[fault], resolved=None, digest=None)
        return Validation(
            valid=True, errors=[], resolved=json.loads(resolved.body), digest=resolved.digest
        )

    @routes.post("/plan")
    def plan_recipe(context: Reader, body: RecipeBody) -> PlanView:
        """Counts, units and shards; how long it takes and what it costs, from earlier runs."""
        return _plan(context, resolve_in(context, read_recipe(body.recipe)))

    return routes


def _resolve_text(context: Context, text: bytes) -> ResolvedRecipe:
    document = parse_recipe(text, source="recipe")
    check_real_data_of(document, context.settings)
    folders = models_for(context, model_requests(document.recipe))
    return resolve(document, folders, DeploymentRules.of(context.settings, serves=True))


def json_recipe(body: bytes) -> dict[str, Any]:
    try:
        return AnyRecipeBody.model_validate_json(body).recipe
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
        ) from None


def _faults(error: InvalidRecipe) -> list[RecipeFault]:
    return [
        RecipeFault(
            field=problem.field,
            value=(problem.text or show(problem.value))[:_MAX_SHOWN],
            expected=problem.expected,
            message=problem.describe(None),
            line=problem.line,
        )
        for problem in error.problems
    ]


def _plan(context: Context, resolved: ResolvedRecipe) -> PlanView:
    queue = generation_queue(resolved.spec, context.settings)
    serving = [worker for worker in live_workers(context.catalog) if queue in worker.queues]
    found = forecast(
        resolved, context.settings, workers=max(1, len(serving)), catalog=context.catalog
    )
    return PlanView(
        counts=found.counts,
        num_images=found.num_images,
        units=found.units,
        shards=found.shards,
        dataset_bytes=found.dataset_bytes,
        cache_bytes=found.cache_bytes,
        seconds=found.seconds,
        cost=PlanCost(
            device=found.cost.device,
            storage_per_month=found.cost.storage_per_month,
            currency=found.cost.currency,
        ),
    )
