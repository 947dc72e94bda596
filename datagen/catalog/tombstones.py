"""What was revoked, what descends from it, and what is left to erase.

A tombstone is for ever. All that descends from a source or a model gets one of its own, in the
transaction that revokes it: from then on every reader refuses. Called by datagen/revocation.py,
and by whatever is about to use a model (check_model).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    and_,
    case,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import DATASET_REVOKED, JOB_CANCELLED, record_event
from datagen.catalog.retention import CachedObject, EndedJob
from datagen.catalog.rows import (
    ACTIVE_STATES,
    CANCELLED,
    FAILED,
    PUBLISHED,
    VersionRow,
)
from datagen.catalog.tables import (
    attachments,
    attempts,
    contexts,
    dataset_versions,
    jobs,
    models,
    objects,
    registered_models,
    tombstones,
    uses_any_model,
    uses_model,
)
from datagen.catalog.versions import select_versions
from datagen.errors import RevokedError

SOURCE, MODEL, VERSION = "source", "model", "version"


@dataclass(frozen=True)
class Tombstone:
    """subject: a sha256 of training data, a model's name, or NAME@VERSION of a data set or source.
    digest: its own."""

    id: int
    tenant: str
    kind: str
    subject: str
    digest: str
    reason: str
    actor: str
    created_at: float
    erased_at: float | None


class Ref(NamedTuple):
    """Of a model, or of whatever else is revoked by name."""

    name: str
    digest: str


class JobRef(NamedTuple):
    id: int
    uid: str
    name: str
    version: int


@dataclass(frozen=True)
class Descent:
    """What goes with a source, a model or a version. versions: those not revoked yet.

    sharing: other versions made of attempts of the same context as a revoked version: they may
    hold the same images, and stay.
    """

    models: list[Ref]
    versions: list[VersionRow]
    jobs: list[JobRef]
    num_attempts: int
    attempt_bytes: int
    sharing: list[VersionRow]


def get_tombstone(catalog: Catalog, kind: str, subject: str) -> Tombstone | None:
    query = _select_tombstones(catalog).where(
        tombstones.c.kind == kind, tombstones.c.subject == subject
    )
    with catalog.reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else Tombstone(**row._mapping)


def check_model(
    catalog: Catalog,
    *,
    name: str,
    digest: str,
    data_sha256: str | None,
    sources: Collection[str] = (),
    parent: str | None = None,
) -> None:
    """sources: digests of the registered sources that it was trained on. parent: of the model that
    its weights began from. Raises RevokedError if the model, under any name, or what it comes from
    was revoked."""
    digests = [digest, *([parent] if parent else [])]
    conditions = [
        and_(
            tombstones.c.kind == MODEL,
            or_(tombstones.c.subject == name, tombstones.c.digest.in_(digests)),
        )
    ]
    trained_on = {*sources, *([data_sha256] if data_sha256 is not None else [])}
    if trained_on:
        conditions.append(
            and_(tombstones.c.kind == SOURCE, tombstones.c.subject.in_(sorted(trained_on)))
        )
    query = _select_tombstones(catalog).where(or_(*conditions)).order_by(tombstones.c.id).limit(1)
    with catalog.reading() as connection:
        row = connection.execute(query).first()
    if row is not None:
        what = f"model {name}"
        if row.kind == SOURCE:
            what = f"model {name}, trained on source {row.subject},"
        raise RevokedError(f"{what} was revoked: {row.reason} (digest {digest}); use another model")


def models_of_name(catalog: Catalog, name: str) -> list[Ref]:
    """Registered by the tenant, or used by its jobs: all versions of NAME; of NAME@VERSION, that
    one."""
    base, _, version = name.partition("@")
    exact = base if version == "1" else name
    of_used, of_registered = models.c.name == exact, registered_name() == exact
    if not version:
        of_used = or_(of_used, models.c.name.startswith(f"{name}@", autoescape=True))
        of_registered = registered_models.c.name == name
    used = (
        select(models.c.name, models.c.digest)
        .join(contexts, uses_model(models.c.digest))
        .where(of_used, catalog.owns(contexts.c.tenant))
        .distinct()
    )
    registered = select(registered_name(), registered_models.c.digest).where(
        of_registered, catalog.owns(registered_models.c.tenant)
    )
    with catalog.reading() as connection:
        return _refs([*connection.execute(registered), *connection.execute(used)])


def models_of_source(catalog: Catalog, sha256: str) -> list[Ref]:
    """Those trained on it that the tenant registered, or whose jobs used them. sha256: of the
    images as a training read them, or of a registered source."""
    used = (
        select(models.c.name, models.c.digest, models.c.config)
        .join(contexts, uses_model(models.c.digest))
        .where(models.c.config.contains(sha256), catalog.owns(contexts.c.tenant))
        .distinct()
    )
    registered = select(
        registered_name(), registered_models.c.digest, registered_models.c.config
    ).where(registered_models.c.config.contains(sha256), catalog.owns(registered_models.c.tenant))
    with catalog.reading() as connection:
        rows = [*connection.execute(registered), *connection.execute(used)]
    return _refs([row[:2] for row in rows if sha256 in trained_on(json.loads(row[2]))])


def trained_on(config: Mapping[str, Any]) -> set[str]:
    """config: config.json of a model. Digests of its training data and of its sources."""
    training = config.get("training") or {}
    found = [training.get("data_sha256"), *(s["sha256"] for s in training.get("sources", ()))]
    return {digest for digest in found if digest is not None}


def models_of_parent(catalog: Catalog, digest: str) -> list[Ref]:
    """Those whose weights began from that model, registered by the tenant or used by its jobs."""
    used = (
        select(models.c.name, models.c.digest, models.c.config)
        .join(contexts, uses_model(models.c.digest))
        .where(models.c.config.contains(digest), catalog.owns(contexts.c.tenant))
        .distinct()
    )
    registered = select(
        registered_name(), registered_models.c.digest, registered_models.c.config
    ).where(registered_models.c.config.contains(digest), catalog.owns(registered_models.c.tenant))
    with catalog.reading() as connection:
        rows = [*connection.execute(registered), *connection.execute(used)]
    return _refs([row[:2] for row in rows if json.loads(row[2]).get("parent") == digest])


def registered_name() -> ColumnElement[str]:
    """Of a registered model, as resolved recipes call it: NAME, or NAME@VERSION of later ones."""
    version = registered_models.c.version
    return case(
        (version == 1, registered_models.c.name),
        else_=registered_models.c.name + "@" + cast(version, String),
    )


def find_descent(catalog: Catalog, found: Sequence[Ref], version: VersionRow | None) -> Descent:
    """Of models, or of one version."""
    with catalog.reading() as connection:
        return _descent(connection, catalog, found, version)


def commit_revoked(
    catalog: Catalog,
    root: Ref,
    *,
    kind: str,
    models_found: Sequence[Ref],
    version: VersionRow | None,
    reason: str,
    actor: str,
) -> Descent:
    """Tombstones for the root (its subject and digest) and all that descends from it, in one
    transaction; running jobs of the models are cancelled. A second time adds what came since."""
    assert catalog.tenant is not None, "a tenant revokes what is its own"
    with catalog.transaction() as connection:
        bury = _Burial(connection, catalog.tenant, actor)
        bury.bury(kind, root, reason)
        inherited = reason
        if kind == SOURCE:
            inherited = f"{reason} (trained on source {root.name})"
        for model in models_found:
            bury.bury(MODEL, model, inherited)
        found = _descent(connection, catalog, models_found, version)
        of_models = reason if version else f"{reason} (made by {_names(models_found)})"
        for row in found.versions:
            bury.bury_version(row, of_models)
        for job in found.jobs:
            bury.cancel(job, of_models)
        return found


def spread(catalog: Catalog) -> int:
    """Buries what began in the moment in which its model was revoked, as long as the model is not
    erased: nothing begins later. Returns versions and jobs."""
    num_buried = 0
    with catalog.reading() as connection:
        pairs = (
            select(tombstones.c.tenant, tombstones.c.digest, tombstones.c.subject)
            .join(contexts, uses_model(tombstones.c.digest))
            .join(jobs, jobs.c.context_id == contexts.c.id)
            .outerjoin(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
            .where(
                catalog.owns(tombstones.c.tenant),
                tombstones.c.kind == MODEL,
                tombstones.c.erased_at.is_(None),
                contexts.c.tenant == tombstones.c.tenant,
                or_(
                    _is_stoppable(),
                    and_(jobs.c.state == PUBLISHED, dataset_versions.c.revoked_at.is_(None)),
                ),
            )
            .distinct()
        )
        late = connection.execute(pairs).all()
    for tenant, digest, name in late:
        model = Ref(name, digest)
        found = commit_revoked(
            catalog.of(tenant),
            model,
            kind=MODEL,
            models_found=[model],
            version=None,
            reason=_reason_of(catalog.of(tenant), name),
            actor="datagen",
        )
        num_buried += len(found.versions) + len(found.jobs)
    return num_buried


def unerased(catalog: Catalog, *, after_id: int, limit: int) -> list[Tombstone]:
    """The oldest first. after_id: of the last one before."""
    query = (
        _select_tombstones(catalog)
        .where(tombstones.c.erased_at.is_(None), tombstones.c.id > after_id)
        .order_by(tombstones.c.id)
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [Tombstone(**row._mapping) for row in connection.execute(query)]


def mark_erased(catalog: Catalog, tombstone: Tombstone, *, settle_s: float) -> bool:
    """Once nothing is found any more, and settle_s after it was revoked: until then a worker that
    has not heard of it may still write. Returns whether it was marked."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        if tombstone.created_at + settle_s > now:
            return False
        connection.execute(
            update(tombstones).where(tombstones.c.id == tombstone.id).values(erased_at=now)
        )
        if tombstone.kind == VERSION:
            name, _, version = tombstone.subject.rpartition("@")
            erased = connection.execute(
                update(dataset_versions)
                .where(
                    dataset_versions.c.tenant == tombstone.tenant,
                    dataset_versions.c.name == name,
                    dataset_versions.c.version == int(version),
                )
                .values(erased_at=now)
                .returning(dataset_versions.c.job_id)
            )
            # Their objects went with the version's; their figures are of images that are gone.
            gone = attachments.c.job_id.in_(list(erased.scalars()))
            connection.execute(delete(attachments).where(gone))
        return True


