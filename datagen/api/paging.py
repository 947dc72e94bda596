"""Keyset cursors: opaque, and bound to the tenant and the list that they were made for.

Page N costs what page 1 costs: a cursor says after which key to go on. Called by every router
that lists.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

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
            Query(pattern=r"^[A-Za-z0-9_-]{1,1024}$", description="next_cursor of the page before"),
        ] = None,
    ) -> None:
        self.limit = limit
        self.cursor = cursor

    def after(self, tenant: str, scope: str, kinds: tuple[type, ...]) -> Key | None:
        """The key of the last item of the page before, or None for the first page.

        scope: the list, with the filters if a cursor must not outlive them. kinds: of the key's
        parts. Raises NotFoundError: a cursor that this list has not given to this tenant is none.
        """
        if self.cursor is None:
            return None
        bound, key = _read(self.cursor)
        fits = len(key) == len(kinds) and all(map(_is, key, kinds))
        if bound != _bound(tenant, scope) or not fits:
            raise _no_cursor()
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
    content = [_bound(tenant, scope), *key]
    text = json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str) -> tuple[object, Key]:
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        content = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        raise _no_cursor() from None
    if not isinstance(content, list) or not content:
        raise _no_cursor()
    return content[0], content[1:]


def _no_cursor() -> NotFoundError:
    return NotFoundError("this list has no such cursor; begin with its first page")


def _bound(tenant: str, scope: str) -> str:
    """No secret: a forged cursor reaches nothing, since every query is the tenant's own."""
    return hashlib.sha256(f"{tenant}/{scope}".encode()).hexdigest()[:12]


def _is(value: object, kind: type) -> bool:
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    if kind is float:
        return type(value) in (int, float)
    return isinstance(value, str) and len(value) <= 255 and value.isprintable()
