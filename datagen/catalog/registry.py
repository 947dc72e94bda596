"""Models that tenants registered, in versions. Their files lie in the store; see
datagen/registry.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, insert, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import registered_models
from datagen.errors import ConflictError, NotFoundError

_NUM_TRIES = 5


@dataclass(frozen=True)
class RegisteredModel:
    """version: 1 for the first model of its name. config: config.json, as it was registered.
    training_data_sha256: None if it was trained on nothing."""

    tenant: str
    name: str
    version: int
    digest: str
    config: str
    training_data_sha256: str | None
    size_bytes: int
    created_by: str | None
    created_at: float
    deprecated_at: float | None
    deprecated_reason: str | None
    revoked_at: float | None
    revoked_reason: str | None

    @property
    def exact_name(self) -> str:
        """What resolved recipes call it: NAME for the first version, else NAME@VERSION."""
        return self.name if self.version == 1 else f"{self.name}@{self.version}"


def insert_model(
    catalog: Catalog,
    *,
    name: str,
    digest: str,
    config: str,
    training_data_sha256: str | None,
    size_bytes: int,
    created_by: str | None,
) -> RegisteredModel:
    """The next version of its name; the same model under that name is there already: that one.

    Raises ConflictError if others keep registering models of the name.
    """
    assert catalog.tenant is not None, "models are registered for one tenant"
    for _ in range(_NUM_TRIES):
        known = models_named(catalog, name)
        for model in known:
            if model.digest == digest:
                return model
        try:
            with catalog.transaction() as connection:
                connection.execute(
                    insert(registered_models).values(
                        tenant=catalog.tenant,
                        name=name,
                        version=known[-1].version + 1 if known else 1,
                        digest=digest,
                        config=config,
                        training_data_sha256=training_data_sha256,
                        size_bytes=size_bytes,
                        created_by=created_by,
                        created_at=now_s(connection),
                    )
                )
        except IntegrityError:
            continue  # another registration took the number
    found = get_model_of_digest(catalog, name, digest)
    if found is None:
        raise ConflictError(f"models {name!r} are being registered by others; try again")
    return found


def get_model(catalog: Catalog, name: str, version: int | None = None) -> RegisteredModel | None:
    """version: None for the newest that is neither deprecated nor revoked, else the newest."""
    known = models_named(catalog, name)
    if version is not None:
        return next((model for model in known if model.version == version), None)
    kept = [model for model in known if model.revoked_at is None]
    open_ = [model for model in kept if model.deprecated_at is None]
    return next(reversed(open_ or kept or known), None)


def get_model_of_digest(catalog: Catalog, name: str, digest: str) -> RegisteredModel | None:
    return next((model for model in models_named(catalog, name) if model.digest == digest), None)


def models_named(catalog: Catalog, name: str) -> list[RegisteredModel]:
    """All versions, the oldest first."""
    query = _select_model(catalog).where(registered_models.c.name == name)
    with catalog.reading() as connection:
        rows = connection.execute(query.order_by(registered_models.c.version))
        return [RegisteredModel(**row._mapping) for row in rows]


def list_models(
    catalog: Catalog, *, after: tuple[str, int] | None = None, limit: int = 200
) -> list[RegisteredModel]:
    """By name and version, those that were revoked as well. after: the last of the page before."""
    place = tuple_(registered_models.c.name, registered_models.c.version)
    query = (
        _select_model(catalog)
        .order_by(registered_models.c.name, registered_models.c.version)
        .limit(limit)
    )
    if after is not None:
        query = query.where(place > tuple_(literal(after[0]), literal(after[1])))
    with catalog.reading() as connection:
        return [RegisteredModel(**row._mapping) for row in connection.execute(query)]


def deprecate_model(catalog: Catalog, name: str, version: int, *, reason: str) -> RegisteredModel:
    """It can be used on; whoever looks is told. A second time changes the reason alone.

    Raises NotFoundError.
    """
    found = get_model(catalog, name, version)
    if found is None:
        raise NotFoundError(f"model {name!r} is not registered")
    with catalog.transaction() as connection:
        at = found.deprecated_at or now_s(connection)
        connection.execute(
            update(registered_models)
            .where(*_is(found))
            .values(deprecated_at=at, deprecated_reason=reason)
        )
    return replace(found, deprecated_at=at, deprecated_reason=reason)


def renew_config(catalog: Catalog, model: RegisteredModel, config: str) -> None:
    """config: of the same digest; only facts differ."""
    with catalog.transaction() as connection:
        connection.execute(update(registered_models).where(*_is(model)).values(config=config))


def delete_model(catalog: Catalog, model: RegisteredModel) -> None:
    with catalog.transaction() as connection:
        connection.execute(delete(registered_models).where(*_is(model)))


def _is(model: RegisteredModel) -> tuple[ColumnElement[bool], ...]:
    return (
        registered_models.c.tenant == model.tenant,
        registered_models.c.name == model.name,
        registered_models.c.version == model.version,
    )


def _select_model(catalog: Catalog) -> Select[Any]:
    return select(registered_models).where(catalog.owns(registered_models.c.tenant))
