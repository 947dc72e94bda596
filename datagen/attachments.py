"""What is attached to a version beside its data: evaluation, report, review, other layouts of it.

Objects beside the data, named by their content, so that the version itself never changes:
{prefix}attachments/{sha256}/{file name}. Called by whatever evaluates or reviews, and by every
reader of that. Attaching to a job that is not published keeps what its gates found.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from datagen.catalog.attachments import (
    AttachmentRow,
    NewAttachment,
    check_attachable,
    find_attachment,
    list_attachments,
    record_attachment,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import PUBLISHED, Job, VersionRow
from datagen.catalog.tenants import check_upload
from datagen.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    ObjectMissingError,
    RevokedError,
    VerifyError,
)
from datagen.formats.beside import FILE_NAME
from datagen.recipe import canonical_json
from datagen.store import Store
from datagen.versions import raise_if_revoked, version_prefix

Kind = Literal["evaluation", "report", "review", "credentials", "card", "export"]
EVALUATION: Kind = "evaluation"
REPORT: Kind = "report"
REVIEW: Kind = "review"
CARD: Kind = "card"
EXPORT: Kind = "export"
FOLDER = "attachments/"
MAX_BYTES = 256 * 2**20
# Of one file: what S3 takes in one request.
MAX_FILE_BYTES = 5 * 2**30
MAX_SUMMARY_BYTES = 2**16

_PIECE_BYTES = 2**20


def attach(
    catalog: Catalog,
    store: Store,
    to: VersionRow | Job,
    *,
    kind: Kind,
    file_name: str,
    data: bytes,
    summary: Mapping[str, Any],
    seconds: float | None = None,
    created_by: str | None = None,
) -> AttachmentRow:
    """The same content again is the same attachment, and the newest again.

    summary: the main figures, for lists; seconds: that making it took. Raises RevokedError if the
    version was revoked, QuotaError if the tenant's bytes are used up.
    """
    _check_bytes(file_name, len(data), MAX_BYTES)
    sha256 = hashlib.sha256(data).hexdigest()
    new = _new(to, kind, file_name, sha256, len(data), summary, seconds, created_by)
    return _attach(catalog, store, to, new, put=lambda key: store.put_new(key, data))


def attach_file(
    catalog: Catalog,
    store: Store,
    to: VersionRow | Job,
    *,
    kind: Kind,
    path: Path,
    summary: Mapping[str, Any],
    seconds: float | None = None,
    created_by: str | None = None,
) -> AttachmentRow:
    """As attach, of a file under its own name, which may be larger than the memory."""
    size_bytes = path.stat().st_size
    _check_bytes(path.name, size_bytes, MAX_FILE_BYTES)
    with path.open("rb") as source:
        sha256 = hashlib.file_digest(source, "sha256").hexdigest()
    new = _new(to, kind, path.name, sha256, size_bytes, summary, seconds, created_by)
    return _attach(catalog, store, to, new, put=lambda key: store.put_file(key, path))


def _new(
    to: VersionRow | Job,
    kind: Kind,
    file_name: str,
    sha256: str,
    size_bytes: int,
    summary: Mapping[str, Any],
    seconds: float | None,
    created_by: str | None,
) -> NewAttachment:
    if not FILE_NAME.fullmatch(file_name):
        raise InputError(f"attachment {file_name[:80]!r}: expected a plain file name")
    text = canonical_json(dict(summary)).decode()
    if len(text) > MAX_SUMMARY_BYTES:
        raise InputError(
            f"attachment {file_name}: {len(text)} bytes of summary, expected at most "
            f"{MAX_SUMMARY_BYTES}"
        )
    job_id = to.id if isinstance(to, Job) else to.job_id
    key = f"{version_prefix(to.tenant, to.name, to.version)}{FOLDER}{sha256}/{file_name}"
    return NewAttachment(
        job_id, kind, file_name, key, sha256, size_bytes, text, seconds, created_by
    )


def _check_bytes(file_name: str, size_bytes: int, most: int) -> None:
    if size_bytes > most:
        raise InputError(f"attachment {file_name}: {size_bytes} bytes, expected at most {most}")


def _attach(
    catalog: Catalog,
    store: Store,
    to: VersionRow | Job,
    new: NewAttachment,
    *,
    put: Callable[[str], object],
) -> AttachmentRow:
    """The object is put before its row. What is there already counts against no quota again."""
    check_attachable(catalog, new.job_id)
    if find_attachment(catalog, new.job_id, new.key) is None:
        check_upload(catalog.of(to.tenant), num_bytes=new.size_bytes)
    put(new.key)
    try:
        return record_attachment(catalog, new)
    except (RevokedError, ConflictError):  # in this very moment
        store.delete(new.key)
        raise


def attachments_of(
    catalog: Catalog, row: VersionRow | Job, *, kind: Kind | None = None
) -> list[AttachmentRow]:
    """The newest first."""
    job_id = row.id if isinstance(row, Job) else row.job_id
    return list_attachments(catalog, job_id, kind=kind)


def newest_attachment(
    catalog: Catalog, row: VersionRow | Job, *, kind: Kind, file_name: str | None = None
) -> AttachmentRow | None:
    job_id = row.id if isinstance(row, Job) else row.job_id
    found = list_attachments(catalog, job_id, kind=kind, file_name=file_name)
    return found[0] if found else None


def need_attachment(catalog: Catalog, row: VersionRow | Job, *, kind: Kind) -> AttachmentRow:
    """The newest. Raises NotFoundError that says how to make one."""
    found = newest_attachment(catalog, row, kind=kind)
    if found is None:
        name = f"{row.name}@{row.version}"
        if isinstance(row, Job) and row.state != PUBLISHED:
            raise NotFoundError(
                f"job {row.uid} of {name} ({row.state}) has no {kind}: a job has one once the "
                "`evaluation` of its recipe was made"
            )
        raise NotFoundError(
            f"{name} has no {kind}; `datagen evaluate {name} --reference DATA` makes one"
        )
    return found


def read_attachment(store: Store, attachment: AttachmentRow) -> bytes:
    """Raises VerifyError if it was changed since, RevokedError, ObjectMissingError."""
    try:
        data = store.get(attachment.key)
    except ObjectMissingError:
        raise_if_revoked(store, attachment.key.partition(FOLDER)[0])
        raise
    _check_digest(store, attachment, hashlib.sha256(data).hexdigest())
    return data


def check_attachment(store: Store, attachment: AttachmentRow) -> None:
    """Reads it piece by piece, however large it is. Raises as read_attachment does."""
    digest = hashlib.sha256()
    try:
        with store.open(attachment.key) as stream:
            while piece := stream.read(_PIECE_BYTES):
                digest.update(piece)
    except ObjectMissingError:
        raise_if_revoked(store, attachment.key.partition(FOLDER)[0])
        raise
    _check_digest(store, attachment, digest.hexdigest())


def _check_digest(store: Store, attachment: AttachmentRow, found: str) -> None:
    if found != attachment.sha256:
        again = "export" if attachment.kind == EXPORT else "evaluate"
        raise VerifyError(
            f"{store.url(attachment.key)}: sha256 {found}, expected {attachment.sha256}: it was "
            f"changed after it was attached; restore it from a backup, or {again} again"
        )


def attachment_json(attachment: AttachmentRow) -> dict[str, Any]:
    """As command line and API show it. object: its path within the version."""
    at = datetime.datetime.fromtimestamp(attachment.created_at, datetime.UTC)
    return {
        "kind": attachment.kind,
        "file_name": attachment.file_name,
        "object": path_of(attachment),
        "sha256": attachment.sha256,
        "size_bytes": attachment.size_bytes,
        "summary": summary_of(attachment),
        "seconds": attachment.seconds,
        "created_by": attachment.created_by,
        "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def beside_data(catalog: Catalog, row: VersionRow) -> list[AttachmentRow]:
    """The newest of each that a pull puts beside the data, so far as they are there."""
    wanted = ((EVALUATION, None), (REPORT, None), (CARD, "README.md"))
    found = (newest_attachment(catalog, row, kind=k, file_name=name) for k, name in wanted)
    return [each for each in found if each is not None]


def path_of(attachment: AttachmentRow) -> str:
    """Within the version: attachments/{sha256}/{file name}."""
    return f"{FOLDER}{attachment.sha256}/{attachment.file_name}"


def summary_of(attachment: AttachmentRow) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(attachment.summary)
    return found
