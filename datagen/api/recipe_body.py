"""The recipe in a request: checked by the schema, then resolved, with every fault by its field.

Called by the routers that take a recipe.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.api.dependencies import Context
from datagen.faults import MAX_PROBLEMS, InvalidRecipe
from datagen.recipe import Recipe
from datagen.registry import models_dirs
from datagen.resolve import ResolvedRecipe, resolve_recipe, resolve_stored
from datagen.schema_faults import details_of, problems_of

RecipeObject = Annotated[
    dict[str, Any],
    Field(
        description="A recipe; /v1/recipes/validate and recipes/recipe.schema.json know its form"
    ),
]


class Body(BaseModel):
    """Of every request: a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


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
    return resolve_recipe(recipe, models_for(context, recipe.generator.model))


def resolve_again(context: Context, body: str) -> ResolvedRecipe:
    """body: a recipe that a job pinned. Raises JobError if its model is another one by now."""
    return resolve_stored(body, models_for(context, json.loads(body)["generator"]["model"]))


def models_for(context: Context, model: str) -> Sequence[Path]:
    return models_dirs(context.catalog, context.store, context.settings, [model])
