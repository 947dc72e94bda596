"""approve, approvals, report, refilter, and what ls, show and pull say of them: on a home and over
a service."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.attachments import EVALUATION, REPORT, attach
from datagen.catalog.audit import list_audit
from datagen.cli import main
from datagen.settings import load_settings
from datagen.versions import find_version
from tests.api.conftest import ACME, Api
from tests.api.conftest import api as api
from tests.published import open_home, publish

PAGE = b"<!doctype html>report"
USE = "train triage models"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def datagen(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments], env=environ)


def parsed(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


@pytest.fixture
def published(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with small@1 and its report."""
    publish(load_settings({}, home=home), {"filters": [{"filter": "blank"}]})
    monkeypatch.setenv("DATAGEN_HOME", str(home))
    with open_home(home) as opened:
        row = opened.version("small")
        for kind, name, data in (
            (REPORT, "report.html", PAGE),
            (EVALUATION, "evaluation.json", b'{"near_copies": {"items": []}}'),
        ):
            attach(
                *(opened.catalog, opened.store, row), kind=kind, file_name=name, data=data,
                summary={},
            )  # fmt: skip
    return home


def test_a_version_is_signed_off_and_the_policy_lets_it_through(published: Path) -> None:
    policy = {"DATAGEN_PULL_POLICY": "approved"}
    refused = datagen("pull", "small", "out", **policy)
    assert refused.exit_code == 7
    assert "small@1 is a draft; DATAGEN_PULL_POLICY=approved gives out only" in refused.stderr
    assert not Path("out").exists()
    assert datagen("approve", "small", "--use", USE).exit_code == 2  # by whom?
    signed = parsed(
        datagen(
            "approve", "small", "--use", USE, "--by", "Dr. A", "--until", "2126-01-31", "--json"
        )
    )
    assert (signed["state"], signed["until"], signed["holds"]) == ("approved", "2126-01-31", True)
    [listed] = parsed(datagen("ls", "--json"))["versions"]
    assert listed["sign_off"]["by"] == "Dr. A"
    assert f"approved  for {USE} until 2126-01-31" in datagen("ls").stdout
    pulled = parsed(datagen("pull", "small", "out", "--use", USE, "--json", **policy))
    assert pulled["attached"] == ["evaluation/evaluation.json", "evaluation/report.html"]
    assert datagen("pull", "small", "b", "--use", "tests", **policy).exit_code == 7
    draft = ("approve", "small@1", "--use", USE, "--by", "Dr. B", "--state", "draft")
    assert datagen(*draft, "--note", "a copy was found").exit_code == 0
    assert datagen("pull", "small", "b", **policy).exit_code == 7
    table = datagen("approvals", "small").stdout.splitlines()
    assert ["draft" in table[1], "(past)" in table[2], len(table)] == [True, True, 3]
    with open_home(published) as opened:
        entries = list_audit(opened.catalog, limit=9)
        assert [each.action for each in entries] == ["dataset.draft", "dataset.approved"]
    assert datagen("pull", "small", "b", DATAGEN_PULL_POLICY="closed").exit_code == 2


def test_the_report_is_shown_written_and_opened(published: Path, tmp_path: Path) -> None:
    found = parsed(datagen("report", "small", "--json"))
    assert Path(found["path"]).read_bytes() == PAGE
    assert datagen("report", "small", "--out", "r.html").exit_code == 0
    assert datagen("report", "small", "--out", "r.html").exit_code == 0
    Path("mine.txt").write_text("mine")
    kept = datagen("report", "small", "--out", "mine.txt")
    assert (kept.exit_code, Path("mine.txt").read_text()) == (2, "mine")
    seen = tmp_path / "seen"
    program = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    browser = shlex.join([sys.executable, "-c", program, str(seen)]) + " %s"
    opened = datagen("report", "small", "--out", "r.html", "--open", BROWSER=browser)
    assert opened.exit_code == 0
    assert seen.read_text() == (Path.cwd() / "r.html").as_uri()
    assert "datagen evaluate" not in opened.output
    settings = load_settings({}, home=published)
    publish(settings, {"name": "bare", "classes": [{"name": "cat", "count": 1}]})
    missing = datagen("report", "bare")
    assert missing.exit_code == 3
    assert "`datagen evaluate bare@1 --reference DATA` makes one" in missing.stderr


def test_refilter_makes_the_next_version(published: Path) -> None:
    with open_home(published) as opened:
        row = opened.version("small")
    about = {"format": 1, "dataset": "small", "version": 1, "digest": row.digest}
    Path("marks.json").write_text(json.dumps({**about, "marks": {"dog-00000001": "drop"}}))
    made = parsed(
        datagen(
            *("refilter", "small@1", "--set", "blank.min_contrast=0.01", "--json"),
            *("--review", "marks.json", "--drop-flagged"),
        )
    )
    assert (made["version"], made["images_generated"], made["dropped"]) == (2, 1, 1)
    assert made["source"] == "small@1"
    shown = parsed(datagen("show", "small@1", "--json"))
    assert [each["kind"] for each in shown["attachments"]] == ["review", "evaluation", "report"]
    assert shown["performance_claims"] == "not for performance claims: test, val"
    for wrong in (("--set", "blnk=off"), ("--set", "x"), (), ("--review", "absent.json")):
        assert datagen("refilter", "small", *wrong).exit_code == 2
    assert len(parsed(datagen("ls", "--json"))["versions"]) == 2


def test_over_a_service_they_do_the_same(api: Api) -> None:
    api.publish({"filters": [{"filter": "blank"}]})
    catalog = api.catalog.of(ACME)
    row = find_version(catalog, "small")
    attach(*(catalog, api.store, row), kind=REPORT, file_name="report.html", data=PAGE, summary={})
    service = {"DATAGEN_API_URL": api.url, "DATAGEN_API_KEY": api.key(name="dr-a")}
    sign = ("approve", "small", "--use", USE)
    assert datagen(*sign, "--by", "me", **service).exit_code == 2
    assert parsed(datagen(*sign, "--json", **service))["by"] == "dr-a"
    [listed] = parsed(datagen("ls", "--json", **service))["versions"]
    assert (listed["sign_off"]["state"], listed["sign_off"]["by"]) == ("approved", "dr-a")
    [signed] = parsed(datagen("approvals", "small", "--json", **service))["approvals"]
    assert (signed["use"], signed["holds"]) == (USE, True)
    shown = parsed(datagen("show", "small", "--json", **service))
    assert [each["kind"] for each in shown["attachments"]] == ["report"]
    found = parsed(datagen("report", "small", "--json", **service))
    assert Path(found["path"]).read_bytes() == PAGE
    pulled = parsed(datagen("pull", "small", "out", "--use", USE, "--json", **service))
    assert pulled["attached"] == ["evaluation/report.html"]
    job = parsed(datagen("refilter", "small", "--set", "blank=off", "--json", **service))
    assert (job["version"], job["state"]) == (2, "RUNNING")
