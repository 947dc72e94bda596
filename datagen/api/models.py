"""Models: the service's own and those that the tenant registered; registered, deprecated, removed,
revoked.

Registering takes safetensors alone, checked before anything is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from heapq import merge
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, File, Form, Response, UploadFile
from fastapi import Path as PathParameter
from pydantic import BaseModel

from datagen.api.datasets import Reason, RevocationView, RevokeRequest, revoke_subject
from datagen.api.dependencies import Admin, Context, Reader, Submitter, audit
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Key, Page, Paging
from datagen.api.problems import problem_responses
from datagen.catalog.registry import (
    RegisteredModel,
    deprecate_model,
    get_model,
    list_models,
    models_named,
)
from datagen.catalog.tombstones import MODEL, get_tombstone
from datagen.errors import ConflictError, InputError, ModelError, NotFoundError, RevokedError
from datagen.generators.model_directory import (
    CARD_FILE,
    CONFIG_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    Model,
    UnknownModelError,
    describe_model,
    find_model_folder,
    model_names,
)
from datagen.generators.model_versions import parse_model_name, pinned_name
from datagen.registry import register_model, remove_registered

ModelName = Annotated[
    str,
    PathParameter(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}(@[1-9][0-9]{0,5})?$",
        description="NAME, for its newest version that is neither deprecated nor revoked, or "
        "NAME@VERSION",
    ),
]

_COPY_BYTES = 1 << 20
# A list of models with thousands of classes each would be no list.
_CLASSES_IN_LISTS = 20


class ModelView(BaseModel):
    """class_names: empty if it takes any; in lists, the first 20 of num_classes. image_size:
    [height, width], null if it takes any. registered: by the tenant; else the service's own.
    parent: digest of the model that its weights began from. half_precision: what storing them as
    float16 changed."""

    name: str
    version: int
    digest: str
    generator: str
    num_classes: int
    class_names: list[str]
    image_size: list[int] | None
    channels: int | None
    network: dict[str, Any]
    licence: str
    source: str
    description: str
    training: dict[str, Any] | None
    throughput: dict[str, Any] | None
    privacy: dict[str, Any] | None
    parent: str | None
    code_version: str | None
    half_precision: dict[str, Any] | None
    registered: bool
    size_bytes: int | None
    created_by: str | None
    created_at: str | None
    deprecated_at: str | None
    deprecated_reason: str | None
    revoked_at: str | None
    revoked_reason: str | None


def router() -> APIRouter:
    routes = APIRouter(prefix="/models", tags=["models"])
    _add_reading(routes)
    _add_registering(routes)
    _add_changing(routes)
    return routes


def _add_reading(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_models(context: Reader, page: Paging) -> Page[ModelView]:
        """By name and version: the service's own and the tenant's, deprecated and revoked ones as
        well."""
        after = page.after(context.tenant, "models", (str, int))
        place = (str(after[0]), int(after[1])) if after else ("", 0)
        own = sorted((v for v in _own_models(context) if _place(v) > place), key=_place)
        mine = (
            _registered_view(row)
            for row in list_models(context.catalog, after=place, limit=page.limit + 1)
        )
        views = list(merge(own, mine, key=_place))[: page.limit + 1]
        last: Key | None = None
        if len(views) > page.limit:
            last = list(_place(views[page.limit - 1]))
        return page.page([_shortened(v) for v in views], context.tenant, "models", last)

    @routes.get("/{name}", responses=problem_responses(410))
    def read_model(context: Reader, name: ModelName) -> ModelView:
        return _find(context, name)


def _add_registering(routes: APIRouter) -> None:
    @routes.post(
        "",
        status_code=201,
        responses={
            200: {"model": ModelView, "description": "This very model has the name already"},
            **problem_responses(409, 410, 429),
        },
    )
    def register(
        context: Submitter,
        response: Response,
        name: Annotated[str, Form(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")],
        config: Annotated[UploadFile, File(description="config.json")],
        # Absent or a file, never null, which no form can hold.
        weights: Annotated[UploadFile, File(description="model.safetensors")] = None,  # type: ignore[assignment]
        card: Annotated[UploadFile, File(description="README.md")] = None,  # type: ignore[assignment]
        reference: Annotated[UploadFile, File(description="reference.safetensors")] = None,  # type: ignore[assignment]
    ) -> ModelView:
        """A model never changes: another one under its name is the next version of the name."""
        uploads: dict[str, UploadFile | None] = {
            CONFIG_FILE: config,
            WEIGHTS_FILE: weights,
            CARD_FILE: card,
            REFERENCE_FILE: reference,
        }
        with _upload_folder(context, name) as folder:
            for file, upload in uploads.items():
                if upload is not None:
                    _copy(upload, folder / file)
            known = {each.version for each in models_named(context.catalog, name)}
            row = _register(context, folder)
        response.status_code = 200 if row.version in known else 201
        audit(context, "model.register", row.exact_name, {"digest": row.digest})
        return _registered_view(row)


def _add_changing(routes: APIRouter) -> None:
    @routes.post("/{name}/deprecate", responses=problem_responses(409, 410))
    def deprecate(context: Submitter, name: ModelName, body: Reason) -> ModelView:
        """It can be used on by NAME@VERSION; NAME alone passes over it."""
        found = _own_row(context, name)
        row = deprecate_model(context.catalog, found.name, found.version, reason=body.reason)
        detail = {"reason": body.reason, "digest": row.digest}
        audit(context, "model.deprecate", row.exact_name, detail)
        return _registered_view(row)

    @routes.delete("/{name}", status_code=204, responses=problem_responses(409, 410))
    def remove(context: Admin, name: ModelName) -> Response:
        """Refused while a version or a job depends on it, unless it is deprecated: without it,
        their images cannot be made again."""
        found = _own_row(context, name)
        remove_registered(context.catalog, context.store, context.settings, found)
        audit(context, "model.remove", found.exact_name, {"digest": found.digest})
        return Response(status_code=204)

    @routes.post("/{name}/revoke")
    def revoke_model(context: Admin, name: ModelName, body: RevokeRequest) -> RevocationView:
        """For ever, with all that it made; NAME is all of its versions. One of the service's own is
        revoked for this tenant."""
        return revoke_subject(context, name, body)


@contextmanager
def _upload_folder(context: Context, name: str) -> Iterator[Path]:
    """A folder of the model's name, gone afterwards."""
    parent = context.settings.home / "uploads" / uuid4().hex
    folder = parent / name
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(upload.file, file, _COPY_BYTES)


