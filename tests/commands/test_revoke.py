"""`datagen revoke`, and what the other commands say of what was revoked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.catalog.audit import verify_chain
from datagen.catalog.catalog import Catalog
from datagen.cli import main
from datagen.settings import load_settings
from datagen.store import open_store
from tests.published import publish


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def published(home: Path) -> Path:
    """A home with small@1, small@2 and other@1."""
    settings = load_settings({}, home=home)
    publish(settings)
    publish(settings, {"classes": [{"name": "cat", "count": 61}]})
    publish(settings, {"name": "other", "seed": 9})
    return home


def datagen(home: Path, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home)], input=answer)


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


def objects(home: Path) -> list[str]:
    folder = home / "objects"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_dry_run_lists_and_changes_nothing(published: Path) -> None:
    before = objects(published)
    listed = parsed(datagen(published, "revoke", "noise", "--dry-run", "--json"))
    assert [f"{v['name']}@{v['version']}" for v in listed["versions"]] == [
        "other@1",
        "small@1",
        "small@2",
    ]
    assert listed["kind"] == "model"
    assert listed["num_attempts"] > 0
    told = datagen(published, "revoke", "small@1", "--dry-run").stdout
    assert "small@2: may hold the same images" in told
    assert objects(published) == before
    assert datagen(published, "show", "small@1").exit_code == 0


def test_every_command_tells_what_was_revoked(published: Path, tmp_path: Path) -> None:
    digest = parsed(datagen(published, "show", "small@1", "--json"))["digest"]

    done = parsed(
        datagen(published, "revoke", "small@1", "--reason", "wrong labels", "--yes", "--json")
    )

    assert (done["digest"], done["dry_run"]) == (digest, False)
    assert done["objects_deleted"] > 3
    for command in (
        ["show", "small@1"],
        ["show", "small@1", "cat-00000001"],
        ["pull", "small@1", str(tmp_path / "out")],
        ["verify", "small@1"],
        ["diff", "small@1", "small@2"],
        ["diff", "small@2", "small@1"],
        ["remake", "small@1", "cat-00000001"],
    ):
        result = datagen(published, *command)
        assert result.exit_code == 3, command
        assert f"small@1 was revoked: wrong labels (digest {digest})" in result.stderr, command
    assert not (tmp_path / "out").exists()
    rows = {
        f"{row['name']}@{row['version']}": row
        for row in parsed(datagen(published, "ls", "--json"))["versions"]
    }
    assert rows["small@1"]["revoked_reason"] == "wrong labels"
    assert rows["small@2"]["revoked_reason"] is None
    assert "revoked: wrong labels" in datagen(published, "ls").stdout
    assert datagen(published, "verify", "small@2").exit_code == 0
    left = [key for key in objects(published) if key.startswith("local/datasets/small/1/")]
    assert left == ["local/datasets/small/1/tombstone.json"]


def test_a_revoked_model_cannot_be_run_again(published: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    shown = parsed(datagen(published, "show", "other@1", "--json"))["recipe"]
    recipe.write_text(json.dumps(again(shown, name="anew")))

    assert datagen(published, "revoke", "noise", "--reason", "too noisy", "--yes").exit_code == 0

    result = datagen(published, "run", str(recipe))
    assert result.exit_code == 3
    assert "noise was revoked: too noisy" in result.stderr
    assert [key for key in objects(published) if not key.endswith("tombstone.json")] == []


def again(resolved: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A resolved recipe as somebody writes one."""
    generator = resolved["generator"]
    return (
        resolved
        | {"generator": {"model": generator["model"], **generator["options"]}, "filters": []}
        | changes
    )


def test_it_asks_before_it_revokes(published: Path) -> None:
    refused = datagen(published, "revoke", "small@1", "--reason", "x", answer="n\n")
    assert refused.exit_code == 1
    assert datagen(published, "show", "small@1").exit_code == 0
    assert datagen(published, "revoke", "small@1", "--reason", "x", answer="y\n").exit_code == 0
    assert datagen(published, "show", "small@1").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["small@1"], 2, "--reason is missing"),
        (["nothing", "--reason", "x", "--yes"], 3, "'nothing' does not exist"),
        (["small@9", "--reason", "x", "--yes"], 3, "has no version 9"),
        (["A B", "--reason", "x", "--yes"], 2, "expected the sha256"),
        (["noise", "--reason", "x", "--yes", "--tenant", "../x"], 2, "--tenant"),
    ],
)
def test_what_cannot_be_revoked_is_told(
    published: Path, arguments: list[str], code: int, told: str
) -> None:
    result = datagen(published, "revoke", *arguments)
    assert (result.exit_code, told in result.stderr) == (code, True), result.stderr
    assert datagen(published, "ls").stdout.count("revoked") == 0


def test_a_services_database_is_revoked_for_one_tenant_and_audited(
    home: Path,
    postgres_url: str,
    s3_url: str,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = {
        "DATAGEN_DATABASE_URL": postgres_url,
        "DATAGEN_STORE_URL": s3_url,
        "DATAGEN_S3_ENDPOINT_URL": s3_endpoint,
    }
    settings = load_settings(environ, home=home)
    publish(settings)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    store = open_store(s3_url, endpoint_url=s3_endpoint)
    before = len(list(store.list("local/")))
    arguments = ["revoke", "noise", "--reason", "too noisy", "--yes", "--json"]

    others = parsed(datagen(home, *arguments, "--tenant", "acme"))

    assert (others["versions"], others["objects_deleted"]) == ([], 0)
    assert len(list(store.list("local/"))) == before
    mine = parsed(datagen(home, *arguments))
    assert [v["name"] for v in mine["versions"]] == ["small"]
    assert [each.key for each in store.list("local/")] == ["local/datasets/small/1/tombstone.json"]
    catalog = Catalog(postgres_url, tenant=None)
    assert [verify_chain(catalog, t).num_rows for t in ("local", "acme")] == [1, 1]
    catalog.close()
