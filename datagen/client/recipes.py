"""A recipe as callers give it, to what is sent. Called by the senders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from datagen.errors import InputError, RecipeError
from datagen.faults import InvalidRecipe
from datagen.recipe import RecipeDocument, canonical_json, load_bytes, parse_recipe
from datagen.training.model_recipe import ModelRecipe, parse_model_recipe

# A path, the YAML text itself (it has a line break), or the recipe as plain values.
RecipeSource: TypeAlias = Path | str | Mapping[str, Any]


def read_recipe(recipe: RecipeSource) -> RecipeDocument:
    """Checks it against the schema here, where the lines are known. Raises RecipeError."""
    text, source = recipe_text(recipe)
    return parse_recipe(text, source=source, folder=_folder_of(recipe))


def text_to_check(recipe: RecipeSource) -> bytes:
    """As it is given, so that the service finds its faults; but with the prompts of the files that
    it names, which the service does not read, where it can be read as a recipe here."""
    text, source = recipe_text(recipe)
    folder = _folder_of(recipe)
    if folder is None or b"file" not in text:
        return text
    try:
        document = parse_recipe(text, source=source, folder=folder)
    except RecipeError:
        return text
    has_files = document.recipe.conditioning.prompt is not None
    return canonical_json(document.recipe.to_json()) if has_files else text


def _folder_of(recipe: RecipeSource) -> Path | None:
    """Of the prompt files that the recipe may name: only a recipe that is a file has any."""
    if isinstance(recipe, Mapping) or (isinstance(recipe, str) and "\n" in recipe):
        return None
    return Path(recipe).parent


def recipe_text(recipe: RecipeSource) -> tuple[bytes, str]:
    """The bytes, YAML or JSON, and what to call them in messages."""
    if isinstance(recipe, Mapping):
        try:
            return canonical_json(dict(recipe)), "recipe"
        except (TypeError, ValueError) as error:
            raise InputError(
                f"recipe: expected plain values as JSON holds them ({error})"
            ) from None
    if isinstance(recipe, str) and "\n" in recipe:
        return recipe.encode(), "recipe"
    path = Path(recipe)
    return load_bytes(path), str(path)


@contextmanager
def located(document: RecipeDocument) -> Iterator[None]:
    """The service's faults of a recipe get the file and the lines that only the caller knows."""
    try:
        yield
    except RecipeError as error:
        raise document.locate(error) from None


@contextmanager
def model_recipe(recipe: RecipeSource) -> Iterator[tuple[bytes, ModelRecipe]]:
    """The text of a model recipe, which is checked here, and what it says; the service's faults of
    it get the name of the file. Raises RecipeError."""
    text, source = recipe_text(recipe)
    checked = parse_model_recipe(text, source=source)
    try:
        yield text, checked
    except InvalidRecipe as error:
        raise InvalidRecipe(error.problems, source=source) from None
