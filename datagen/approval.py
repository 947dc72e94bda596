"""Signing versions off: draft, reviewed or approved, for a named use, by whom, until when; and the
policy that refuses pulls of what is not signed off.

Called by the command line and the API, before they give a version's images out.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from datagen.catalog.approvals import (
    APPROVED,
    DRAFT,
    REVIEWED,
    STATES,
    SignOff,
    insert_sign_off,
    list_sign_offs,
    sign_offs_now,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import VersionRow
from datagen.errors import ForbiddenError, InputError
from datagen.faults import suggest

__all__ = ["APPROVED", "DRAFT", "REVIEWED", "STATES"]

_DAY_S = 86_400.0
MAX_USE, MAX_SIGNER, MAX_NOTE = 200, 127, 2_000


@dataclass(frozen=True)
class Standing:
    """What a version is signed off as now. use, signed_by, until: of the highest sign-off that
    holds, None of a draft. uses: all that holds, the highest first."""

    state: str
    use: str | None = None
    signed_by: str | None = None
    until: datetime.date | None = None
    uses: tuple[SignOff, ...] = ()


def sign_off(
    catalog: Catalog,
    row: VersionRow,
    *,
    state: str,
    use: str,
    signed_by: str,
    until: datetime.date | None = None,
    note: str = "",
    may_approve: bool = True,
) -> SignOff:
    """until: the last day on which it holds, in UTC. `draft` takes back what was signed for the
    use. Raises InputError, ForbiddenError, NotFoundError or RevokedError; see catalog/approvals."""
    if state not in STATES:
        raise InputError(f"state {state!r}: expected {', '.join(STATES)}{suggest(state, STATES)}")
    if state == DRAFT and until is not None:
        raise InputError("until: a draft has no end; leave it out")
    return insert_sign_off(
        catalog,
        row,
        state=state,
        use=named_use(use),
        signed_by=_one_line("by", signed_by, MAX_SIGNER),
        expires_at=None if until is None else _end_of(until),
        note=_bounded("note", note.strip(), MAX_NOTE),
        may_approve=may_approve,
    )


def standing_of(catalog: Catalog, row: VersionRow) -> Standing:
    return standings_of(catalog, [row])[row.job_id]


def standings_of(catalog: Catalog, rows: Collection[VersionRow]) -> dict[int, Standing]:
    """By job id."""
    found = sign_offs_now(catalog, [row.job_id for row in rows])
    return {row.job_id: _standing(found.get(row.job_id, {}).values()) for row in rows}


def history_json(catalog: Catalog, rows: Collection[VersionRow]) -> list[dict[str, Any]]:
    """Every sign-off of these versions, the newest first, as signed_json gives it."""
    by_job = {row.job_id: row for row in rows}
    now = sign_offs_now(catalog, by_job)
    held = {each.id for by_use in now.values() for each in by_use.values()}
    return [
        signed_json(by_job[each.job_id], each, holds=each.id in held)
        for each in list_sign_offs(catalog, by_job)
    ]


def check_pull(catalog: Catalog, row: VersionRow, *, policy: str, use: str | None) -> None:
    """policy: of PULL_POLICIES. use: what the images are for; a pull that names it needs a sign-off
    for that very use: an approval, where the policy does not say less. The policy `approved` wants
    it named: an approval is for its use alone.

    Raises ForbiddenError that names state, policy and remedy.
    """
    if policy == "open" and use is None:
        return
    needed = REVIEWED if policy == REVIEWED else APPROVED
    standing = standing_of(catalog, row)
    wanted = None if use is None else " ".join(use.split())
    enough = [
        each
        for each in standing.uses
        if (wanted is None or each.use == wanted) and _rank(each.state) >= _rank(needed)
    ]
    if enough and (wanted is not None or policy == REVIEWED):
        return
    name = f"{row.name}@{row.version}"
    signed = ", ".join(f"{each.state} for {each.use!r}" for each in standing.uses) or "a draft"
    rule = "a pull for a named use" if policy == "open" else f"DATAGEN_PULL_POLICY={policy}"
    if enough:
        raise ForbiddenError(
            f"{name} is {signed}; {rule} gives out only what is approved for a named use: name the "
            f"use that you pull for: `datagen pull {name} OUT --use {enough[0].use!r}`, of the API "
            "?use="
        )
    for_use = "" if wanted is None else f" for {wanted!r}"
    raise ForbiddenError(
        f"{name} is {signed}; {rule} gives out only what is {needed}{for_use}: look at its report, "
        f"then `datagen approve {name} --use {wanted or 'TEXT'!r} --by WHO --state {needed}`"
    )


def until_of(signed: SignOff) -> datetime.date | None:
    """The last day on which it holds."""
    if signed.expires_at is None:
        return None
    return datetime.datetime.fromtimestamp(signed.expires_at - _DAY_S, datetime.UTC).date()


def signed_json(row: VersionRow, signed: SignOff, *, holds: bool) -> dict[str, Any]:
    """As command line and API show it. holds: whether nothing newer or its end has undone it."""
    until = until_of(signed)
    at = datetime.datetime.fromtimestamp(signed.created_at, datetime.UTC)
    return {
        "name": row.name,
        "version": row.version,
        "state": signed.state,
        "use": signed.use,
        "by": signed.signed_by,
        "until": None if until is None else until.isoformat(),
        "note": signed.note,
        "signed_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "holds": holds,
    }


def standing_json(standing: Standing) -> dict[str, Any]:
    """As lists of versions show it."""
    return {
        "state": standing.state,
        "use": standing.use,
        "by": standing.signed_by,
        "until": None if standing.until is None else standing.until.isoformat(),
    }


def named_use(text: str) -> str:
    """As it is kept and compared: one line, single blanks."""
    return _one_line("use", text, MAX_USE)


def _standing(holding: Collection[SignOff]) -> Standing:
    signed = (each for each in holding if each.state != DRAFT)
    ordered = tuple(sorted(signed, key=lambda each: (_rank(each.state), each.id), reverse=True))
    if not ordered:
        return Standing(DRAFT)
    highest = ordered[0]
    return Standing(highest.state, highest.use, highest.signed_by, until_of(highest), ordered)


def _rank(state: str) -> int:
    return STATES.index(state)


def _end_of(day: datetime.date) -> float:
    """The first moment after the day, in UTC."""
    start = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    return start.timestamp() + _DAY_S


def _one_line(field: str, text: str, most: int) -> str:
    line = " ".join(text.split())
    if not line or not line.isprintable():
        raise InputError(f"{field}: {text[:80]!r}: expected 1 to {most} printable characters")
    return _bounded(field, line, most)


def _bounded(field: str, text: str, most: int) -> str:
    if len(text) > most:
        raise InputError(f"{field}: {len(text)} characters, expected at most {most}")
    return text