def cancelled_jobs(catalog: Catalog, model_digest: str) -> list[EndedJob]:
    """Of a model, those whose objects may be there still."""
    query = (
        select(jobs.c.id, jobs.c.tenant, jobs.c.name, jobs.c.version, jobs.c.state)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .where(
            catalog.owns(jobs.c.tenant),
            uses_model(model_digest),
            jobs.c.state == CANCELLED,
            jobs.c.collected_at.is_(None),
        )
    )
    with catalog.reading() as connection:
        return [EndedJob(*row) for row in connection.execute(query)]


def attempts_of_model(catalog: Catalog, digest: str, *, limit: int) -> list[CachedObject]:
    return _cached(catalog, uses_model(digest), limit=limit)


def attempts_of_version(catalog: Catalog, job_id: int, *, limit: int) -> list[CachedObject]:
    """Of a revoked version's context, if nothing else lives of it."""
    own = select(jobs.c.context_id).where(jobs.c.id == job_id).scalar_subquery()
    return _cached(catalog, and_(contexts.c.id == own, ~_has_live_job()), limit=limit)


def _cached(catalog: Catalog, in_contexts: Any, *, limit: int) -> list[CachedObject]:
    query = (
        select(objects.c.id, objects.c.key)
        .distinct()
        .join(attempts, attempts.c.object_id == objects.c.id)
        .join(contexts, contexts.c.id == attempts.c.context_id)
        .where(in_contexts, catalog.owns(contexts.c.tenant))
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [CachedObject(*row) for row in connection.execute(query)]


def _has_live_job(*, apart_from: int = 0) -> Any:
    """A job of the context that runs, may be retried, or whose version was not revoked."""
    published = and_(jobs.c.state == PUBLISHED, dataset_versions.c.revoked_at.is_(None))
    return (
        select(jobs.c.id)
        .outerjoin(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .where(
            jobs.c.context_id == contexts.c.id,
            jobs.c.id != apart_from,
            jobs.c.kind == "dataset",
            or_(jobs.c.state.in_((*ACTIVE_STATES, FAILED)), published),
        )
        .exists()
    )


class _Burial:
    """One transaction of revocation."""

    def __init__(self, connection: Connection, tenant: str, actor: str) -> None:
        self._connection = connection
        self._tenant = tenant
        self._actor = actor
        self._now = now_s(connection)

    def bury(self, kind: str, what: Ref, reason: str) -> None:
        subject = self._free_subject(kind, what)
        if subject is not None:
            self._connection.execute(
                insert(tombstones).values(
                    tenant=self._tenant,
                    kind=kind,
                    subject=subject,
                    digest=what.digest,
                    reason=reason,
                    actor=self._actor,
                    created_at=self._now,
                )
            )
        if kind == MODEL:
            self._connection.execute(
                update(registered_models)
                .where(
                    registered_models.c.tenant == self._tenant,
                    registered_models.c.digest == what.digest,
                    registered_models.c.revoked_at.is_(None),
                )
                .values(revoked_at=self._now, revoked_reason=reason)
            )

    def _free_subject(self, kind: str, what: Ref) -> str | None:
        """None if it is buried already. Another model may have had the name before: both digests
        are to be refused."""
        for subject in (what.name, f"{what.name} {what.digest[:16]}"):
            known = select(tombstones.c.digest).where(
                tombstones.c.tenant == self._tenant,
                tombstones.c.kind == kind,
                tombstones.c.subject == subject,
            )
            digest = self._connection.execute(known).scalar_one_or_none()
            if digest is None:
                return subject
            if digest == what.digest:
                return None
        return None

    def bury_version(self, row: VersionRow, reason: str) -> None:
        self.bury(VERSION, Ref(f"{row.name}@{row.version}", row.digest), reason)
        self._connection.execute(
            update(dataset_versions)
            .where(dataset_versions.c.job_id == row.job_id)
            .values(revoked_at=self._now, revoked_reason=reason)
        )
        record_event(
            self._connection,
            row.job_id,
            DATASET_REVOKED,
            {"digest": row.digest, "reason": reason},
        )

    def cancel(self, job: JobRef, reason: str) -> None:
        cancelled = self._connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id, _is_stoppable())
            .values(state=CANCELLED, error=f"revoked: {reason}", finished_at=self._now)
        )
        if cancelled.rowcount == 1:
            record_event(self._connection, job.id, JOB_CANCELLED, {"reason": reason})


