"""Keyset cursors: opaque, and bound to the tenant and the list that they were made for.

Page N costs what page 1 costs: a cursor says after which key to go on. Called by every router
that lists.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from datagen.api.problems import field_problem
from datagen.errors import NotFoundError

Item = TypeVar("Item")

Key = Sequence[str | int | float]

MAX_LIMIT = 200


class Page(BaseModel, Generic[Item]):
    """One page of a list. next_cursor: null at the end."""

    items: list[Item]
    next_cursor: str | None


class PageRequest:
    """limit and cursor of the query: `page: Annotated[PageRequest, Depends()]`, or `Paging`."""

    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items per page")] = 50,
        cursor: Annotated[
            str | None,
            Query(max_length=1024, description="next_cursor of the page before"),
        ] = None,
    ) -> None:
        self.limit = limit
        self.cursor = cursor

    def after(self, tenant: str, scope: str, kinds: tuple[type, ...]) -> Key | None:
        """The key of the last item of the page before, or None for the first page.

        scope: the list, with the filters if a cursor must not outlive them. kinds: of the key's
        parts. Raises RequestError for a cursor that is none, NotFoundError for another tenant's.
        """
        if self.cursor is None:
            return None
        owner, list_name, key = _read(self.cursor)
        if owner != _bound(tenant, ""):
            raise NotFoundError("this cursor does not exist; begin with the first page")
        fits = len(key) == len(kinds) and all(map(_is, key, kinds))
        if list_name != _bound(tenant, scope) or not fits:
            raise _no_cursor(self.cursor)
        return key

    def page(self, items: list[Item], tenant: str, scope: str, last: Key | None) -> Page[Item]:
        """items: at most limit + 1 were asked for, to know whether more follow. last: the key of
        item number `limit`."""
        more = len(items) > self.limit and last is not None
        cursor = _write(tenant, scope, last) if more and last is not None else None
        return Page[Item](items=items[: self.limit], next_cursor=cursor)

    def short_page(
        self, items: list[Item], tenant: str, scope: str, last: Key | None
    ) -> Page[Item]:
        """As page, where fewer items than were asked for are no end. last: None at the end."""
        cursor = None if last is None else _write(tenant, scope, last)
        return Page[Item](items=items, next_cursor=cursor)


Paging = Annotated[PageRequest, Depends()]


def _write(tenant: str, scope: str, key: Key) -> str:
    content = [_bound(tenant, ""), _bound(tenant, scope), *key]
    text = json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[str, str, Key]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise _no_cursor(cursor) from None
    if not isinstance(content, list) or len(content) < 2:
        raise _no_cursor(cursor)
    owner, list_name, *key = content
    if not isinstance(owner, str) or not isinstance(list_name, str):
        raise _no_cursor(cursor)
    return owner, list_name, key


def _no_cursor(cursor: str) -> Exception:
    return field_problem(
        "query.cursor", cursor, "next_cursor of this list's page before", status=400
    )


def _bound(tenant: str, scope: str) -> str:
    """No secret: a forged cursor reaches nothing, since every query is the tenant's own."""
    return hashlib.sha256(f"{tenant}/{scope}".encode()).hexdigest()[:12]


def _is(value: object, kind: type) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, str) and len(value) <= 255 and value.isprintable()
