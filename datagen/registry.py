"""Models that a tenant registers: checked, stored once, fetched to wherever they are needed.

Called by the API and by workers that trained (register_model), and by whatever resolves a recipe in
a service (models_dirs). NAME@VERSION is one model for ever: never replaced; a name that was revoked
is not used again.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import numpy as np

from datagen.catalog.catalog import Catalog
from datagen.catalog.lineage import Dependents, dependents
from datagen.catalog.registry import (
    RegisteredModel,
    delete_model,
    get_model,
    get_model_of_digest,
    insert_model,
    renew_config,
)
from datagen.catalog.tenants import check_upload
from datagen.catalog.tombstones import check_model, trained_on
from datagen.errors import (
    ConflictError,
    InputError,
    ModelError,
    ObjectExistsError,
    RevokedError,
    StoreError,
    StoreFullError,
)
from datagen.filters import FILTERS
from datagen.filters.interface import NetworkRule
from datagen.generators.model_directory import (
    CARD_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    REFERENCE_FILE,
    SHEET_FILE,
    WEIGHTS_FILE,
    Model,
    UnknownModelError,
    describe_model,
    find_model_folder,
    load_model,
    model_names,
)
from datagen.generators.model_versions import (
    MODEL_NAME,
    parse_model_name,
    pinned_name,
    versions_among,
)
from datagen.references.reference import Reference, load_reference
from datagen.safetensors_header import check_finite
from datagen.settings import Settings
from datagen.store import Store

# In this order: the config is put last, so that a folder with one is whole.
FILES = (WEIGHTS_FILE, REFERENCE_FILE, SHEET_FILE, CURVES_FILE, CARD_FILE, CONFIG_FILE)

# What a newer training of the same weights says anew.
_RENEWED = ("training", "licence", "source")

_NUM_PROBES = 4
_SHOWN = 5

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def register_model(
    catalog: Catalog, store: Store, settings: Settings, folder: Path, *, created_by: str | None
) -> RegisteredModel:
    """folder: a model directory, named as the model is to be. It is the next version of the name;
    the same model again changes nothing.

    Raises InputError or ModelError if it is not sound, ConflictError if the name is the service's
    own, RevokedError if the name, the model or its training data were revoked, QuotaError if it is
    too large for what the tenant may still hold.
    """
    name = check_model_name(folder.name)
    if versions_among(name, model_names([settings.models_dir])):
        raise ConflictError(f"model {name!r} is the service's own; choose another name")
    model = load_model(folder)
    if model.weights is not None:
        check_finite(model.weights)
    _check_reference(model)
    _check_pipeline(model)
    check_usable(catalog, model, name=name)
    known = get_model_of_digest(catalog, name, model.digest)
    prefix = model_prefix(settings.tenant, name, model.digest)
    present = [file for file in FILES if (folder / file).exists()]
    size_bytes = sum((folder / file).stat().st_size for file in present)
    if known is None:  # else a file that does not count for the digest may differ
        check_upload(catalog, num_bytes=size_bytes)
        for file in present:
            _put(store, prefix + file, folder / file)
    return insert_model(
        catalog,
        name=name,
        digest=model.digest,
        config=(folder / CONFIG_FILE).read_text(),
        training_data_sha256=model.facts.training.data_sha256 if model.facts.training else None,
        size_bytes=size_bytes,
        created_by=created_by,
    )


def renew_terms(catalog: Catalog, model: Model) -> None:
    """Of weights that are registered under the model's name already: if their sources have other
    terms by now, the catalog then tells these, as a home does. The card in the store stays."""
    known = get_model_of_digest(catalog, model.name, model.digest)
    if known is None:
        return
    before = json.loads(known.config)
    now = json.loads((model.path / CONFIG_FILE).read_text())
    sources = [(each.get("training") or {}).get("sources") for each in (before, now)]
    if sources[0] == sources[1]:
        return
    content = before | {name: now[name] for name in _RENEWED if name in now}
    renew_config(catalog, known, json.dumps(content, indent=2) + "\n")


def _check_pipeline(model: Model) -> None:
    """The base of a lora: a folder would be read on the workers' machines, whoever's it is. Raises
    ModelError."""
    network = model.config.network
    if model.config.generator == "lora" and not network.get("revision"):
        raise ModelError(
            f"model {model.name!r}: network.pipeline {network.get('pipeline')!r} is a folder, and "
            "workers read none; train on a hub id with network.revision, or let the operator put "
            "the model among the service's own"
        )


def _check_reference(model: Model) -> None:
    """All of it, once, so that no worker meets a damaged one. Raises ModelError."""
    if model.reference is None:
        return
    try:
        reference = load_reference(model.reference).checked()
        _try_filters(reference)
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"model file {model.reference}: its numbers do not work ({type(error).__name__}: "
            f"{error}); fit the reference again"
        ) from None
    problem = reference.unfit_for(
        model.config.class_names,
        image_size=model.config.image_size,
        channels=model.config.channels,
    )
    if problem is not None:
        raise ModelError(
            f"model file {model.reference}: the reference {problem}; expected one of the model's "
            "own classes and sizes: fit the reference again"
        )


def _try_filters(reference: Reference) -> None:
    """Scores images of noise by every filter that needs it. Raises ValueError or what the
    filters raise."""
    names = reference.class_names[:_NUM_PROBES]
    shape = (len(names), *reference.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for name, rule in FILTERS.items():
        if isinstance(rule, NetworkRule):  # asks a network of the recipe's, not the reference
            continue
        options = rule.options()
        if rule.needs_reference(options) and name != "near_copy":  # to build its search takes long
            for score in rule.score(images, names, reference):
                if isinstance(score, float) and not math.isfinite(score):
                    raise ValueError(f"filter {name} scores {score}")


def _put(store: Store, key: str, path: Path) -> None:
    """What an interrupted registration left gives way: no row names it."""
    try:
        store.put_file(key, path)
    except ObjectExistsError:
        store.delete(key)
        store.put_file(key, path)


def check_model_name(name: str) -> str:
    """Raises InputError for a name that no recipe could name."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"model name {name[:80]!r}: expected 1 to 63 lower-case letters, digits and '-', the "
            "first not '-'"
        )
    return name


