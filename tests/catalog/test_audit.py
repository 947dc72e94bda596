"""The audit log: append-only, chained by hashes, a chain per tenant."""

from __future__ import annotations

import threading

import pytest

from datagen.catalog.audit import (
    FIRST_HASH,
    append_audit,
    audited_tenants,
    has_row,
    list_audit,
    record_audit,
    verify_chain,
)
from datagen.catalog.catalog import Catalog


def write(catalog: Catalog, number: int = 0, *, tenant: str = "acme") -> None:
    append_audit(
        catalog,
        tenant=tenant,
        actor="me",
        action="job.submit",
        target=f"target {number} é",
        detail={"number": number, "text": "ü\u2028"},
    )


def test_rows_are_numbered_and_chained(any_catalog: Catalog) -> None:
    for number in range(3):
        write(any_catalog, number)
    rows = list_audit(any_catalog.of("acme"), limit=10)
    assert [row.seq for row in rows] == [3, 2, 1]
    assert rows[2].previous_hash == FIRST_HASH
    assert [rows[0].previous_hash, rows[1].previous_hash] == [rows[1].hash, rows[2].hash]
    report = verify_chain(any_catalog, "acme")
    assert (report.num_rows, report.broken_at) == (3, None)
    assert (report.head_seq, report.head_hash) == (3, rows[0].hash)


def test_an_empty_log_is_sound(any_catalog: Catalog) -> None:
    report = verify_chain(any_catalog, "acme")
    assert (report.num_rows, report.broken_at, report.head_hash) == (0, None, FIRST_HASH)


def test_each_tenant_has_its_own_chain(any_catalog: Catalog) -> None:
    write(any_catalog)
    write(any_catalog, tenant="other")
    assert audited_tenants(any_catalog) == ["acme", "other"]
    assert audited_tenants(any_catalog.of("acme")) == ["acme"]
    assert [row.seq for row in list_audit(any_catalog, limit=5)] == [1, 1]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET actor = 'someone else' WHERE seq = 2",
        "UPDATE audit_log SET detail = '{}' WHERE seq = 2",
        "UPDATE audit_log SET at = at + 0.001 WHERE seq = 2",
        "UPDATE audit_log SET tenant = 'other' WHERE seq = 2",
        "UPDATE audit_log SET seq = 9 WHERE seq = 2",
        "DELETE FROM audit_log WHERE seq = 2",
    ],
)
def test_a_change_in_the_middle_breaks_the_chain(any_catalog: Catalog, change: str) -> None:
    for number in range(4):
        write(any_catalog, number)
    with any_catalog.transaction() as connection:
        connection.exec_driver_sql(change)
    broken_at = verify_chain(any_catalog, "acme").broken_at
    assert broken_at in (2, 3)


def test_a_row_written_anew_with_a_fitting_hash_is_found_by_the_next(any_catalog: Catalog) -> None:
    for number in range(3):
        write(any_catalog, number)
    with any_catalog.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM audit_log WHERE seq >= 2")
    write(any_catalog, 77)  # takes the place of number 2, and its hash fits
    old = list_audit(any_catalog, limit=1)[0]
    assert verify_chain(any_catalog, "acme").broken_at is None
    assert not has_row(any_catalog, "acme", f"3:{old.hash}")
    assert has_row(any_catalog, "acme", f"2:{old.hash}")


def test_rows_cut_off_at_the_end_are_found_by_the_head(any_catalog: Catalog) -> None:
    for number in range(3):
        write(any_catalog, number)
    report = verify_chain(any_catalog, "acme")
    head = f"{report.head_seq}:{report.head_hash}"
    assert has_row(any_catalog, "acme", head)
    with any_catalog.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM audit_log WHERE seq = 3")
    assert verify_chain(any_catalog, "acme").broken_at is None
    assert not has_row(any_catalog, "acme", head)


def test_many_writers_at_once_make_one_chain(any_catalog: Catalog) -> None:
    threads = [
        threading.Thread(target=lambda: [write(any_catalog, n) for n in range(5)]) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = verify_chain(any_catalog, "acme")
    assert (report.num_rows, report.broken_at) == (30, None)


def test_what_is_rolled_back_leaves_no_gap(any_catalog: Catalog) -> None:
    write(any_catalog)

    class Undone(Exception):
        pass

    def undone() -> None:
        with any_catalog.transaction() as connection:
            record_audit(connection, tenant="acme", actor="a", action="b", target="c", detail={})
            raise Undone

    with pytest.raises(Undone):
        undone()
    write(any_catalog)
    report = verify_chain(any_catalog, "acme")
    assert (report.num_rows, report.broken_at, report.head_seq) == (2, None, 2)
