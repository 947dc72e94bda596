"""Models that tenants registered. Their files lie in the store; see datagen/registry.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import registered_models
from datagen.errors import ConflictError, NotFoundError


@dataclass(frozen=True)
class RegisteredModel:
    """config: config.json, as it was registered. training_data_sha256: None if it was trained on
    nothing."""

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
    """The same model under the same name is there already: that one. Raises ConflictError if the
    name is another model's."""
    assert catalog.tenant is not None, "models are registered for one tenant"
    try:
        with catalog.transaction() as connection:
            connection.execute(
                insert(registered_models).values(
                    tenant=catalog.tenant,
                    name=name,
                    digest=digest,
                    config=config,
                    training_data_sha256=training_data_sha256,
                    size_bytes=size_bytes,
                    created_by=created_by,
                    created_at=now_s(connection),
                )
            )
    except IntegrityError:
        pass
    found = get_model(catalog, name)
    if found is None or found.digest != digest:
        raise ConflictError(
            f"model {name!r} exists with another digest, and a model never changes; register it "
            "under another name"
        )
    return found


def get_model(catalog: Catalog, name: str) -> RegisteredModel | None:
    with catalog.reading() as connection:
        query = _select_model(catalog).where(registered_models.c.name == name)
        return _model(connection.execute(query).first())


def list_models(
    catalog: Catalog, *, after: str | None = None, limit: int = 200
) -> list[RegisteredModel]:
    """By name, those that were revoked as well. after: the last name of the page before."""
    query = _select_model(catalog).order_by(registered_models.c.name).limit(limit)
    if after is not None:
        query = query.where(registered_models.c.name > after)
    with catalog.reading() as connection:
        return [RegisteredModel(**row._mapping) for row in connection.execute(query)]


def deprecate_model(catalog: Catalog, name: str, *, reason: str) -> RegisteredModel:
    """It can be used on; whoever looks is told. A second time changes the reason alone.

    Raises NotFoundError.
    """
    with catalog.transaction() as connection:
        row = connection.execute(
            _select_model(catalog).where(registered_models.c.name == name)
        ).first()
        if row is None:
            raise NotFoundError(f"model {name!r} is not registered")
        connection.execute(
            update(registered_models)
            .where(registered_models.c.tenant == row.tenant, registered_models.c.name == name)
            .values(deprecated_at=row.deprecated_at or now_s(connection), deprecated_reason=reason)
        )
    found = get_model(catalog, name)
    assert found is not None
    return found


def _select_model(catalog: Catalog) -> Select[Any]:
    return select(registered_models).where(catalog.owns(registered_models.c.tenant))


def _model(row: Row[Any] | None) -> RegisteredModel | None:
    return None if row is None else RegisteredModel(**row._mapping)
