"""Data sets: their versions, manifests, samples and files; deprecated and revoked.

A revoked version is told with its digest (410); of another tenant's nothing is told (404).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from datagen.api.byte_ranges import object_response
from datagen.api.dependencies import Admin, Context, Reader, Submitter, audit
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Key, Page, Paging
from datagen.api.problems import DamagedError, problem_responses
from datagen.api.recipe_body import Body
from datagen.approval import Standing, check_pull, standing_json, standing_of, standings_of
from datagen.attachments import EXPORT, FOLDER
from datagen.catalog.attachments import find_attachment
from datagen.catalog.browse import (
    DatasetRow,
    SampleFilter,
    find_object,
    list_datasets,
    page_objects,
    page_samples,
    page_versions,
    shard_keys,
)
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import SampleRow, VersionRow
from datagen.catalog.tombstones import VERSION
from datagen.catalog.versions import deprecate_version
from datagen.diff import diff_versions
from datagen.errors import (
    NotFoundError,
    ObjectMissingError,
    RetryableError,
    RevokedError,
    StoreError,
    VerifyError,
)
from datagen.revocation import Revocation, close_revoked, plan_revocation, revoke
from datagen.versions import (
    MANIFEST,
    find_version,
    manifest_bytes,
    raise_if_revoked,
    version_prefix,
)

Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Number = Annotated[
    str, Path(pattern=r"^(latest|[1-9][0-9]{0,8})$", description="A number, or latest")
]
ObjectPath = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,511}$",
        description="As the manifest names it, such as shards/00000-....tar",
    ),
]
_SCORE = r"^[a-z0-9][a-z0-9_-]{0,62}:-?[0-9]{1,12}(\.[0-9]{1,12})?$"
Scores = Annotated[
    list[Annotated[str, Field(pattern=_SCORE)]],
    Query(max_length=8, description="FILTER:NUMBER, such as blank:0.2; several all hold"),
]
_OBJECTS_A_PAGE = 1_000
# A revoked version stops to be there for who reads the store, too, before the answer is given; of
# very many versions, the rest with the next collection.
_CLOSED_AT_ONCE = 100


class DatasetView(BaseModel):
    """versions: how many. latest: the newest of them, revoked or not."""

    name: str
    versions: int
    latest: int
    published_at: str


class StandingView(BaseModel):
    """What it is signed off as now: the highest that holds. until: the last day, in UTC."""

    state: str
    use: str | None
    by: str | None
    until: str | None


class VersionView(BaseModel):
    """path: its address in the store. *_at, *_reason: null unless it was deprecated or revoked."""

    name: str
    version: int
    digest: str
    num_samples: int
    size_bytes: int
    seconds: float
    published_at: str
    recipe_digest: str
    manifest_sha256: str
    path: str
    deprecated_at: str | None
    deprecated_reason: str | None
    revoked_at: str | None
    revoked_reason: str | None
    sign_off: StandingView


class SampleView(BaseModel):
    """offset, size: of the PNG in its shard. labels: what is true beside the class; digests of
    label maps, which lie beside the PNG."""

    key: str
    class_name: str
    ordinal: int
    split: str
    attempt: int
    attempt_key: str
    seed: int
    augmentation_seed: int
    raw_sha256: str
    image_sha256: str
    shard: str
    offset: int
    size: int
    attributes: dict[str, Any]
    scores: dict[str, Any]
    augmentations: list[Any]
    labels: dict[str, Any]


class FileEntry(BaseModel):
    """url: works for a minute, for whoever has it; null where the store is a folder: there and
    later, .../objects/{path} of the service has the bytes."""

    path: str
    sha256: str
    size_bytes: int
    url: str | None


class FieldChangeView(BaseModel):
    field: str
    before: Any
    after: Any


class ClassDiffView(BaseModel):
    """added, removed, changed: ranges of ordinals, [first, last]."""

    added: list[list[int]]
    removed: list[list[int]]
    changed: list[list[int]]
    unchanged: int
    parts: dict[str, int]


class DiffView(BaseModel):
    before: str
    after: str
    recipe: list[FieldChangeView]
    images: dict[str, int]
    classes: dict[str, ClassDiffView]


class Reason(Body):
    reason: Annotated[str, Field(min_length=1, max_length=500)]


class RevokeRequest(Reason):
    """dry_run: only tell what would go."""

    dry_run: bool = False


class VersionRef(BaseModel):
    name: str
    version: int
    digest: str


class ModelRef(BaseModel):
    name: str
    digest: str


class RevocationView(BaseModel):
    """already: it was revoked before; the lists hold what goes now. jobs: that are stopped.

    sharing: other versions that may hold the same images; they stay.
    """

    kind: str
    subject: str
    digest: str
    dry_run: bool
    already: bool
    models: list[ModelRef]
    versions: list[VersionRef]
    jobs: list[str]
    num_attempts: int
    attempt_bytes: int
    sharing: list[VersionRef]


Use = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        description="What the images are for: then the version must be signed off for it",
    ),
]
_AT = "/{name}/versions/{version}"
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "The bytes"},
    206: {"content": {"application/octet-stream": {}}, "description": "The range asked for"},
    **problem_responses(410, 416, 502),
}


def router() -> APIRouter:
    routes = APIRouter(prefix="/datasets", tags=["datasets"])
    _add_lists(routes)
    _add_versions(routes)
    _add_objects(routes)
    _add_changes(routes)
    return routes


def _add_lists(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_datasets(context: Reader, page: Paging) -> Page[DatasetView]:
        """By name."""
        after = page.after(context.tenant, "datasets", (str,))
        rows = list_datasets(
            context.catalog, after=str(after[0]) if after else None, limit=page.limit + 1
        )
        last: Key | None = [rows[page.limit - 1].name] if len(rows) > page.limit else None
        return page.page([_dataset_view(row) for row in rows], context.tenant, "datasets", last)

    @routes.get("/{name}/versions")
    def list_all_versions(context: Reader, name: Name, page: Paging) -> Page[VersionView]:
        """Newest first, deprecated and revoked ones as well."""
        scope = f"versions/{name}"
        before = page.after(context.tenant, scope, (int,))
        rows = page_versions(
            context.catalog, name, before=int(before[0]) if before else None, limit=page.limit + 1
        )
        if not rows and before is None:
            raise NotFoundError(f"data set {name!r} does not exist")
        last: Key | None = [rows[page.limit - 1].version] if len(rows) > page.limit else None
        standings = standings_of(context.catalog, rows)
        items = [version_view(context, row, standings[row.job_id]) for row in rows]
        return page.page(items, context.tenant, scope, last)


def _add_versions(routes: APIRouter) -> None:
    @routes.get(_AT, responses=problem_responses(410))
    def read_version(context: Reader, name: Name, version: Number) -> VersionView:
        return version_view(context, open_row(context, name, version))

    @routes.get(_AT + "/samples", responses=problem_responses(410))
    def list_samples(
        context: Reader,
        name: Name,
        version: Number,
        page: Paging,
        class_name: Annotated[str | None, Query(max_length=63)] = None,
        split: Annotated[str | None, Query(max_length=32)] = None,
        model: Annotated[str | None, Query(max_length=64, description="Name or digest")] = None,
        min_score: Scores = [],  # noqa: B006  # the framework copies it
        max_score: Scores = [],  # noqa: B006
    ) -> Page[SampleView]:
        """By class and ordinal. With bounds on scores, a page may be short before the end."""
        row = open_row(context, name, version)
        wanted = SampleFilter(class_name, split, _bounds(min_score), _bounds(max_score))
        scope = f"samples/{row.job_id}/{model}/{wanted}"
        after = page.after(context.tenant, scope, (str, int))
        if model is not None and model not in _model_of(context, row):
            return page.short_page([], context.tenant, scope, None)
        found = page_samples(
            context.catalog,
            row.job_id,
            wanted,
            after=(str(after[0]), int(after[1])) if after else None,
            limit=page.limit,
        )
        shards = shard_keys(context.catalog, row.job_id, {each.shard for each in found.rows})
        prefix = _prefix(row)
        items = [sample_view(each, shards[each.shard].removeprefix(prefix)) for each in found.rows]
        return page.short_page(items, context.tenant, scope, list(found.last or ()) or None)

    @routes.get(_AT + "/diff", responses=problem_responses(410))
    def read_diff(
        context: Reader,
        name: Name,
        version: Number,
        against: Annotated[str, Query(pattern=r"^(latest|[1-9][0-9]{0,8})$")],
    ) -> DiffView:
        """From this version to the other."""
        before, after = (open_row(context, name, each) for each in (version, against))
        found = diff_versions(context.catalog, before, after)
        return DiffView(
            before=found.before,
            after=found.after,
            recipe=[FieldChangeView(**asdict(change)) for change in found.recipe],
            images=found.totals,
            classes={
                class_name: ClassDiffView(
                    added=each.added.ranges,
                    removed=each.removed.ranges,
                    changed=each.changed.ranges,
                    unchanged=each.unchanged,
                    parts=each.parts,
                )
                for class_name, each in found.classes.items()
            },
        )


def _add_objects(routes: APIRouter) -> None:
    @routes.get(
        _AT + "/manifest",
        response_class=Response,
        responses={
            200: {"content": {"application/json": {"schema": {"type": "object"}}}},
            **problem_responses(410, 502),
        },
    )
    def read_manifest(context: Reader, name: Name, version: Number) -> Response:
        """As published, byte for byte."""
        row = open_row(context, name, version)
        data = _manifest(context, row)
        return Response(
            data, media_type="application/json", headers={"ETag": f'"{row.manifest_sha256}"'}
        )

    @routes.get(
        _AT + "/files",
        response_class=StreamingResponse,
        responses={200: {"model": list[FileEntry]}, **problem_responses(410)},
    )
    def list_files(
        context: Reader, name: Name, version: Number, use: Use = None
    ) -> StreamingResponse:
        """Everything that the manifest names, and the manifest itself, last."""
        row = _pulled_row(context, name, version, use)
        context.store.presign(_prefix(row) + MANIFEST)  # fails here, not amid the answer
        entries = _file_entries(context, row)
        return StreamingResponse(_json_list(entries), media_type="application/json")

    @routes.get(_AT + "/objects/{path:path}", response_class=Response, responses=_BYTES)
    def read_object(
        context: Reader,
        name: Name,
        version: Number,
        path: ObjectPath,
        use: Use = None,
        byte_range: Annotated[str | None, Header(alias="Range", max_length=200)] = None,
    ) -> Response:
        """One object that the manifest names, or an attachment. One range of bytes can be asked
        for."""
        row = open_row(context, name, version)
        key = _prefix(row) + path
        size: int | None
        if path.startswith(FOLDER):  # whoever is to sign the version off must see them
            attached = find_attachment(context.catalog, row.job_id, key)
            if attached and attached.kind == EXPORT:  # the images themselves
                _pulled_row(context, name, str(row.version), use)
            size, sha256 = (attached.size_bytes, attached.sha256) if attached else (None, "")
        elif path == MANIFEST:
            size, sha256 = len(_manifest(context, row)), row.manifest_sha256
        else:
            _pulled_row(context, name, str(row.version), use)
            found = find_object(context.catalog, row.job_id, key)
            size, sha256 = (found.size_bytes, found.sha256) if found else (None, "")
        if size is None:
            raise NotFoundError(f"{name}@{row.version} has no object {path!r}; files lists them")
        with _damage_told(context, row, path, size):
            return object_response(context.store, key, size, sha256=sha256, byte_range=byte_range)


def _add_changes(routes: APIRouter) -> None:
    @routes.post(_AT + "/deprecate", responses=problem_responses(410))
    def deprecate(context: Submitter, name: Name, version: Number, body: Reason) -> VersionView:
        """It can be used on; whoever looks is told."""
        row = open_row(context, name, version)
        changed = deprecate_version(context.catalog, name, row.version, reason=body.reason)
        detail = {"reason": body.reason, "digest": row.digest}
        audit(context, "dataset.deprecate", f"{name}@{row.version}", detail)
        return version_view(context, changed)

    @routes.post(_AT + "/revoke", responses=problem_responses(410))
    def revoke_version(
        context: Admin, name: Name, version: Number, body: RevokeRequest
    ) -> RevocationView:
        """For ever: it is refused from now on, and its bytes are deleted."""
        number = version
        if version == "latest":
            number = str(open_row(context, name, version).version)
        return revoke_subject(context, f"{name}@{number}", body)


def open_row(context: Context, name: str, version: str) -> VersionRow:
    """Raises NotFoundError or RevokedError."""
    text = name if version == "latest" else f"{name}@{version}"
    return find_version(context.catalog, text)


def _pulled_row(context: Context, name: str, version: str, use: str | None) -> VersionRow:
    """Raises ForbiddenError if the policy gives its images out to nobody yet."""
    row = open_row(context, name, version)
    check_pull(context.catalog, row, policy=context.settings.pull_policy, use=use)
    return row


def _manifest(context: Context, row: VersionRow) -> bytes:
    """As published. Raises DamagedError, or RevokedError."""
    try:
        return manifest_bytes(context.store, _prefix(row), sha256=row.manifest_sha256)
    except RevokedError:
        raise
    except (NotFoundError, VerifyError) as error:
        raise DamagedError(f"{row.name}@{row.version}", MANIFEST) from error


@contextlib.contextmanager
def _damage_told(context: Context, row: VersionRow, path: str, size_bytes: int) -> Iterator[None]:
    """Raises DamagedError for an object that is missing or of another size, RevokedError."""
    try:
        yield
    except RetryableError:
        raise
    except StoreError as error:
        if isinstance(error, ObjectMissingError):
            raise_if_revoked(context.store, _prefix(row))
        elif context.store.size(_prefix(row) + path) == size_bytes:
            raise
        raise DamagedError(f"{row.name}@{row.version}", path) from error


def revoke_subject(context: Context, text: str, body: RevokeRequest) -> RevocationView:
    """Audited. Called by the routers of models and lineage as well."""
    if body.dry_run:
        planned = plan_revocation(context.catalog, context.settings, text)
        return _revocation_view(planned, dry_run=True)
    done = revoke(
        context.catalog,
        context.settings,
        text,
        reason=body.reason,
        actor=context.principal.actor,
    )
    detail = {"reason": body.reason, "digest": done.digest, "versions": len(done.descent.versions)}
    what = "dataset" if done.kind == VERSION else done.kind
    audit(context, f"{what}.revoke", done.subject, detail)
    with contextlib.suppress(StoreError):  # it is refused already; a collection does the rest
        close_revoked(context.catalog, context.store, done.descent.versions[:_CLOSED_AT_ONCE])
    return _revocation_view(done, dry_run=False)


def version_view(
    context: Context, row: VersionRow, standing: Standing | None = None
) -> VersionView:
    """standing: looked up if it is left out."""
    standing = standing or standing_of(context.catalog, row)
    return VersionView(
        name=row.name,
        version=row.version,
        digest=row.digest,
        num_samples=row.num_samples,
        size_bytes=row.size_bytes,
        seconds=row.seconds,
        published_at=time_text(row.published_at),
        recipe_digest=row.recipe_digest,
        manifest_sha256=row.manifest_sha256,
        path=context.store.url(_prefix(row).rstrip("/")),
        deprecated_at=optional_time(row.deprecated_at),
        deprecated_reason=row.deprecated_reason,
        revoked_at=optional_time(row.revoked_at),
        revoked_reason=row.revoked_reason,
        sign_off=StandingView(**standing_json(standing)),
    )


def sample_view(row: SampleRow, shard: str) -> SampleView:
    """shard: its path in the version."""
    values = row._asdict() | {
        name: json.loads(getattr(row, name))
        for name in ("attributes", "scores", "augmentations", "labels")
    }
    return SampleView(key=f"{row.class_name}-{row.ordinal:08d}", **(values | {"shard": shard}))


def _dataset_view(row: DatasetRow) -> DatasetView:
    return DatasetView(
        name=row.name,
        versions=row.num_versions,
        latest=row.newest_version,
        published_at=time_text(row.published_at),
    )


def _revocation_view(found: Revocation, *, dry_run: bool) -> RevocationView:
    descent = found.descent
    return RevocationView(
        kind=found.kind,
        subject=found.subject,
        digest=found.digest,
        dry_run=dry_run,
        already=found.already,
        models=[ModelRef(name=m.name, digest=m.digest) for m in descent.models],
        versions=[_ref(row) for row in descent.versions],
        jobs=[job.uid for job in descent.jobs],
        num_attempts=descent.num_attempts,
        attempt_bytes=descent.attempt_bytes,
        sharing=[_ref(row) for row in descent.sharing],
    )


def _ref(row: VersionRow) -> VersionRef:
    return VersionRef(name=row.name, version=row.version, digest=row.digest)


def _prefix(row: VersionRow) -> str:
    return version_prefix(row.tenant, row.name, row.version)


def _bounds(texts: list[str]) -> dict[str, float]:
    pairs = (text.split(":") for text in texts)
    return {name: float(number) for name, number in pairs}


def _model_of(context: Context, row: VersionRow) -> tuple[str, str]:
    """Name and digest."""
    job = get_job(context.catalog, row.job_id)
    assert job is not None
    generator = json.loads(job.recipe_body)["generator"]
    return generator["model"], generator["model_digest"]


def _file_entries(context: Context, row: VersionRow) -> Iterator[FileEntry]:
    prefix, after = _prefix(row), None
    while found := page_objects(context.catalog, row.job_id, after=after, limit=_OBJECTS_A_PAGE):
        after = (found[-1].kind, found[-1].position)
        for each in found:
            path = each.key.removeprefix(prefix)
            yield _file_entry(context, row, path, each.sha256, each.size_bytes)
    size = context.store.size(prefix + MANIFEST)
    if size is not None:
        yield _file_entry(context, row, MANIFEST, row.manifest_sha256, size)


def _file_entry(
    context: Context, row: VersionRow, path: str, sha256: str, size_bytes: int
) -> FileEntry:
    url = context.store.presign(_prefix(row) + path)
    return FileEntry(path=path, sha256=sha256, size_bytes=size_bytes, url=url)


def _json_list(entries: Iterator[FileEntry]) -> Iterator[str]:
    """Memory stays flat however many there are."""
    separator = "["
    for entry in entries:
        yield separator + entry.model_dump_json()
        separator = ","
    yield "]" if separator == "," else "[]"
