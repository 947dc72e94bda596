"""Errors as problems: one shape, stable names, never a trace."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import Api, recipe

UNKNOWN = "0" * 32


def problem(response: httpx.Response, status: int, slug: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["type"] == f"urn:datagen:problem:{slug}"
    assert content["status"] == status
    assert content["title"]
    assert content["detail"]
    assert content["request_id"] == response.headers["x-request-id"]
    return content


def test_a_path_that_leads_nowhere_is_not_found(api: Api) -> None:
    problem(api.acme.get("/nothing"), 404, "not-found")


def test_another_method_names_those_that_are_allowed(api: Api) -> None:
    response = api.acme.put("/keys")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, POST"


def test_a_missing_idempotency_key_is_named(api: Api) -> None:
    content = problem(api.acme.post("/jobs", json={"recipe": recipe()}), 400, "bad-request")
    assert [error["field"] for error in content["errors"]] == ["header.Idempotency-Key"]


def test_a_malformed_idempotency_key_is_named(api: Api) -> None:
    for key in ("", "a b", "é", "x" * 256):
        headers = {b"Idempotency-Key": key.encode()}
        response = api.acme.post("/jobs", json={"recipe": recipe()}, headers=headers)
        content = problem(response, 422, "invalid")
        assert [error["field"] for error in content["errors"]] == ["header.Idempotency-Key"]


def test_every_fault_of_a_recipe_is_told_with_its_field(api: Api) -> None:
    bad = recipe({"name": "No Name", "image_size": [8, 0]})
    bad["classes"][1]["count"] = 0
    headers = {"Idempotency-Key": "k"}
    content = problem(api.acme.post("/jobs", json={"recipe": bad}, headers=headers), 422, "invalid")
    fields = {error["field"] for error in content["errors"]}
    assert fields == {"recipe.name", "recipe.image_size[1]", "recipe.classes[1].count"}
    assert all(error["expected"] and error["message"] for error in content["errors"])


def test_an_unknown_model_is_told_with_its_field(api: Api) -> None:
    bad = recipe({"generator": {"model": "noize"}})
    content = problem(api.acme.post("/recipes/plan", json={"recipe": bad}), 422, "invalid")
    assert [error["field"] for error in content["errors"]] == ["recipe.generator.model"]


def test_an_unknown_field_is_refused(api: Api) -> None:
    body = {"recipe": recipe(), "priorty": "batch"}
    content = problem(
        api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "k"}), 422, "invalid"
    )
    assert [error["field"] for error in content["errors"]] == ["priorty"]


HOSTILE = {
    "no JSON": b"{",
    "empty": b"",
    "invalid UTF-8": b'{"recipe": {"name": "\xff\xfe"}}',
    "deep JSON": b'{"recipe": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    "less deep JSON": b'{"recipe": ' + b'{"a":' * 400 + b"1" + b"}" * 401,
    "deep lists": b'{"recipe": {"classes": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "a huge int": b'{"recipe": {"seed": ' + b"9" * 10_000 + b"}}",
    "a large int": b'{"recipe": {"seed": ' + b"9" * 400 + b"}}",
    "NaN": b'{"recipe": {"limits": {"max_attempts_per_class": NaN}}}',
    "infinity": b'{"recipe": {"seed": Infinity}}',
    "a NUL": b'{"recipe": {"name": "a\\u0000b"}}',
    "half a surrogate": b'{"recipe": {"name": "a\\ud800b", "\\udfff": 1}}',
    "a list": b"[]",
    "a null": b"null",
    "text": b'"recipe"',
}


@pytest.mark.parametrize("path", ["/jobs", "/recipes/validate", "/recipes/plan", "/previews"])
def test_a_hostile_body_is_a_problem(api: Api, path: str) -> None:
    for name, body in HOSTILE.items():
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
        response = api.acme.post(path, content=body, headers=headers)
        if path == "/recipes/validate" and response.status_code == 200:
            assert response.json()["valid"] is False, name
        else:
            assert response.status_code in (400, 422), (name, response.text)
            assert response.headers["content-type"] == "application/problem+json"
        assert "Traceback" not in response.text
    assert api.acme.get("/jobs").json()["items"] == []


def test_hostile_yaml_is_not_valid(api: Api) -> None:
    for text in (b"a: [", b"\xff", b"a: \x00", b"&a [*a]", b"- " * 5000, b""):
        headers = {"Content-Type": "application/yaml"}
        response = api.acme.post("/recipes/validate", content=text, headers=headers)
        assert response.status_code == 200, text
        assert response.json()["valid"] is False
        assert response.json()["errors"]


def test_another_content_type_is_refused(api: Api) -> None:
    for kind in ("text/plain", "application/xml", "multipart/form-data", "x"):
        headers = {"Idempotency-Key": "k", "Content-Type": kind}
        response = api.acme.post("/jobs", content=b'{"recipe": {}}', headers=headers)
        assert response.status_code in (400, 415, 422), kind
        assert response.headers["content-type"] == "application/problem+json"


def test_a_bad_filter_is_a_problem(api: Api) -> None:
    for query in ("state=GONE", "limit=0", "limit=201", "limit=x", "name=A%00"):
        response = api.acme.get(f"/jobs?{query}")
        assert response.status_code in (400, 422), query
        assert response.headers["content-type"] == "application/problem+json"


def test_the_ends_of_time_are_no_error_of_ours(api: Api) -> None:
    for moment in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        query = {"created_after": moment, "created_before": moment}
        assert api.acme.get("/jobs", params=query).status_code == 200, moment
    for bad in ("x", "0.5", "1e400", "2026-01-31", "2026-01-31T12:00:00", "2026-13-01T00:00:00Z"):
        response = api.acme.get("/jobs", params={"created_after": bad})
        assert response.status_code == 422, bad
        assert response.json()["errors"][0]["field"] == "query.created_after"


def test_an_id_that_is_none_is_named(api: Api) -> None:
    content = problem(api.acme.get("/jobs/abc"), 422, "invalid")
    assert [error["field"] for error in content["errors"]] == ["path.job_id"]


def test_control_characters_in_an_address_are_refused(api: Api) -> None:
    for path in ("/jobs/a%00b", "/keys/%0a", "/jobs?name=%00"):
        problem(api.acme.get(path), 400, "bad-request")


def test_an_unknown_job_is_not_found(api: Api) -> None:
    for method, path in (
        ("GET", f"/jobs/{UNKNOWN}"),
        ("GET", f"/jobs/{UNKNOWN}/events"),
        ("POST", f"/jobs/{UNKNOWN}/cancel"),
        ("POST", f"/jobs/{UNKNOWN}/retry"),
        ("POST", f"/jobs/{UNKNOWN}/restart"),
        ("GET", f"/previews/{UNKNOWN}"),
        ("DELETE", f"/previews/{UNKNOWN}"),
        ("DELETE", f"/keys/{UNKNOWN[:16]}"),
    ):
        problem(api.acme.request(method, path), 404, "not-found")


def test_a_database_that_is_away_is_unavailable(api: Api) -> None:
    key = api.key("read")
    with api.client(key) as client:
        assert client.get("/jobs").status_code == 200
        database = api.settings.home / "catalog.sqlite3"
        api.app.state.service.catalog.engine.dispose()
        api.catalog.close()
        hidden = database.with_suffix(".gone")
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        database.rename(hidden)
        database.mkdir()
        try:
            response = client.get("/jobs")
        finally:
            database.rmdir()
            hidden.rename(database)
    assert response.status_code in (500, 503)
    assert response.headers["content-type"] == "application/problem+json"
    assert "sqlite" not in response.text.lower()


@pytest.mark.parametrize("media_type", ["text/plain", "application/yaml"])
def test_a_body_of_another_type_is_told_which_is_wanted(api: Api, media_type: str) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": media_type}
    content = problem(api.acme.post("/jobs", content=b"name: x", headers=headers), 422, "invalid")
    [error] = content["errors"]
    assert (error["field"], error["value"]) == ("header.Content-Type", repr(media_type))
    assert "application/json" in error["expected"]


def test_long_values_are_cut(api: Api) -> None:
    text = f"name: x\nseed: {'s' * 900_000}\n".encode()
    headers = {"Content-Type": "application/yaml"}
    answer = api.acme.post("/recipes/validate", content=text, headers=headers)
    [fault] = [each for each in answer.json()["errors"] if each["field"] == "seed"]
    assert len(fault["value"]) <= 120
    assert len(answer.content) < 10_000


def test_no_message_has_a_librarys_words(api: Api) -> None:
    body = {"name": "s", "cron": "0 0 30 FEB *", "recipe": recipe()}
    hook = {"url": "no url", "events": ["*"]}
    answers = [api.acme.post("/schedules", json=body), api.acme.post("/webhooks", json=hook)]
    for answer in answers:
        problem(answer, 422, "invalid")
        assert "Value error" not in answer.text
