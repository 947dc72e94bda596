"""Lineage both ways: everything behind an image; everything that a model or a source made."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel

from datagen.api.datasets import (
    Name,
    Number,
    RevocationView,
    RevokeRequest,
    SampleView,
    VersionView,
    open_row,
    revoke_subject,
    sample_view,
    version_view,
)
from datagen.api.dependencies import Admin, Context, Reader
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Key, Page, PageRequest, Paging
from datagen.api.problems import problem_responses
from datagen.approval import standings_of
from datagen.catalog.rows import VersionRow
from datagen.catalog.tombstones import Tombstone
from datagen.lineage import ModelLineage, ModelOrigin, explain_model, explain_sample, explain_source

Source = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="sha256 of a model's training data")
]
SampleKey = Annotated[
    str,
    Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}-[0-9]{1,10}$", description="CLASS-ORDINAL"),
]


class TrainingDataView(BaseModel):
    """sha256: over the images and labels as they were read."""

    source: str
    licence: str
    sha256: str
    num_train: int
    num_held_out: int


class OriginView(BaseModel):
    """training: null if nothing was trained."""

    name: str
    digest: str
    licence: str | None
    source: str | None
    training: TrainingDataView | None


class JobRef(BaseModel):
    id: str
    created_at: str
    finished_at: str | None
    created_by: str | None


class RejectedView(BaseModel):
    attempt: int
    reason: str


class HolderView(BaseModel):
    name: str
    version: int
    split: str
    revoked: bool


class SampleLineageView(BaseModel):
    """rejected: the attempts before this one. versions: all that hold the very image."""

    dataset: str
    version: int
    digest: str
    sample: SampleView
    model: OriginView
    recipe: dict[str, Any]
    recipe_digest: str
    recipe_seed: int
    attempt_context: str
    fingerprint: dict[str, Any]
    code_version: str | None
    job: JobRef
    rejected: list[RejectedView]
    versions: list[HolderView]


class TombstoneView(BaseModel):
    """erased_at: when the last byte was deleted."""

    kind: str
    subject: str
    digest: str
    reason: str
    revoked_by: str
    revoked_at: str
    erased_at: str | None


class MadeView(BaseModel):
    """num_*, size_bytes: of all that was ever made, revoked versions included. versions: a page."""

    subject: str
    models: list[OriginView]
    num_jobs: int
    num_versions: int
    num_samples: int
    size_bytes: int
    revoked: TombstoneView | None
    versions: Page[VersionView]


def router() -> APIRouter:
    routes = APIRouter(prefix="/lineage", tags=["lineage"])

    @routes.get("/samples/{name}/{version}/{key}", responses=problem_responses(410))
    def read_sample_lineage(
        context: Reader, name: Name, version: Number, key: SampleKey
    ) -> SampleLineageView:
        """Everything behind an image."""
        return _sample_lineage(context, open_row(context, name, version), key)

    @routes.get("/models/{name}")
    def read_model_lineage(context: Reader, name: Name, page: Paging) -> MadeView:
        """Everything that a model made."""
        scope = f"lineage/models/{name}"
        found = explain_model(
            context.catalog,
            context.settings,
            name,
            after=_after(context, page, scope),
            limit=page.limit + 1,
        )
        return _made_view(context, page, scope, found)

    @routes.get("/sources/{sha256}")
    def read_source_lineage(context: Reader, sha256: Source, page: Paging) -> MadeView:
        """Everything that models trained on it made."""
        scope = f"lineage/sources/{sha256}"
        found = explain_source(
            context.catalog,
            context.settings,
            sha256,
            after=_after(context, page, scope),
            limit=page.limit + 1,
        )
        return _made_view(context, page, scope, found)

    @routes.post("/sources/{sha256}/revoke")
    def revoke_source(context: Admin, sha256: Source, body: RevokeRequest) -> RevocationView:
        """For ever: the models trained on it, and all that they made."""
        return revoke_subject(context, sha256, body)

    return routes


def _sample_lineage(context: Context, row: VersionRow, key: str) -> SampleLineageView:
    found = explain_sample(context.catalog, row, key)
    job = found.job
    return SampleLineageView(
        dataset=row.name,
        version=row.version,
        digest=row.digest,
        sample=sample_view(found.row, found.shard),
        model=_origin_view(found.model),
        recipe=found.recipe,
        recipe_digest=job.recipe_digest,
        recipe_seed=found.recipe["seed"],
        attempt_context=job.context_digest,
        fingerprint=json.loads(job.fingerprint),
        code_version=found.code_version,
        job=JobRef(
            id=job.uid,
            created_at=time_text(job.created_at),
            finished_at=optional_time(job.finished_at),
            created_by=job.created_by,
        ),
        rejected=[RejectedView(attempt=a, reason=reason) for a, reason in found.rejected],
        versions=[HolderView(**holder._asdict()) for holder in found.versions],
    )


def _after(context: Context, page: PageRequest, scope: str) -> tuple[str, int] | None:
    after = page.after(context.tenant, scope, (str, int))
    return (str(after[0]), int(after[1])) if after else None


def _made_view(context: Context, page: PageRequest, scope: str, found: ModelLineage) -> MadeView:
    last: Key | None = None
    if len(found.versions) > page.limit:
        row = found.versions[page.limit - 1]
        last = [row.name, row.version]
    standings = standings_of(context.catalog, found.versions)
    items = [version_view(context, row, standings[row.job_id]) for row in found.versions]
    return MadeView(
        subject=found.name,
        models=[_origin_view(model) for model in found.models],
        num_jobs=found.totals.num_jobs,
        num_versions=found.totals.num_versions,
        num_samples=found.totals.num_samples,
        size_bytes=found.totals.size_bytes,
        revoked=None if found.tombstone is None else _tombstone_view(found.tombstone),
        versions=page.page(items, context.tenant, scope, last),
    )


def _origin_view(origin: ModelOrigin) -> OriginView:
    return OriginView.model_validate(origin, from_attributes=True)


def _tombstone_view(found: Tombstone) -> TombstoneView:
    return TombstoneView(
        kind=found.kind,
        subject=found.subject,
        digest=found.digest,
        reason=found.reason,
        revoked_by=found.actor,
        revoked_at=time_text(found.created_at),
        erased_at=optional_time(found.erased_at),
    )