def _descent(
    connection: Connection,
    catalog: Catalog,
    found: Sequence[Ref],
    version: VersionRow | None,
) -> Descent:
    if version is not None:
        return _version_descent(connection, catalog, version)
    digests = sorted({model.digest for model in found})
    in_contexts = uses_any_model(digests)
    mine = select(contexts.c.id).where(in_contexts, catalog.owns(contexts.c.tenant))
    of_models = jobs.c.context_id.in_(mine)
    num_attempts, attempt_bytes = _count_attempts(connection, catalog, in_contexts)
    return Descent(
        models=list(found),
        versions=_kept_versions(connection, catalog, of_models),
        jobs=_live_jobs(connection, catalog, of_models),
        num_attempts=num_attempts,
        attempt_bytes=attempt_bytes,
        sharing=[],
    )


def _version_descent(connection: Connection, catalog: Catalog, version: VersionRow) -> Descent:
    of_version = jobs.c.id == version.job_id
    context = select(jobs.c.context_id).where(of_version).scalar_subquery()
    unused = and_(contexts.c.id == context, ~_has_live_job(apart_from=version.job_id))
    num_attempts, attempt_bytes = _count_attempts(connection, catalog, unused)
    others = and_(jobs.c.context_id == context, jobs.c.id != version.job_id)
    return Descent(
        models=[],
        versions=_kept_versions(connection, catalog, of_version),
        jobs=_live_jobs(
            connection, catalog, and_(jobs.c.context_id == context, jobs.c.kind == "preview")
        ),
        num_attempts=num_attempts,
        attempt_bytes=attempt_bytes,
        sharing=_kept_versions(connection, catalog, others),
    )


