"""The recipe in a request: checked by the schema, then resolved, with every fault by its field.

Called by the routers that take a recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from datagen.api.dependencies import Context
from datagen.deployment_rules import DeploymentRules
from datagen.faults import MAX_PROBLEMS, InvalidRecipe
from datagen.recipe import Recipe
from datagen.registry import models_dirs, models_dirs_of_stored
from datagen.resolve import (
    ResolvedRecipe,
    check_real_data,
    model_requests,
    resolve_recipe,
    resolve_stored,
)
from datagen.schema_faults import details_of, problems_of


class _AsRecipe:
    """In the OpenAPI document: the recipe's own schema."""

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(Recipe.__pydantic_core_schema__)


# Any object to the framework: read_recipe tells more faults, and better, than it does.
RecipeObject = Annotated[dict[str, Any], _AsRecipe()]


class Body(BaseModel):
    """Of every request: an unknown field is refused, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecipeBody(Body):
    recipe: RecipeObject


def read_recipe(values: dict[str, Any]) -> Recipe:
    """Raises InvalidRecipe."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        details = details_of(error)
        found = problems_of(details, Recipe, values, lines={}, texts={})
        raise InvalidRecipe(
            [replace(problem, line=None) for problem in found[:MAX_PROBLEMS]],
            num_problems=len(details),
        ) from None


def resolve_in(context: Context, recipe: Recipe) -> ResolvedRecipe:
    """With the tenant's models and the service's."""
    check_real_data(recipe, context.settings)
    folders = models_for(context, model_requests(recipe))
    return resolve_recipe(recipe, folders, DeploymentRules.of(context.settings, serves=True))


def resolve_again(context: Context, body: str) -> ResolvedRecipe:
    """body: a recipe that a job pinned. Raises JobError if its model is another one by now."""
    folders = models_dirs_of_stored(context.catalog, context.store, context.settings, body)
    return resolve_stored(body, folders, DeploymentRules.of(context.settings))


def models_for(context: Context, names: Sequence[str]) -> Sequence[Path]:
    return models_dirs(context.catalog, context.store, context.settings, names)
