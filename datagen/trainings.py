"""Model recipes given to a service: what may be submitted, and where the images may lie.

Called by the API (submit_training) and by trainer.py, which looks again where it reads.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datagen.catalog.catalog import Catalog
from datagen.catalog.registry import get_model
from datagen.catalog.tombstones import MODEL, get_tombstone
from datagen.catalog.trainings import NewTraining, Training, create_training
from datagen.errors import ConflictError, InputError, ModelError, NotFoundError, RevokedError
from datagen.faults import field_error
from datagen.generators.model_directory import find_model_folder, model_names
from datagen.generators.model_versions import MODEL_NAME, pinned_name, versions_among
from datagen.recipe import canonical_json
from datagen.registrar import Registrar
from datagen.settings import Settings
from datagen.sources import find_source
from datagen.training.model_recipe import DataSource, ModelRecipe, model_recipe_digest
from datagen.training.remote_images import s3_address

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# A key has at most 1024.
_MAX_ADDRESS_BYTES = 1024


def submit_training(
    catalog: Catalog,
    recipe: ModelRecipe,
    settings: Settings,
    *,
    idempotency_key: str,
    created_by: str | None,
) -> tuple[Training, bool]:
    """The recipe's training, and whether it is new; see create_training. settings: the tenant's.

    Names without a version stand for the newest of now, and are kept with it: whoever resumes the
    training goes on with the same images and the same model to start from.
    Raises InvalidRecipe if there is no such source, or if workers may not read the images or what
    training begins with; ConflictError if the name is the service's own model's; RevokedError if
    the name or the source was revoked.
    """
    _check_name(catalog, recipe.name, settings)
    _check_init(recipe)
    _check_pipeline(recipe)
    asked = recipe
    images = Registrar(catalog, settings, recipe_name=recipe.name, created_by=created_by)
    try:
        recipe = _pinned(catalog, recipe, settings)
        at = located(recipe, images)
    except RevokedError:
        raise
    except (NotFoundError, InputError) as error:
        expected = f"a registered source that may be trained on ({error})"
        raise field_error("data.registered", recipe.data.registered, expected) from None
    check_readable(at.data, settings)
    new = NewTraining(
        name=recipe.name,
        recipe=canonical_json(_content(recipe)).decode(),
        asked=canonical_json(_content(asked)).decode(),
        recipe_digest=model_recipe_digest(at),
        num_images=recipe.schedule.num_images,
        idempotency_key=idempotency_key,
        created_by=created_by,
    )
    return create_training(catalog, new)


def _pinned(catalog: Catalog, recipe: ModelRecipe, settings: Settings) -> ModelRecipe:
    """With the version of the source and of the model to start from; a model that does not exist
    yet, but may when the training begins, stays as it is. Raises as find_source does."""
    if recipe.data.registered is not None:
        label = find_source(catalog, recipe.data.registered).label
        data = recipe.data.model_copy(update={"registered": label})
        recipe = recipe.model_copy(update={"data": data})
    if recipe.init is None or "@" in recipe.init:
        return recipe
    registered = get_model(catalog, recipe.init)
    if registered is not None:
        exact = registered.exact_name
    else:
        try:
            exact = find_model_folder(recipe.init, [settings.models_dir]).name
        except ModelError:
            return recipe
    return recipe.model_copy(update={"init": pinned_name(exact)})


def _content(recipe: ModelRecipe) -> dict[str, Any]:
    """As it was written. A path shows s3://bucket as s3:/bucket."""
    content = recipe.model_dump(mode="json", exclude_unset=True)
    address = None if recipe.data.path is None else s3_address(recipe.data.path)
    if address is not None:
        content["data"]["path"] = address
    return content


def _check_name(catalog: Catalog, name: str, settings: Settings) -> None:
    """Registering would refuse it as well, hours later."""
    if versions_among(name, model_names([settings.models_dir])):
        raise ConflictError(f"model {name!r} is the service's own; choose another name")
    revoked = get_tombstone(catalog, MODEL, name)
    if revoked is not None:
        raise RevokedError(f"model {name!r} was revoked: {revoked.reason}; choose another name")


def _check_init(recipe: ModelRecipe) -> None:
    """A model by its name: a folder would be one of the worker's machine."""
    if recipe.init is not None and not MODEL_NAME.fullmatch(recipe.init):
        expected = "the name of a model, as NAME or NAME@VERSION"
        raise field_error("init", recipe.init, expected)


def _check_pipeline(recipe: ModelRecipe) -> None:
    """A hub id (lora), which the operator put into the cache: a folder would be one of the worker's
    machine, whoever's it is."""
    pipeline = recipe.network.get("pipeline")
    if recipe.generator == "lora" and pipeline and not recipe.network.get("revision"):
        expected = "a hub id with network.revision: no folder is readable here"
        raise field_error("network.pipeline", pipeline, expected)


def located(recipe: ModelRecipe, images: Registrar) -> ModelRecipe:
    """With data.path and the terms, where it names a registered source. Raises as locate does."""
    return recipe.model_copy(update={"data": images.locate(recipe.data)})


def check_readable(data: DataSource, settings: Settings) -> Path:
    """Where the images of a located source are, if a worker may read them: it does so with the
    service's rights.

    Raises InvalidRecipe for what lies in the store, but for the tenant's own part of it, for a
    folder that is not below DATAGEN_TRAINING_DATA_DIR, and for what is no address and no path.
    """
    if data.condition is not None and data.condition.path is not None:
        expected = "left out: its files lie in the tars of the images, or in a folder of data.path"
        raise field_error("data.condition.path", str(data.condition.path), expected)
    field = "data.path" if data.registered is None else "data.registered"
    address = s3_address(data.place)
    if address is not None:
        if not _is_open(address, settings):
            expected = "s3://bucket/prefix of images, in no other part of the store than your own"
            raise field_error(field, address, expected)
        return data.place
    allowed = settings.training_data_dir
    if allowed is None:
        expected = "images at s3://bucket/prefix: no folder is readable here"
        raise field_error(field, str(data.place), expected)
    found = _resolved(allowed / data.place)
    if found is None or not found.is_relative_to(allowed.resolve()):
        expected = f"images at s3://bucket/prefix, or in a folder below {allowed}"
        raise field_error(field, str(data.place), expected)
    return found


def _resolved(path: Path) -> Path | None:
    """None for what can be no path: a NUL, a name that is too long, links in a circle."""
    try:
        found = path.resolve()
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.stat()  # resolve lets long names pass
    except (OSError, RuntimeError, ValueError):
        return None
    return found


def _is_open(address: str, settings: Settings) -> bool:
    """Whether an address of S3 is well formed, and neither below another tenant's part of the
    store nor above it."""
    if not address.isprintable() or len(address.encode()) > _MAX_ADDRESS_BYTES:
        return False
    try:
        asked = urlsplit(address)
    except ValueError:
        return False
    key = asked.path.strip("/")
    parts = key.split("/") if key else []
    if not _BUCKET.fullmatch(asked.netloc) or asked.query or asked.fragment:
        return False
    if any(part.startswith(".") for part in parts):
        return False
    store = urlsplit(settings.store_url)
    if store.scheme != "s3" or asked.netloc != store.netloc:
        return True
    root = [part for part in store.path.split("/") if part]
    if parts[: len(root) + 1] == [*root, settings.tenant]:
        return True
    return parts[: len(root)] != root[: len(parts)]
