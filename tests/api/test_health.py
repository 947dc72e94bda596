"""healthz, readyz, metrics and the OpenAPI document."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from datagen.settings import Settings
from tests.api.conftest import Api, run_api


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_service_that_stands_on_all_three_is_ready(any_api: Api) -> None:
    with any_api.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"database": "ok", "store": "ok", "broker": "ok"}


def test_what_is_away_is_named_and_no_address_is_told(settings: Settings) -> None:
    def ping() -> None:
        raise ConnectionError("redis://user:secret@10.0.0.1 refused")

    with run_api(settings, ping_broker=ping) as api, api.client() as client:
        response = client.get("/readyz")
        assert client.get("/healthz").status_code == 200
    assert response.status_code == 503
    assert response.json() == {"database": "ok", "store": "ok", "broker": "ConnectionError"}


def test_a_store_that_is_away_is_named(settings: Settings) -> None:
    blocked = settings.home / "blocked"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the folder should be")
    with run_api(replace(settings, store_url=blocked.as_uri())) as api, api.client() as client:
        response = client.get("/readyz")
    assert response.status_code == 503
    assert (response.json()["database"], response.json()["broker"]) == ("ok", "ok")
    assert response.json()["store"] != "ok"


def test_metrics_tell_of_queues_work_and_answers(any_api: Api) -> None:
    api = any_api
    picky = {"filters": [{"filter": "blank", "min_contrast": 0.284}]}
    api.publish(picky)
    waiting = api.submit({"name": "waiting"}, key="waiting")
    text = api.acme.get("/metrics").text
    found = samples(text)
    queue = f"{api.job(waiting['id']).generate_queue}.batch"
    assert found["datagen_queue_units", queue] == 1
    assert found["datagen_queue_oldest_seconds", queue] >= 0
    assert found["datagen_jobs", "PUBLISHED"] == 1
    assert found["datagen_jobs", "RUNNING"] == 1
    assert found["datagen_leases_expired",] == 0
    assert found["datagen_unit_claims_total",] > 2
    assert found["datagen_attempts_total", "noise"] > 100
    route = ("POST", "/jobs", "201")
    assert found["datagen_api_latency_seconds_count", *route] == 2


def test_metrics_of_a_tenant_are_its_own(api: Api, settings: Settings) -> None:
    api.submit()
    theirs = samples(api.other.get("/metrics").text)
    assert ("datagen_jobs", "RUNNING") not in theirs
    operator = api.key("admin", tenant=settings.tenant)
    with api.client(operator) as client:
        assert samples(client.get("/metrics").text)["datagen_jobs", "RUNNING"] == 1


def test_an_expired_lease_shows(api: Api) -> None:
    job = api.submit()
    with api.catalog.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE units SET state = 'LEASED', owner = 'gone', lease_until = 1, fence = 1"
        )
    found = samples(api.acme.get("/metrics").text)
    assert found["datagen_leases_expired",] == 1
    api.work(job["id"])
    found = samples(api.acme.get("/metrics").text)
    assert (found["datagen_leases_expired",], found["datagen_units_redone_total",]) == (0, 1)


def test_the_document_describes_every_answer(api: Api) -> None:
    with api.client() as client:
        document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 20
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names))
    for path, method, operation in operations:
        assert path.startswith("/v1/")
        for status, response in operation["responses"].items():
            if int(status) >= 400 and path != "/v1/readyz":
                assert list(response["content"]) == ["application/problem+json"], (path, method)
        is_open = path in ("/v1/healthz", "/v1/readyz")
        assert ("security" in operation) != is_open, path
    assert set(document["components"]["schemas"]) >= {"Problem", "FieldError", "JobView"}