def _register(context: Context, folder: Path) -> RegisteredModel:
    """What is wrong is told of the upload, not of where it lay for a moment."""
    try:
        return register_model(
            context.catalog,
            context.store,
            context.settings,
            folder,
            created_by=context.principal.actor,
        )
    except (InputError, ModelError) as error:
        told = str(error).replace(f"{folder}/", "").replace(str(folder), folder.name)
        raise type(error)(told) from None


def _own_row(context: Context, text: str) -> RegisteredModel:
    """Of the tenant, to be changed. Raises ConflictError for the service's own, and for NAME alone
    where it has versions; NotFoundError, RevokedError."""
    if not _find(context, text).registered:
        raise ConflictError(f"model {text!r} is the service's own: it can only be revoked")
    name, version = parse_model_name(text)
    known = models_named(context.catalog, name)
    if version is None and len(known) > 1:
        numbers = ", ".join(pinned_name(row.exact_name) for row in known)
        raise ConflictError(f"model {name} has versions; name one: {numbers}")
    return next(row for row in known if version in (None, row.version))


def _place(view: ModelView) -> tuple[str, int]:
    return view.name, view.version


def _find(context: Context, name: str) -> ModelView:
    """Raises NotFoundError, or RevokedError with the digest."""
    row = get_model(context.catalog, *parse_model_name(name))
    if row is not None:
        found = _registered_view(row)
    else:
        try:
            path = find_model_folder(name, [context.settings.models_dir])
        except UnknownModelError:
            raise NotFoundError(f"model {name!r} does not exist") from None
        found = _own_view(context, describe_model(path))
    if found.revoked_at is not None:
        raise RevokedError(
            f"model {name} was revoked: {found.revoked_reason} (digest {found.digest}); use "
            "another model"
        )
    return found


def _own_models(context: Context) -> Iterator[ModelView]:
    for name, path in model_names([context.settings.models_dir]).items():
        try:
            parse_model_name(name)
            model = describe_model(path)
        except (InputError, ModelError):
            continue  # the operator's to mend: no recipe can use it
        yield _own_view(context, model)


def _own_view(context: Context, model: Model) -> ModelView:
    tombstone = get_tombstone(context.catalog, MODEL, model.name)
    config = model.config
    content = {
        "generator": config.generator,
        "class_names": list(config.class_names),
        "image_size": list(config.image_size) if any(config.image_size) else None,
        "channels": config.channels or None,
        "network": config.network,
        **model.facts.model_dump(mode="json"),
    }
    name, version = parse_model_name(model.name)
    marks = {
        "version": version or 1,
        "registered": False,
        "size_bytes": sum(each.stat().st_size for each in model.path.iterdir()),
        "revoked_at": None if tombstone is None else time_text(tombstone.created_at),
        "revoked_reason": None if tombstone is None else tombstone.reason,
        "deprecated_reason": model.facts.deprecated,
    }
    return _view(name, model.digest, content, marks)


def _registered_view(row: RegisteredModel) -> ModelView:
    marks = {
        "version": row.version,
        "registered": True,
        "size_bytes": row.size_bytes,
        "created_by": row.created_by,
        "created_at": time_text(row.created_at),
        "deprecated_at": optional_time(row.deprecated_at),
        "deprecated_reason": row.deprecated_reason,
        "revoked_at": optional_time(row.revoked_at),
        "revoked_reason": row.revoked_reason,
    }
    return _view(row.name, row.digest, json.loads(row.config), marks)


def _view(
    name: str, digest: str, content: Mapping[str, Any], marks: Mapping[str, Any]
) -> ModelView:
    """content: of config.json. marks: what the catalog says; what is absent is null."""
    empty = dict.fromkeys(ModelView.model_fields)
    known = {key: value for key, value in content.items() if key in ModelView.model_fields}
    return ModelView.model_validate(
        {
            **empty,
            "description": "",
            "network": {},
            **known,
            **marks,
            "name": name,
            "digest": digest,
            "num_classes": len(content["class_names"]),
        }
    )


def _shortened(view: ModelView) -> ModelView:
    return view.model_copy(update={"class_names": view.class_names[:_CLASSES_IN_LISTS]})
