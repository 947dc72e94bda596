"""The models of a home: folders models/NAME for the first version, models/NAME@2 for the second.
Numbered, copied in and out, removed. Called by the commands `train` and `models`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.lineage import dependents
from datagen.errors import InputError, ModelError, StoreError
from datagen.generators.model_directory import (
    CARD_FILE,
    Model,
    change_facts,
    describe_model,
    find_model_folder,
    load_model,
)
from datagen.generators.model_versions import (
    exact_name,
    parse_model_name,
    pinned_name,
    versions_among,
)
from datagen.registry import check_removable, digest_at


def version_names(models_dir: Path, name: str) -> list[str]:
    """Exact names of the versions of NAME in the folder, the oldest first."""
    present = [path.name for path in models_dir.iterdir()] if models_dir.is_dir() else []
    return [exact_name(name, number) for number in versions_among(name, present)]


def next_folder(models_dir: Path, name: str) -> Path:
    """Where the next version of NAME is to be written."""
    present = version_names(models_dir, name)
    newest = parse_model_name(present[-1])[1] or 1 if present else 0
    return models_dir / exact_name(name, newest + 1)


def keep_if_new(model: Model, models_dir: Path) -> tuple[Model, bool]:
    """A model that was just written as a next version, and whether it is one: it is removed again
    if an older version is the very same, which then has its sources, under the terms of today."""
    name = parse_model_name(model.name)[0]
    for each in version_names(models_dir, name):
        if each != model.name and digest_at(models_dir / each) == model.digest:
            kept = _with_sources(load_model(models_dir / each), of=model)
            shutil.rmtree(model.path)
            return kept, False
    return model, True


def _with_sources(kept: Model, *, of: Model) -> Model:
    """The weights are the same: what is said of their training is then the newer one's, in the
    card too. Raises StoreError or ModelError."""
    before, now = kept.facts.training, of.facts.training
    if before is None or now is None or before.sources == now.sources:
        return kept
    partial = kept.path.parent / f".{kept.path.name}.{CARD_FILE}"
    try:  # the card first: whoever dies in between does it again next time
        shutil.copyfile(of.path / CARD_FILE, partial)
        os.replace(partial, kept.path / CARD_FILE)
    except OSError as error:
        raise StoreError(
            f"model {kept.path}: {CARD_FILE} cannot be written ({error.strerror})"
        ) from None
    facts = of.facts
    change_facts(kept, training=now, licence=facts.licence, source=facts.source)
    return load_model(kept.path)


def import_model(source: Path, models_dir: Path) -> tuple[Model, bool]:
    """A checked model directory, copied in whole or not at all as the next version of its name;
    and whether it was new.

    Raises InputError if no recipe could name it, ModelError if it is unsound, StoreError.
    """
    name = _importable_name(source)
    model = load_model(source)
    for each in version_names(models_dir, name):
        if digest_at(models_dir / each) == model.digest:
            return load_model(models_dir / each), False
    target = next_folder(models_dir, name)
    copy_model(model, target)
    return load_model(target), True


def copy_model(model: Model, target: Path) -> None:
    """Raises StoreError if it cannot be written. The target must not exist."""
    files = [path.name for path in model.path.iterdir()]
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for file in files:
            shutil.copyfile(model.path / file, partial / file, follow_symlinks=False)
        load_model(partial)
        partial.chmod(0o755)
        partial.rename(target)
    except OSError as error:
        raise StoreError(f"model {target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def deprecate(models_dir: Path, name: str, *, reason: str) -> Model:
    """Recipes that name no version pass over it; who names it may use it on. Raises ModelError."""
    if not reason.strip() or len(reason) > 1000:
        raise InputError("--reason: expected 1 to 1000 characters, for every later reader")
    return change_facts(describe_model(own_folder(models_dir, name)), deprecated=reason)


def remove_model(catalog: Catalog | None, models_dir: Path, name: str) -> Model:
    """catalog: None if nothing was ever made in the home. Returns what was removed.

    Raises ConflictError while a version or a job depends on it, unless it is deprecated: without
    it, their images cannot be made again.
    """
    model = describe_model(own_folder(models_dir, name))
    if catalog is not None:
        made = dependents(catalog, model.digest)
        check_removable(model.name, made, is_deprecated=model.facts.deprecated is not None)
    trash = models_dir / f".removed.{model.name}"
    try:
        shutil.rmtree(trash, ignore_errors=True)
        os.rename(model.path, trash)
        shutil.rmtree(trash)
    except OSError as error:
        raise StoreError(
            f"model {model.path}: cannot be removed ({error.strerror}); see that its folder can be "
            "written"
        ) from None
    return model


def own_folder(models_dir: Path, name: str) -> Path:
    """Of a model of the home. Raises ModelError; InputError for NAME alone if it has versions."""
    present = version_names(models_dir, name)
    if len(present) > 1:
        raise InputError(
            f"model {name} has versions; name one: {', '.join(pinned_name(e) for e in present)}"
        )
    path = find_model_folder(name, [models_dir])
    if path.parent != models_dir:
        raise ModelError(f"model {name!r} came with datagen, and stays as it is")
    return path


def _importable_name(source: Path) -> str:
    try:
        return parse_model_name(source.resolve().name)[0]
    except InputError:
        raise InputError(
            f"model {source}: a recipe cannot name {source.resolve().name!r}: rename the folder to "
            "1 to 63 lower-case letters, digits and '-'"
        ) from None