def _live_jobs(connection: Connection, catalog: Catalog, condition: Any) -> list[JobRef]:
    """Those that run or could be retried, and previews that can still be looked at."""
    query = (
        select(jobs.c.id, jobs.c.uid, jobs.c.name, jobs.c.version)
        .where(catalog.owns(jobs.c.tenant), condition, _is_stoppable())
        .order_by(jobs.c.id)
    )
    return [JobRef(*row) for row in connection.execute(query)]


def _is_stoppable() -> Any:
    """Also while its manifest is put, which nothing else stops: its commit is refused then."""
    preview = and_(jobs.c.kind == "preview", jobs.c.state == PUBLISHED)
    return or_(jobs.c.state.in_((*ACTIVE_STATES, FAILED)), preview)


def _kept_versions(connection: Connection, catalog: Catalog, condition: Any) -> list[VersionRow]:
    query = (
        select_versions(catalog)
        .where(condition, jobs.c.kind == "dataset", dataset_versions.c.revoked_at.is_(None))
        .order_by(dataset_versions.c.name, dataset_versions.c.version)
    )
    return [VersionRow(**row._mapping) for row in connection.execute(query)]


def _count_attempts(connection: Connection, catalog: Catalog, in_contexts: Any) -> tuple[int, int]:
    """Objects in the attempt cache, and their bytes."""
    distinct = (
        select(objects.c.id, objects.c.size_bytes)
        .distinct()
        .join(attempts, attempts.c.object_id == objects.c.id)
        .join(contexts, contexts.c.id == attempts.c.context_id)
        .where(in_contexts, catalog.owns(contexts.c.tenant))
        .subquery()
    )
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(distinct.c.size_bytes), 0))
    ).one()
    return int(row[0]), int(row[1])


def _reason_of(catalog: Catalog, name: str) -> str:
    found = get_tombstone(catalog, MODEL, name)
    return found.reason if found is not None else "its model was revoked"


def _names(found: Sequence[Ref]) -> str:
    return "model " + ", ".join(sorted({model.name for model in found}))


def _refs(rows: Iterable[Any]) -> list[Ref]:
    return sorted({Ref(str(row[0]), str(row[1])) for row in rows})


def _select_tombstones(catalog: Catalog) -> Select[Any]:
    return select(tombstones).where(catalog.owns(tombstones.c.tenant))
