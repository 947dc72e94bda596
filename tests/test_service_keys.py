"""datagen keys, audit and tenants: the operator's commands, on the database directly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import find_key, hash_of
from datagen.catalog.tenants import Quota, get_quota
from datagen.cli import main


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def opened(home: Path) -> Catalog:
    return Catalog(f"sqlite:///{home / 'catalog.sqlite3'}", tenant=None)


def test_a_key_is_printed_once_and_alone(home: Path) -> None:
    made = run(home, "keys", "create", "--tenant", "acme", "--name", "ci", "--scope", "admin")
    assert made.exit_code == 0
    key = made.stdout.strip()
    row = find_key(opened(home), key.split("_")[1])
    assert row is not None
    assert row.secret_sha256 == hash_of(key[20:])
    assert (row.tenant, row.name, row.scopes) == ("acme", "ci", ("admin",))
    listed = run(home, "keys", "list")
    assert row.id in listed.stdout
    assert key[20:] not in listed.stdout


def test_a_revoked_key_is_told_so(home: Path) -> None:
    made = json.loads(run(home, "keys", "create", "--tenant", "a", "--name", "x", "--json").stdout)
    assert run(home, "keys", "revoke", made["id"]).exit_code == 0
    (row,) = json.loads(run(home, "keys", "list", "--tenant", "a", "--json").stdout)["keys"]
    assert row["state"] == "revoked"
    assert json.loads(run(home, "keys", "list", "--tenant", "b", "--json").stdout)["keys"] == []
    assert run(home, "keys", "revoke", "0" * 16).exit_code == 3


def test_a_bad_tenant_or_name_writes_nothing(home: Path) -> None:
    for arguments in (
        ("--tenant", "../x", "--name", "x"),
        ("--tenant", "a", "--name", "a b"),
        ("--tenant", "a", "--name", "x", "--scope", "root"),
        ("--tenant", "a", "--name", "x", "--expires-days", "0"),
    ):
        assert run(home, "keys", "create", *arguments).exit_code == 2, arguments
    assert not home.exists()


def test_a_changed_audit_log_is_damage(home: Path) -> None:
    for name in ("one", "two"):
        run(home, "keys", "create", "--tenant", "acme", "--name", name)
    sound = json.loads(run(home, "audit", "verify", "--json").stdout)
    assert [(log["tenant"], log["rows"], log["broken_at"]) for log in sound["logs"]] == [
        ("acme", 2, None)
    ]
    head = sound["logs"][0]["head"]
    assert run(home, "audit", "verify", "--tenant", "acme", "--head", head).exit_code == 0
    with opened(home).transaction() as connection:
        connection.exec_driver_sql("DELETE FROM audit_log WHERE seq = 2")
    assert run(home, "audit", "verify").exit_code == 0
    cut = run(home, "audit", "verify", "--tenant", "acme", "--head", head)
    assert cut.exit_code == 5
    assert "cut off" in cut.stderr
    with opened(home).transaction() as connection:
        connection.exec_driver_sql("UPDATE audit_log SET actor = 'x'")
    changed = run(home, "audit", "verify")
    assert changed.exit_code == 5
    assert "broken at row 1" in changed.stdout


def test_a_malformed_head_is_bad_input(home: Path) -> None:
    for arguments in (("--head", "1:x", "--tenant", "a"), ("--head", f"1:{'a' * 64}")):
        assert run(home, "audit", "verify", *arguments).exit_code == 2


def test_a_quota_that_is_left_out_stays_and_none_lifts_it(home: Path) -> None:
    set_quota = ("tenants", "set-quota", "--tenant", "acme")
    assert run(home, *set_quota, "--running-jobs", "2", "--bytes", "1000").exit_code == 0
    assert run(home, *set_quota, "--images-per-day", "10", "--attempt-days", "7").exit_code == 0
    assert get_quota(opened(home), "acme") == Quota(2, 10, 1000, 7.0)
    lifted = run(home, *set_quota, "--bytes", "none", "--attempt-days", "none", "--json")
    assert json.loads(lifted.stdout)["max_running_jobs"] == 2
    assert get_quota(opened(home), "acme") == Quota(2, 10, None, None)
    for wrong in (("--bytes", "many"), ("--running-jobs", "-1"), ("--attempt-days", "0")):
        assert run(home, *set_quota, *wrong).exit_code == 2
    assert json.loads(run(home, "audit", "verify", "--json").stdout)["logs"][0]["rows"] == 3


def test_over_a_service_a_tenant_is_answered_with_the_way_to_the_operators_form(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAGEN_API_URL", "http://127.0.0.1:9")
    for words in (("create", "--name", "ci"), ("list",)):
        refused = run(home, "keys", *words, "--tenant", "other")
        assert refused.exit_code == 2
        assert "unset DATAGEN_API_URL" in refused.stderr
