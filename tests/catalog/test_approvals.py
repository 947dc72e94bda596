"""Who signed a version off, and what holds now: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from sqlalchemy import update

from datagen.approval import (
    check_pull,
    history_json,
    sign_off,
    standing_of,
    standings_of,
    until_of,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import list_events
from datagen.catalog.rows import VersionRow
from datagen.catalog.tables import approvals, dataset_versions
from datagen.errors import ForbiddenError, InputError, NotFoundError, RevokedError
from tests.catalog.conftest import published_row

TRIAGE, TOY = "train triage models", "a toy"
NEXT_CENTURY = datetime.date(2126, 1, 31)


@pytest.fixture
def catalog(any_catalog: Catalog) -> Catalog:
    return any_catalog.of("local")


@pytest.fixture
def row(catalog: Catalog) -> VersionRow:
    return published_row(catalog)


def expire_newest(catalog: Catalog, row: VersionRow) -> None:
    """As if the time of the newest sign-off that has an end were over."""
    with catalog.transaction() as connection:
        past = now_s(connection) - 1
        connection.execute(
            update(approvals)
            .where(approvals.c.job_id == row.job_id, approvals.c.expires_at.is_not(None))
            .values(expires_at=past)
        )


def test_a_version_is_a_draft_until_somebody_signs_it_off_for_a_use(
    catalog: Catalog, row: VersionRow
) -> None:
    assert standing_of(catalog, row).state == "draft"
    sign_off(catalog, row, state="reviewed", use=f"  {TRIAGE.replace(' ', '  ')} ", signed_by="A")
    signed = sign_off(
        catalog, row, state="approved", use=TOY, signed_by="B", until=NEXT_CENTURY, note="fine"
    )
    assert until_of(signed) == NEXT_CENTURY
    standing = standing_of(catalog, row)
    assert (standing.state, standing.use, standing.signed_by, standing.until) == (
        *("approved", TOY, "B"),
        NEXT_CENTURY,
    )
    assert {each.use: each.state for each in standing.uses} == {TRIAGE: "reviewed", TOY: "approved"}
    other = published_row(catalog, seed="f")
    assert {k: s.state for k, s in standings_of(catalog, [row, other]).items()} == {
        row.job_id: "approved",
        other.job_id: "draft",
    }


def test_what_has_expired_gives_way_to_what_held_before_it(
    catalog: Catalog, row: VersionRow
) -> None:
    sign_off(catalog, row, state="reviewed", use=TRIAGE, signed_by="A")
    sign_off(catalog, row, state="approved", use=TRIAGE, signed_by="B", until=NEXT_CENTURY)
    expire_newest(catalog, row)
    assert standing_of(catalog, row).state == "reviewed"
    assert [(e["state"], e["holds"]) for e in history_json(catalog, [row])] == [
        ("approved", False),
        ("reviewed", True),
    ]


def test_a_draft_takes_back_what_was_signed_for_its_use_alone(
    catalog: Catalog, row: VersionRow
) -> None:
    sign_off(catalog, row, state="approved", use=TRIAGE, signed_by="A")
    sign_off(catalog, row, state="reviewed", use=TOY, signed_by="A")
    sign_off(catalog, row, state="draft", use=TRIAGE, signed_by="B", note="a copy was found")
    standing = standing_of(catalog, row)
    assert (standing.state, standing.use) == ("reviewed", TOY)
    with pytest.raises(NotFoundError, match="never signed for 'toy'; it was for 'a toy', 'train"):
        sign_off(catalog, row, state="draft", use="toy", signed_by="B")
    types = [each.type for each in list_events(catalog, row.job_id, after_id=0, limit=50)]
    assert types[-2:] == ["dataset.approved", "dataset.withdrawn"]


def test_who_may_only_review_neither_approves_nor_undoes_an_approval(
    catalog: Catalog, row: VersionRow
) -> None:
    for state in ("approved", "reviewed"):
        if state == "reviewed":
            sign_off(catalog, row, state="approved", use=TOY, signed_by="admin")
        with pytest.raises(ForbiddenError, match="an admin key is needed"):
            sign_off(catalog, row, state=state, use=TOY, signed_by="ci", may_approve=False)
    sign_off(catalog, row, state="reviewed", use=TRIAGE, signed_by="ci", may_approve=False)
    assert len(history_json(catalog, [row])) == 2


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"state": "aproved"}, "expected draft, reviewed, approved; did you mean 'approved'"),
    ({"use": " "}, "use: ' ': expected 1 to 200 printable characters"),
    ({"use": "x" * 201}, "use: 201 characters, expected at most 200"),
    ({"signed_by": "a\x1bb"}, "by: .* printable"),
    ({"until": datetime.date(2020, 1, 1)}, "until: this day has passed"),
    ({"state": "draft", "until": NEXT_CENTURY}, "until: a draft has no end"),
    ({"note": "n" * 2001}, "note: 2001 characters"),
]


def test_what_cannot_be_signed_is_told_and_changes_nothing(
    catalog: Catalog, row: VersionRow
) -> None:
    for changes, message in REFUSED:
        values = {"state": "approved", "use": TOY, "signed_by": "A"} | changes
        with pytest.raises(InputError, match=message):
            sign_off(catalog, row, **values)
    assert history_json(catalog, [row]) == []


def test_a_revoked_version_cannot_be_signed_off(catalog: Catalog, row: VersionRow) -> None:
    with catalog.transaction() as connection:
        connection.execute(update(dataset_versions).values(revoked_at=1.0))
    with pytest.raises(RevokedError):
        sign_off(catalog, row, state="reviewed", use=TOY, signed_by="A")


def is_given(catalog: Catalog, row: VersionRow, policy: str, use: str | None) -> bool:
    try:
        check_pull(catalog, row, policy=policy, use=use)
    except ForbiddenError:
        return False
    return True


def test_the_policy_gives_out_what_is_signed_off_enough_and_for_the_named_use(
    catalog: Catalog, row: VersionRow
) -> None:
    def table() -> dict[tuple[str, str | None], bool]:
        return {
            (policy, use): is_given(catalog, row, policy, use)
            for policy in ("open", "reviewed", "approved")
            for use in (None, TRIAGE, TOY)
        }

    assert [key for key, is_open in table().items() if is_open] == [("open", None)]
    sign_off(catalog, row, state="reviewed", use=TRIAGE, signed_by="A")
    given = [("open", None), ("reviewed", None), ("reviewed", TRIAGE)]
    assert [key for key, is_open in table().items() if is_open] == given
    sign_off(catalog, row, state="approved", use=TOY, signed_by="B", until=NEXT_CENTURY)
    refused = [("open", TRIAGE), ("approved", None), ("approved", TRIAGE)]
    assert [key for key, is_open in table().items() if not is_open] == refused
    expire_newest(catalog, row)
    assert [key for key, is_open in table().items() if is_open] == given
    with pytest.raises(
        ForbiddenError,
        match=r"small@1 is reviewed for 'train triage models'; DATAGEN_PULL_POLICY=approved gives "
        r"out only what is approved for 'a toy': .* `datagen approve small@1 --use 'a toy'",
    ):
        check_pull(catalog, row, policy="approved", use=TOY)
