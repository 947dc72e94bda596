"""Attachments, report, evaluation, sign-offs, the policy of pulls, and refilter, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from datagen.attachments import EVALUATION, REPORT, Kind, attach
from datagen.catalog.audit import list_audit
from datagen.catalog.jobs import get_job_by_uid
from datagen.catalog.tenants import Quota, set_quota
from datagen.catalog.units import claim_unit, fail_unit
from datagen.cli import main
from datagen.client import Client
from datagen.errors import ForbiddenError
from datagen.settings import Settings
from datagen.versions import find_version
from tests.api.conftest import ACME, Api, run_api

AT = "/datasets/small/versions/1"
SCRIPT = (files("datagen.evaluation.report") / "script.js").read_text("utf-8")
PAGE = f"<!doctype html><script>{SCRIPT}</script><script>evil()</script>".encode()
USE = "train triage models"


def attached(api: Api, kind: Kind, file_name: str, data: bytes) -> None:
    catalog = api.catalog.of(ACME)
    row = find_version(catalog, "small@1")
    attach(
        *(catalog, api.store, row), kind=kind, file_name=file_name, data=data, summary={"fid": 2}
    )


def status(answer: httpx.Response) -> int:
    assert answer.status_code < 500, answer.text
    return answer.status_code


def sign(client: httpx.Client, state: str, **more: Any) -> httpx.Response:
    return client.post(f"{AT}/approvals", json={"state": state, "use": USE, **more})


def test_report_and_evaluation_are_read_back_and_can_do_nothing(any_api: Api) -> None:
    api = any_api
    api.publish()
    for path in ("report", "evaluation"):
        answer = api.acme.get(f"{AT}/{path}")
        assert status(answer) == 404
        assert f"small@1 has no {path}; `datagen evaluate small@1" in answer.json()["detail"]
    assert api.acme.get(f"{AT}/attachments").json() == []
    attached(api, EVALUATION, "evaluation.json", b'{"fid": {"value": 2}}')
    attached(api, REPORT, "report.html", PAGE)
    page = api.acme.get(f"{AT}/report")
    assert (page.content, page.headers["content-type"]) == (PAGE, "text/html; charset=utf-8")
    assert page.headers["x-content-type-options"] == "nosniff"
    policy = page.headers["content-security-policy"]
    expected = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{expected}';" in policy
    assert "sandbox" in policy
    assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
    assert api.acme.get(f"{AT}/evaluation").json() == {"fid": {"value": 2}}
    newest, older = api.acme.get(f"{AT}/attachments").json()
    assert (newest["kind"], older["kind"]) == ("report", "evaluation")
    assert newest["summary"] == {"fid": 2}
    answer = api.acme.get(f"{AT}/objects/{newest['object']}")
    assert (answer.content, answer.headers["etag"]) == (PAGE, f'"{newest["sha256"]}"')
    for path in ("attachments", "report", "evaluation", "approvals", f"objects/{newest['object']}"):
        assert status(api.other.get(f"{AT}/{path}")) == 404
    api.acme.post(f"{AT}/revoke", json={"reason": "r"})
    for path in ("attachments", "report", "evaluation", "approvals", f"objects/{newest['object']}"):
        assert status(api.acme.get(f"{AT}/{path}")) == 410


def test_what_the_gates_refused_is_read_by_the_job(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.submit()
    path, catalog = f"/jobs/{made['id']}", api.catalog.of(ACME)
    missing = api.acme.get(f"{path}/report")
    assert (status(missing), "has no report" in missing.json()["detail"]) == (404, True)
    job = get_job_by_uid(catalog, made["id"])
    assert job is not None
    for kind, name, data in ((EVALUATION, "e.json", b'{"fid": 2}'), (REPORT, "r.html", PAGE)):
        attach(catalog, api.store, job, kind=kind, file_name=name, data=data, summary={})
    unit = claim_unit(catalog, job_id=job.id, owner="me", lease_s=60, max_tries=3)
    assert unit is not None
    fail_unit(catalog, unit, error="evaluation.require: fid")
    page = api.acme.get(f"{path}/report")
    assert (page.content, page.headers["content-type"]) == (PAGE, "text/html; charset=utf-8")
    assert "sandbox" in page.headers["content-security-policy"]
    assert [status(api.other.get(f"{path}/{e}")) for e in ("report", "evaluation")] == [404, 404]
    with Client(api.url, api.key("read")) as client:
        assert client.job_report(made["id"]) == PAGE
        assert client.job_evaluation(made["id"]) == {"fid": 2}
    monkeypatch.setenv("DATAGEN_API_URL", api.url)
    monkeypatch.setenv("DATAGEN_API_KEY", api.key("read"))
    arguments = ["report", made["id"], "--out", str(tmp_path / "r.html"), "--json"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["job_state"] == "FAILED"
    assert (tmp_path / "r.html").read_bytes() == PAGE


def test_a_submit_key_reviews_and_an_admin_key_approves(api: Api) -> None:
    api.publish()
    ci, reader = api.client(api.key("submit", name="ci")), api.client(api.key("read"))
    with ci, reader:
        check_scopes(api, ci, reader)


def check_scopes(api: Api, ci: httpx.Client, reader: httpx.Client) -> None:
    assert status(sign(reader, "reviewed")) == 403
    assert status(sign(ci, "approved")) == 403
    for wrong in ({"until": "2027-02-30"}, {"until": "2020-01-01"}, {"use": " "}, {"by": "me"}):
        assert status(sign(api.acme, "approved", **wrong)) == 422
    reviewed = sign(ci, "reviewed", note="looked at 100")
    assert status(reviewed) == 201
    assert (reviewed.json()["by"], reviewed.json()["holds"]) == ("ci", True)
    assert status(sign(api.acme, "approved", until="2126-01-31")) == 201
    assert status(sign(ci, "draft")) == 403
    signed = reader.get(AT).json()["sign_off"]
    assert signed == {"state": "approved", "use": USE, "by": "admin", "until": "2126-01-31"}
    [listed] = reader.get("/datasets/small/versions").json()["items"]
    assert listed["sign_off"] == signed
    history = reader.get(f"{AT}/approvals").json()
    assert [(e["state"], e["holds"]) for e in history] == [("approved", True), ("reviewed", False)]
    entries = [(e.action, e.target) for e in list_audit(api.catalog.of(ACME), limit=5)]
    assert entries == [
        ("auth.forbidden", "small@1"),
        ("dataset.approved", "small@1"),
        ("dataset.reviewed", "small@1"),
        ("auth.forbidden", "small@1"),
        ("auth.forbidden", f"POST /v1{AT}/approvals"),
    ]


def test_the_policy_refuses_files_objects_and_pulls_of_what_is_not_approved(
    settings: Settings, tmp_path: Path
) -> None:
    with run_api(replace(settings, pull_policy="approved")) as api:
        digest = api.publish()["digest"]
        attached(api, REPORT, "report.html", PAGE)
        shard = json.loads(api.acme.get(f"{AT}/manifest").content)["shards"][0]["path"]
        paths = [f"{AT}/files", f"{AT}/objects/{shard}"]
        for path in paths:
            answer = api.acme.get(path)
            assert status(answer) == 403
            assert "small@1 is a draft; DATAGEN_PULL_POLICY=approved" in answer.json()["detail"]
        assert status(api.acme.get(f"{AT}/report")) == 200
        with Client(api.url, api.key("read")) as client:
            with pytest.raises(ForbiddenError, match="datagen approve small@1"):
                client.pull("small", tmp_path / "out")
            assert not (tmp_path / "out").exists()
            sign(api.acme, "approved")
            with pytest.raises(ForbiddenError, match="for 'something else'"):
                client.pull("small", tmp_path / "out", use="something else")
            pulled = client.pull("small", tmp_path / "out", use=USE)
        assert (pulled.digest, pulled.attached) == (digest, ("evaluation/report.html",))
        assert (tmp_path / "out" / "evaluation" / "report.html").read_bytes() == PAGE
        assert [status(api.acme.get(path, params={"use": USE})) for path in paths] == [200, 200]
        unnamed = api.acme.get(paths[1])
        assert status(unnamed) == 403
        assert f"approved for {USE!r}; DATAGEN_PULL_POLICY=approved" in unnamed.json()["detail"]
        assert "name the use" in unnamed.json()["detail"]
        assert status(api.acme.get(paths[0], params={"use": "something else"})) == 403


def test_a_refilter_is_a_job_of_the_changed_recipe(api: Api) -> None:
    api.publish({"filters": [{"filter": "blank"}]})
    marks = {"format": 1, "dataset": "small", "version": 1}
    marks |= {"digest": api.acme.get(AT).json()["digest"], "marks": {"cat-00000003": "drop"}}
    body = {"set": {"blank.min_contrast": 0.05}, "marks": marks}

    def refilter(body: dict[str, Any], key: str = "k1") -> httpx.Response:
        return api.acme.post(f"{AT}/refilter", json=body, headers={"Idempotency-Key": key})

    damaged: dict[str, Any] = {"marks": {**marks, "digest": "0"}}
    wrongs: list[dict[str, Any]] = [{}, {"set": {"blnk.x": 1}}, damaged, {"sett": {}}]
    for wrong in wrongs:
        assert status(refilter(wrong)) == 422
    for value in (5, None, [[1]]):
        bad = refilter({"set": {"review.rejected": value}, "marks": marks})
        assert (status(bad), "review.rejected" in bad.text) == (422, True)
    set_quota(api.catalog, ACME, Quota(max_running_jobs=0))
    assert status(refilter(body)) == 429
    assert api.acme.get(f"{AT}/attachments").json() == []
    set_quota(api.catalog, ACME, Quota())
    made = refilter(body)
    assert (status(made), status(refilter(body))) == (201, 200)
    assert api.work(made.json()["id"]).state == "PUBLISHED"
    diff = api.acme.get(f"{AT}/diff?against=2").json()
    assert diff["images"] == {"added": 0, "removed": 0, "changed": 1, "unchanged": 99}
    [kept] = api.acme.get(f"{AT}/attachments").json()
    assert (kept["kind"], kept["summary"]["drop"]) == ("review", 1)
    with Client(api.url, api.key("submit")) as client:
        again = client.refilter("small@1", options={"blank": "off"})
        assert client.refilter("small@1", options={"blank": "off"}).id == again.id