def model_prefix(tenant: str, name: str, digest: str) -> str:
    return f"{tenant}/models/{name}/{digest}/"


def models_dirs(
    catalog: Catalog, store: Store, settings: Settings, names: Iterable[str]
) -> list[Path]:
    """Folders in which `resolve` finds the tenant's models of these names, fetched if need be, and
    those of the service. names: as in recipes. settings, catalog: the tenant's.

    Raises RevokedError if one of them, or what it was trained on, was revoked.
    """
    folders = [settings.models_dir]
    for text in names:
        if MODEL_NAME.fullmatch(text) is None:
            continue  # no model has it: resolve says so
        registered = get_model(catalog, *parse_model_name(text))
        if registered is not None:
            _refuse_revoked(catalog, registered, settings)
            folders.insert(0, materialize(registered, store, settings))
            continue
        with suppress(UnknownModelError):
            check_usable(catalog, describe_model(find_model_folder(text, [settings.models_dir])))
    return folders


def models_dirs_of_stored(
    catalog: Catalog, store: Store, settings: Settings, body: str
) -> list[Path]:
    """As models_dirs, for the version that the recipe of a job pinned. body: its canonical JSON."""
    content = json.loads(body)
    exact = [content.get(part, {}).get("model") for part in ("generator", "conditioning")]
    names = [pinned_name(str(name)) for name in exact if name is not None]
    return models_dirs(catalog, store, settings, names)


def remove_registered(
    catalog: Catalog, store: Store, settings: Settings, model: RegisteredModel
) -> None:
    """Raises ConflictError while a version or a job of the tenant depends on it, unless it is
    deprecated, and always while one runs. Files before the row: whoever dies leaves what can be
    removed again."""
    made = dependents(catalog, model.digest)
    check_removable(model.exact_name, made, is_deprecated=model.deprecated_at is not None)
    prefix = model_prefix(model.tenant, model.name, model.digest)
    for found in list(store.list(prefix)):
        store.delete(found.key)
    delete_model(catalog, model)
    shutil.rmtree(cached_folder(model, settings), ignore_errors=True)


