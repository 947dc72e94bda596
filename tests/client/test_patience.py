"""What is sent again, and what is not: against a server that drops connections and refuses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from datagen.client import AsyncClient, Client, RefusedError, ServiceUnavailableError
from datagen.client.patience import Patience
from datagen.errors import (
    AuthError,
    ConflictError,
    ForbiddenError,
    InputError,
    NotFoundError,
    QuotaError,
    RevokedError,
    VerifyError,
)
from datagen.faults import InvalidRecipe
from tests.client.faulty_server import FaultyServer, answer, drop, faulty_server, problem
from tests.recipes import noise_recipe

KEY = "dg_0000000000000000_" + "x" * 43
JOB = {
    **{"id": "a" * 32, "name": "small", "version": 1, "state": "RUNNING", "kind": "dataset"},
    **{"priority": "batch", "recipe_digest": "b" * 64, "created_at": "2026-01-01T00:00:00Z"},
}
RECIPE = noise_recipe().recipe.to_json()


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


@pytest.fixture
def client(server: FaultyServer) -> Iterator[Client]:
    with Client(server.url, KEY, max_retries=3) as client:
        yield client


def test_a_read_is_sent_again_after_dropped_connections(
    server: FaultyServer, client: Client
) -> None:
    server.turns.extend([drop, drop, answer(JOB)])
    assert client.job("a" * 32).state == "RUNNING"
    assert server.paths() == [f"/v1/jobs/{'a' * 32}"] * 3


def test_the_async_client_does_the_same(server: FaultyServer) -> None:
    server.turns.extend([drop, problem(503, "unavailable", "away"), answer(JOB)])

    async def ask() -> str:
        async with AsyncClient(server.url, KEY, max_retries=3) as client:
            return (await client.job("a" * 32)).state

    assert anyio.run(ask) == "RUNNING"
    assert len(server.seen) == 3


def test_a_submission_is_sent_again_under_the_same_idempotency_key(
    server: FaultyServer, client: Client
) -> None:
    server.turns.extend([drop, answer(JOB, status=201)])
    assert client.submit(RECIPE).id == "a" * 32
    keys = {request.headers["Idempotency-Key"] for request in server.seen}
    assert len(server.seen) == 2
    assert len(keys) == 1


def test_a_submission_whose_first_try_is_still_being_answered_waits_for_it(
    server: FaultyServer, client: Client
) -> None:
    server.turns.extend([drop, problem(409, "conflict", "being answered"), answer(JOB)])
    assert client.submit(RECIPE).id == "a" * 32
    assert len(server.seen) == 3


def test_equal_recipes_have_equal_keys_and_others_have_others(
    server: FaultyServer, client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: small\nversion: 1\nimage_size: [8, 8]\nclasses: [{name: a, count: 1}]\n")
    path.write_text(path.read_text() + "generator: {model: noise}\n")
    sources = [path, str(path), path.read_text(), {**RECIPE, "seed": 8}]
    server.turns.extend([answer(JOB)] * 5)
    for source in sources:
        client.submit(source)
    client.submit(path, priority="interactive")
    keys = [request.headers["Idempotency-Key"] for request in server.seen]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED"])
def test_a_job_that_is_over_without_a_version_is_followed_by_another(
    server: FaultyServer, client: Client, state: str
) -> None:
    server.turns.extend([answer({**JOB, "state": state}), answer({**JOB, "id": "c" * 32})])
    assert client.submit(RECIPE).id == "c" * 32
    first, second = (request.headers["Idempotency-Key"] for request in server.seen)
    assert first != second


def test_a_key_of_the_callers_own_is_sent_once_and_its_answer_returned(
    server: FaultyServer, client: Client
) -> None:
    server.turns.append(answer({**JOB, "state": "CANCELLED"}))
    assert client.submit(RECIPE, idempotency_key="nightly-1").state == "CANCELLED"
    assert server.seen[0].headers["Idempotency-Key"] == "nightly-1"


def test_a_retry_of_a_job_is_never_sent_twice(server: FaultyServer, client: Client) -> None:
    server.turns.extend([drop, answer(JOB)])
    with pytest.raises(ServiceUnavailableError, match="does not answer"):
        client.retry("a" * 32)
    assert len(server.seen) == 1


def test_a_service_that_is_away_is_asked_again_and_then_given_up(
    server: FaultyServer, client: Client
) -> None:
    away = problem(503, "unavailable", "the database does not answer")
    server.turns.extend([away] * 4)
    with pytest.raises(ServiceUnavailableError, match="database") as caught:
        client.job("a" * 32)
    assert len(server.seen) == 4
    assert caught.value.exit_code == 6


def test_a_service_that_asks_for_patience_gets_it(server: FaultyServer, client: Client) -> None:
    busy = answer({}, status=429, headers={"Retry-After": "0"})
    away = answer({}, status=503, headers={"Retry-After": "0"})
    server.turns.extend([busy, away, answer(JOB)])
    assert client.job("a" * 32).name == "small"


def patience(*, max_retries: int = 3) -> Patience:
    return Patience(is_repeatable=True, max_retries=max_retries, url="http://x")


def test_retry_after_is_the_pause() -> None:
    assert patience().after_answer(503, {"retry-after": "7"}, b"") == 7
    assert patience().after_answer(429, {"retry-after": "7"}, b"") == 7


def test_pauses_grow_up_to_a_limit_and_begin_again_after_success() -> None:
    many = patience(max_retries=12)
    pauses = [many.after_failure(OSError()) for _ in range(12)]
    assert pauses[0] <= 0.25
    assert 5 <= pauses[-1] <= 10
    many.refresh()
    assert many.after_failure(OSError()) <= 0.25


def test_a_pause_of_hours_is_not_waited_for() -> None:
    with pytest.raises(ServiceUnavailableError):
        patience().after_answer(503, {"retry-after": "7200"}, b"")


def test_an_unreachable_service_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with (
            Client(url, KEY, max_retries=1) as client,
            pytest.raises(ServiceUnavailableError, match="DATAGEN_API_URL"),
        ):
            client.job("a" * 32)


@pytest.mark.parametrize(
    ("status", "slug", "kind", "exit_code"),
    [
        (401, "unauthorized", AuthError, 7),
        (403, "forbidden", ForbiddenError, 7),
        (404, "not-found", NotFoundError, 3),
        (409, "conflict", ConflictError, 4),
        (410, "revoked", RevokedError, 3),
        (413, "too-large", InputError, 2),
        (422, "invalid", InputError, 2),
        (429, "quota", QuotaError, 4),
        (502, "damaged", VerifyError, 5),
    ],
)
def test_a_problem_is_the_error_that_the_service_raised(
    server: FaultyServer,
    client: Client,
    status: int,
    slug: str,
    kind: type[Exception],
    exit_code: int,
) -> None:
    server.turns.append(problem(status, slug, "this very reason"))
    with pytest.raises(kind, match="this very reason") as caught:
        client.job("a" * 32)
    assert type(caught.value) is kind
    assert caught.value.exit_code == exit_code  # type: ignore[attr-defined]
    assert len(server.seen) == 1


def test_faults_of_a_recipe_come_back_with_their_fields(
    server: FaultyServer, client: Client
) -> None:
    error = {"field": "recipe.classes[1].count", "value": "'many'", "expected": "a whole number"}
    server.turns.append(problem(422, "invalid", "1 fault", [{**error, "message": "no"}]))
    with pytest.raises(InvalidRecipe) as caught:
        client.plan(RECIPE)
    assert [p.field for p in caught.value.problems] == ["classes[1].count"]
    assert str(caught.value) == "recipe:1: classes[1].count: 'many': expected a whole number"


def test_faults_of_other_fields_come_back_too(server: FaultyServer, client: Client) -> None:
    error = {"field": "query.limit", "value": "0", "expected": "1 or more", "message": "no"}
    server.turns.append(problem(422, "invalid", "1 fault", [error]))
    with pytest.raises(RefusedError, match=r"query\.limit") as caught:
        client.job("a" * 32)
    assert caught.value.problems[0].expected == "1 or more"


def test_a_recipe_is_checked_before_anything_is_sent(server: FaultyServer, client: Client) -> None:
    with pytest.raises(InvalidRecipe, match="classes"):
        client.submit({**RECIPE, "classes": []})
    assert server.seen == []


@pytest.mark.parametrize(
    ("url", "key", "named"),
    [
        (None, KEY, "DATAGEN_API_URL"),
        ("http://127.0.0.1:1", None, "DATAGEN_API_KEY"),
        ("ftp://127.0.0.1", KEY, "DATAGEN_API_URL"),
        ("http://me@127.0.0.1", KEY, "DATAGEN_API_URL"),
        ("http://127.0.0.1:99999", KEY, "DATAGEN_API_URL"),
        ("http://127.0.0.1:1", "two words", "DATAGEN_API_KEY"),
    ],
)
def test_a_client_without_address_or_key_says_which_is_missing(
    monkeypatch: pytest.MonkeyPatch, url: str | None, key: str | None, named: str
) -> None:
    monkeypatch.delenv("DATAGEN_API_URL", raising=False)
    monkeypatch.delenv("DATAGEN_API_KEY", raising=False)
    with pytest.raises(InputError, match=named) as caught:
        Client(url, key)
    assert "two words" not in str(caught.value)


def test_address_and_key_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: FaultyServer
) -> None:
    monkeypatch.setenv("DATAGEN_API_URL", server.url + "/v1/")
    monkeypatch.setenv("DATAGEN_API_KEY", KEY)
    server.turns.append(answer(JOB))
    with Client() as client:
        client.job("a" * 32)
    assert server.paths() == [f"/v1/jobs/{'a' * 32}"]
    assert server.seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_server_that_is_no_datagen_service_is_told_apart(
    server: FaultyServer, client: Client
) -> None:
    server.turns.extend([answer(b"<html>", status=404), answer(b"<html>")])
    with pytest.raises(InputError, match="no datagen service"):
        client.job("a" * 32)
    with pytest.raises(ServiceUnavailableError, match="not understood"):
        client.job("a" * 32)


@pytest.mark.parametrize("job_id", ["", "..", "."])
def test_an_id_cannot_lead_to_another_resource(client: Client, job_id: str) -> None:
    with pytest.raises(InputError):
        client.job(job_id)


def test_an_id_is_sent_as_one_part_of_the_path(server: FaultyServer, client: Client) -> None:
    server.turns.append(answer(JOB))
    client.job("../keys?x=1#y")
    assert server.paths() == ["/v1/jobs/..%2Fkeys%3Fx%3D1%23y"]


def test_a_key_in_flight_is_asked_for_soon_and_at_last_when_it_is_free() -> None:
    held = Patience(is_repeatable=True, max_retries=2, url="http://x", has_key=True)
    pauses = [held.after_answer(409, {"retry-after": "60"}, b"") for _ in range(2)]
    assert pauses[0] < 1
    assert pauses[1] == 60
