"""API keys of the tenant: made, listed, revoked by its administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from datagen.api.dependencies import SCOPES, Admin, Scope, audit
from datagen.api.job_view import optional_time, time_text
from datagen.api.paging import Key, Page, Paging
from datagen.api.recipe_body import Body
from datagen.catalog.keys import KeyRow, create_key, list_keys, revoke_key

_DAY_S = 86_400.0

KeyId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="16 hex digits")]


class KeyRequest(Body):
    """scopes: each implies the lesser ones; admin > submit > read."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}$")]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class KeyView(BaseModel):
    """key: shown by the answer that creates it, and never again."""

    id: str
    name: str
    scopes: list[str]
    created_by: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    key: str | None


def router() -> APIRouter:
    routes = APIRouter(prefix="/keys", tags=["keys"])

    @routes.post("", status_code=201)
    def make_key(context: Admin, body: KeyRequest) -> KeyView:
        days = body.expires_in_days
        row, key = create_key(
            context.catalog,
            tenant=context.tenant,
            name=body.name,
            scopes=[scope for scope in SCOPES if scope in body.scopes],
            created_by=context.principal.actor,
            expires_in_s=None if days is None else days * _DAY_S,
        )
        audit(context, "key.create", row.id, {"name": row.name, "scopes": list(row.scopes)})
        return _view(row, key)

    @routes.get("")
    def list_all_keys(context: Admin, page: Paging) -> Page[KeyView]:
        """Oldest first, revoked ones as well."""
        after = page.after(context.tenant, "keys", (float, str))
        found = list_keys(
            context.catalog,
            limit=page.limit + 1,
            after=(float(after[0]), str(after[1])) if after else None,
        )
        last = found[page.limit - 1] if len(found) > page.limit else None
        key: Key | None = None if last is None else [last.created_at, last.id]
        return page.page([_view(row, None) for row in found], context.tenant, "keys", key)

    @routes.delete("/{key_id}", status_code=204)
    def delete_key(context: Admin, key_id: KeyId) -> Response:
        """Revokes it: from now on it opens nothing."""
        revoke_key(context.catalog, key_id)
        audit(context, "key.revoke", key_id, {})
        return Response(status_code=204)

    return routes


def _view(row: KeyRow, key: str | None) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        scopes=list(row.scopes),
        created_by=row.created_by,
        created_at=time_text(row.created_at),
        expires_at=optional_time(row.expires_at),
        revoked_at=optional_time(row.revoked_at),
        key=key,
    )
