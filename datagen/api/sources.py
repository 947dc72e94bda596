"""Sources: registered sets of real images, what was derived from them, and their withdrawal."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, Field

from datagen.api.datasets import ModelRef, RevokeRequest, VersionRef
from datagen.api.dependencies import Admin, Context, Reader, Submitter, audit
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Key, Page, Paging
from datagen.api.problems import problem_responses
from datagen.api.recipe_body import Body
from datagen.catalog.sources import Source, Terms, list_sources
from datagen.errors import InputError, StoreError
from datagen.revocation import close_revoked
from datagen.sources import find_source, images_at, register_images
from datagen.training.model_recipe import MAX_LINE_CHARS, DataFormat, DataSource
from datagen.trainings import check_readable
from datagen.withdrawal import Derived, derived_of, withdraw

# What one request may read. Larger sets: the command, or the first training on them.
MAX_IMAGES, MAX_BYTES = 50_000, 4 << 30
_CLOSED_AT_ONCE = 200

SourceName = Annotated[
    str,
    PathParameter(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}(@[1-9][0-9]{0,8})?$",
        description="NAME, for its newest version, or NAME@VERSION",
    ),
]
Line = Annotated[str, Field(min_length=1, max_length=500)]


class SourceRequest(Body):
    """location: s3://bucket/prefix, or a folder that the service may read. consent: or another
    legal basis. expires_on: the last day on which it may train; null if there is none."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    location: Annotated[str, Field(min_length=1, max_length=MAX_LINE_CHARS)]
    format: DataFormat = "auto"
    licence: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(min_length=1, max_length=1000)]
    permitted_use: Line
    permitted_uses: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63)]], Field(max_length=32)
    ] = Field(default_factory=list)
    consent: Line
    contact: Annotated[str, Field(min_length=1, max_length=200)]
    expires_on: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    allow_synthetic: bool = False


class SourceView(BaseModel):
    """digest: of the pixels as they lie in the files, and of which images share a class.
    generation_depth: 0 for real images."""

    name: str
    version: int
    digest: str
    num_images: int
    num_classes: int
    generation_depth: int
    licence: str
    description: str
    permitted_use: str
    permitted_uses: list[str]
    consent: str
    contact: str
    expires_on: str | None
    location: str
    format: str
    created_by: str | None
    created_at: str
    withdrawn_at: str | None
    withdrawn_reason: str | None


class TrainingUse(BaseModel):
    """data_sha256: of the images as that training read them; empty if it read none of the source,
    but began from a model that was trained on it."""

    model_name: str
    model_digest: str
    data_sha256: str
    trained_at: str


class DerivedView(BaseModel):
    """sources: the same images, under all terms. versions: not revoked; jobs: that run, or may be
    retried."""

    sources: list[str]
    trainings: list[TrainingUse]
    models: list[ModelRef]
    versions: list[VersionRef]
    jobs: list[str]


class SourceDetail(SourceView):
    derived: DerivedView


class WithdrawalView(DerivedView):
    """What goes, or went."""

    dry_run: bool


def router() -> APIRouter:
    routes = APIRouter(prefix="/sources", tags=["sources"])
    _add_reading(routes)
    _add_changing(routes)
    return routes


