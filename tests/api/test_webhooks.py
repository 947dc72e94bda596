"""Webhooks over HTTP, from registration to a delivery that verifies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook as Verifier

from datagen.settings import Settings
from datagen.webhook_delivery import deliver_due
from tests.api.conftest import Api, run_api
from tests.webhook_receiver import receiving, status

PUBLIC = "https://93.184.216.34/hooks"  # an address needs no name server


@pytest.fixture
def local_api(settings: Settings) -> Iterator[Api]:
    """Its webhooks may reach this machine."""
    with run_api(replace(settings, webhook_networks=("127.0.0.0/8",))) as running:
        yield running


def registered(client: httpx.Client, url: str = PUBLIC, *events: str) -> dict[str, Any]:
    response = client.post("/webhooks", json={"url": url, "events": events or ("*",)})
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/webhooks/{response.json()['id']}"
    found: dict[str, Any] = response.json()
    return found


def deliveries(client: httpx.Client, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/webhooks/{webhook['id']}/deliveries").json()[
        "items"
    ]
    return found


def test_a_published_job_is_told_of(local_api: Api) -> None:
    api = local_api
    with receiving() as receiver:
        webhook = registered(api.acme, receiver.url, "job.published")
        foreign = registered(api.other, receiver.url, "*")
        job = api.publish()
        assert deliver_due(api.catalog, api.settings) == 1
    [got] = receiver.received
    content = Verifier(webhook["secret"]).verify(got.body, got.headers)
    assert content["type"] == "job.published"
    assert content["data"]["job_id"] == job["id"]
    assert (content["data"]["name"], content["data"]["version"]) == ("small", 1)
    [delivery] = deliveries(api.acme, webhook)
    assert (delivery["state"], delivery["tries"], delivery["last_status"]) == ("DELIVERED", 1, 200)
    assert delivery["event_id"] == got.headers["webhook-id"]
    assert delivery["body"] == content
    assert deliveries(api.other, foreign) == []


def test_a_failed_delivery_is_seen_and_sent_again(local_api: Api) -> None:
    api = local_api
    with receiving(status(503), status(200)) as receiver:
        webhook = registered(api.acme, receiver.url)
        uid = api.submit()["id"]
        api.acme.post(f"/jobs/{uid}/cancel")
        deliver_due(api.catalog, api.settings)
        [delivery] = deliveries(api.acme, webhook)
        assert (delivery["state"], delivery["last_status"]) == ("PENDING", 503)
        assert delivery["next_at"] is not None
        again = f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}/redeliver"
        pending = api.acme.post(again)
        assert (pending.status_code, pending.json()["type"]) == (
            409,
            "urn:datagen:problem:conflict",
        )
        _make_due(api)
        assert deliver_due(api.catalog, api.settings) == 1
        response = api.acme.post(again)
        assert (response.status_code, response.json()["state"]) == (202, "PENDING")
        assert deliver_due(api.catalog, api.settings) == 1
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    assert len(receiver.received) == 3


def _make_due(api: Api) -> None:
    from sqlalchemy import update

    from datagen.catalog.tables import webhook_deliveries

    with api.catalog.transaction() as connection:
        connection.execute(update(webhook_deliveries).values(next_at=0.0))


def test_the_secret_is_shown_once(any_api: Api) -> None:
    webhook = registered(any_api.acme, PUBLIC, "job.failed", "job.failed", "dataset.revoked")
    assert webhook.pop("secret").startswith("whsec_")
    assert webhook["events"] == ["job.failed", "dataset.revoked"]
    assert any_api.acme.get(f"/webhooks/{webhook['id']}").json() == webhook
    assert any_api.acme.get("/webhooks").json() == {"items": [webhook], "next_cursor": None}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000/", "no public address"),
        ("http://localhost/", "no public address"),
        ("http://[::1]/", "no public address"),
        ("http://[::ffff:169.254.169.254]/", "no public address"),
        ("http://169.254.169.254/latest/meta-data", "no public address"),
        ("http://2130706433/", "no public address"),
        ("http://0/", "no public address"),
        ("http://10.0.0.1/", "no public address"),
        ("gopher://93.184.216.34/", "begins with https:// or http://"),
        ("https://me:secret@93.184.216.34/", "without user or password"),
        ("https://93.184.216.34:0/", "a port from 1 to 65535"),
        ("no url", "visible ASCII"),
        (7, "a valid string"),
    ],
)
def test_a_url_that_may_not_be_called_is_refused(api: Api, url: Any, expected: str) -> None:
    response = api.acme.post("/webhooks", json={"url": url, "events": ["*"]})
    assert response.status_code == 422, response.text
    [error] = response.json()["errors"]
    assert error["field"] == "url"
    assert expected in error["expected"]
    assert api.acme.get("/webhooks").json()["items"] == []


@pytest.mark.parametrize("events", [[], ["job.started"], ["*"] * 6, "*"])
def test_unknown_events_are_refused(api: Api, events: Any) -> None:
    response = api.acme.post("/webhooks", json={"url": PUBLIC, "events": events})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith("events")


def test_another_tenants_webhooks_do_not_exist(api: Api) -> None:
    place = f"/webhooks/{registered(api.acme)['id']}"
    for response in (
        api.other.get(place),
        api.other.delete(place),
        api.other.get(f"{place}/deliveries"),
        api.other.post(f"{place}/deliveries/1/redeliver"),
    ):
        assert response.status_code == 404
    assert api.other.get("/webhooks").json()["items"] == []
    assert api.acme.get(place).status_code == 200


def test_only_administrators_see_webhooks(api: Api) -> None:
    place = f"/webhooks/{registered(api.acme)['id']}"
    with api.client(api.key("submit")) as submitter:
        assert submitter.get("/webhooks").status_code == 403
        assert submitter.get(place).status_code == 403
        assert submitter.post("/webhooks", json={"url": PUBLIC, "events": ["*"]}).status_code == 403
        assert submitter.delete(place).status_code == 403


def test_a_deleted_webhook_is_gone_with_its_log(api: Api) -> None:
    place = f"/webhooks/{registered(api.acme)['id']}"
    uid = api.submit()["id"]
    api.acme.post(f"/jobs/{uid}/cancel")
    assert len(api.acme.get(f"{place}/deliveries").json()["items"]) == 1
    assert api.acme.delete(place).status_code == 204
    assert api.acme.get(place).status_code == 404
    assert api.acme.get(f"{place}/deliveries").status_code == 404
    actions = [entry["action"] for entry in api.acme.get("/audit").json()["items"]]
    assert {"webhook.create", "webhook.delete"} <= set(actions)


def test_there_is_an_end_to_webhooks(api: Api) -> None:
    for _ in range(32):
        registered(api.acme)
    response = api.acme.post("/webhooks", json={"url": PUBLIC, "events": ["*"]})
    assert (response.status_code, response.json()["type"]) == (429, "urn:datagen:problem:quota")
    page = api.acme.get("/webhooks", params={"limit": 20}).json()
    rest = api.acme.get("/webhooks", params={"cursor": page["next_cursor"]}).json()
    assert len({each["id"] for each in page["items"] + rest["items"]}) == 32
