"""The tenant's audit log, newest first: who did what."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from datagen.api.dependencies import Admin
from datagen.api.job_view import time_text
from datagen.api.paging import Page, Paging
from datagen.catalog.audit import AuditRow, list_audit


class AuditEntry(BaseModel):
    """actor: the id of a key, or oidc: and a subject. hash: over this row and the one before."""

    seq: int
    at: str
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    hash: str


def router() -> APIRouter:
    routes = APIRouter(tags=["audit"])

    @routes.get("/audit")
    def list_entries(context: Admin, page: Paging) -> Page[AuditEntry]:
        after = page.after(context.tenant, "audit", (int,))
        found = list_audit(
            context.catalog,
            limit=page.limit + 1,
            before_seq=int(after[0]) if after else None,
        )
        last = found[page.limit - 1].seq if len(found) > page.limit else None
        key = None if last is None else [last]
        return page.page([_view(row) for row in found], context.tenant, "audit", key)

    return routes


def _view(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=time_text(row.at),
        actor=row.actor,
        action=row.action,
        target=row.target,
        detail=json.loads(row.detail),
        hash=row.hash,
    )