def _add_reading(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_sources(context: Reader, page: Paging) -> Page[SourceView]:
        """By name and version, withdrawn ones as well."""
        after = page.after(context.tenant, "sources", (str, int))
        found = list_sources(
            context.catalog,
            after=(str(after[0]), int(after[1])) if after else None,
            limit=page.limit + 1,
        )
        last = found[page.limit - 1] if len(found) > page.limit else None
        key: Key | None = None if last is None else [last.name, last.version]
        return page.page([_view(source) for source in found], context.tenant, "sources", key)

    @routes.get("/{name}")
    def read_source(context: Reader, name: SourceName) -> SourceDetail:
        """With all that was derived from it."""
        source = find_source(context.catalog, name)
        derived = derived_of(context.catalog, context.settings, source.label)
        return SourceDetail(**_content(source), derived=DerivedView(**_derived(derived)))


def _add_changing(routes: APIRouter) -> None:
    @routes.post(
        "",
        status_code=201,
        responses={
            200: {"model": SourceView, "description": "These images have these terms already"},
            **problem_responses(409, 410),
        },
    )
    def register(context: Submitter, response: Response, body: SourceRequest) -> SourceView:
        """Reads the images, up to 50,000; other images, or other terms, are the name's next
        version."""
        terms = Terms(
            licence=body.licence,
            description=body.description,
            permitted_use=body.permitted_use,
            permitted_uses=tuple(body.permitted_uses),
            consent=body.consent,
            contact=body.contact,
            expires_on=body.expires_on,
        )
        data = images_at(
            Path(body.location), terms, format=body.format, allow_synthetic=body.allow_synthetic
        )
        source, is_new = _register(context, data, terms, name=body.name)
        response.status_code = 201 if is_new else 200
        audit(context, "source.register", source.label, {"digest": source.digest})
        return _view(source)

    @routes.post("/{name}/withdraw")
    def withdraw_source(context: Admin, name: SourceName, body: RevokeRequest) -> WithdrawalView:
        """For ever: it trains nothing more, and the models trained on it and all that they made are
        revoked. NAME is all of its versions."""
        if body.dry_run:
            planned = derived_of(context.catalog, context.settings, name)
            return WithdrawalView(**_derived(planned), dry_run=True)
        done = withdraw(
            context.catalog,
            context.settings,
            name,
            reason=body.reason,
            actor=context.principal.actor,
        )
        detail = {"reason": body.reason, "versions": len(done.descent.versions)}
        for source in done.sources:
            audit(context, "source.withdraw", source.label, detail | {"digest": source.digest})
        with contextlib.suppress(StoreError):  # it is refused already; a collection does the rest
            close_revoked(context.catalog, context.store, done.descent.versions[:_CLOSED_AT_ONCE])
        return WithdrawalView(**_derived(done), dry_run=False)


def _register(
    context: Context, data: DataSource, terms: Terms, *, name: str
) -> tuple[Source, bool]:
    """What is wrong is told of the location, not of where the images lay for a moment."""
    place = check_readable(data, context.settings)
    try:
        return register_images(
            context.catalog,
            context.settings,
            data.model_copy(update={"path": place}),
            name=name,
            terms=terms,
            created_by=context.principal.actor,
            max_images=MAX_IMAGES,
            max_bytes=MAX_BYTES,
        )
    except InputError as error:
        told = re.sub(rf"{re.escape(str(context.settings.home))}[^ :;,]*/", "", str(error))
        raise InputError(told.replace(str(place), str(data.place))) from None


def _view(source: Source) -> SourceView:
    return SourceView(**_content(source))


def _content(source: Source) -> dict[str, Any]:
    return {
        "name": source.name,
        "version": source.version,
        "digest": source.digest,
        "num_images": source.num_images,
        "num_classes": len(source.class_digests),
        "generation_depth": source.depth,
        **source.terms._asdict(),
        "permitted_uses": list(source.terms.permitted_uses),
        "location": source.location,
        "format": source.format,
        "created_by": source.created_by,
        "created_at": time_text(source.created_at),
        "withdrawn_at": optional_time(source.withdrawn_at),
        "withdrawn_reason": source.withdrawn_reason,
    }


def _derived(derived: Derived) -> dict[str, Any]:
    descent = derived.descent
    return {
        "sources": [source.label for source in derived.sources],
        "trainings": [
            TrainingUse(
                model_name=use.model_name,
                model_digest=use.model_digest,
                data_sha256=use.data_sha256,
                trained_at=time_text(use.trained_at),
            )
            for use in derived.uses
        ],
        "models": [ModelRef(name=m.name, digest=m.digest) for m in descent.models],
        "versions": [
            VersionRef(name=v.name, version=v.version, digest=v.digest) for v in descent.versions
        ],
        "jobs": [job.uid for job in descent.jobs],
    }