def check_removable(name: str, made: Dependents, *, is_deprecated: bool) -> None:
    """Raises ConflictError. made: of the model."""
    if made.running:
        raise ConflictError(
            f"model {name} cannot be removed: {some_of(made.running)} run; wait for them, or "
            "cancel them"
        )
    if made.kept and not is_deprecated:
        raise ConflictError(
            f"model {name} cannot be removed: {some_of(made.kept)} depend on it; deprecate it "
            "first, if their images need never be made again"
        )


def some_of(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def check_usable(catalog: Catalog, model: Model, *, name: str | None = None) -> None:
    """name: in place of the model's own. Raises RevokedError if the model, or what it was trained
    on, was revoked."""
    training = model.facts.training
    sources = () if training is None else training.sources
    check_model(
        catalog,
        name=name or model.name,
        digest=model.digest,
        data_sha256=None if training is None else training.data_sha256,
        sources=[fact.sha256 for fact in sources if fact.sha256 is not None],
        parent=model.facts.parent,
    )


def materialize(registered: RegisteredModel, store: Store, settings: Settings) -> Path:
    """The folder, here, that holds the model's; complete and checked whenever it exists. Its
    config.json is as the catalog has it: terms may be newer than the files.

    Raises StoreError if the store has another model under the name, and one that may be retried if
    this machine cannot keep it: another may, or this one with more room.
    """
    folder = cached_folder(registered, settings)
    target = folder / registered.exact_name
    try:
        if not target.is_dir() or digest_at(target) != registered.digest:
            _fetch_whole(registered, store, folder)
        _take_config(target, registered.config.encode())
    except OSError as error:
        raise StoreFullError(
            f"model {registered.name}: cannot be kept in {folder} ({error.strerror}); see that it "
            "can be written and is not full"
        ) from error
    return folder


def _take_config(target: Path, config: bytes) -> None:
    """In one piece: others may be reading the model."""
    if (target / CONFIG_FILE).read_bytes() == config:
        return
    partial = target.parent / f".{uuid4().hex}"
    try:
        partial.write_bytes(config)
        os.replace(partial, target / CONFIG_FILE)
    finally:
        partial.unlink(missing_ok=True)


def cached_folder(registered: RegisteredModel, settings: Settings) -> Path:
    return settings.home / "models-cache" / registered.tenant / registered.digest


def _refuse_revoked(catalog: Catalog, registered: RegisteredModel, settings: Settings) -> None:
    config = json.loads(registered.config)
    try:
        check_model(
            catalog,
            name=registered.exact_name,
            digest=registered.digest,
            data_sha256=registered.training_data_sha256,
            sources=trained_on(config),
            parent=config.get("parent"),
        )
    except RevokedError:
        shutil.rmtree(cached_folder(registered, settings), ignore_errors=True)
        raise


def digest_at(path: Path) -> str | None:
    """Of the model in a folder; None if none is."""
    try:
        return describe_model(path).digest
    except ModelError:
        return None


def _fetch_whole(registered: RegisteredModel, store: Store, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.parent / f".{uuid4().hex}"
    try:
        _fetch(registered, store, partial / registered.exact_name)
        os.rename(partial, folder)
    except OSError:
        if digest_at(folder / registered.exact_name) != registered.digest:
            raise  # else another process was faster
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fetch(registered: RegisteredModel, store: Store, target: Path) -> None:
    target.mkdir(parents=True)
    prefix = model_prefix(registered.tenant, registered.name, registered.digest)
    for file in FILES:
        if store.size(prefix + file) is not None:
            with store.open(prefix + file) as source, (target / file).open("xb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
    found = load_model(target)
    if found.digest != registered.digest:
        raise StoreError(
            f"model {registered.name}: {store.url(prefix + CONFIG_FILE)} is of digest "
            f"{found.digest}, expected {registered.digest}; restore it from a backup"
        )
