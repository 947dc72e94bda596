"""Deliveries to a real receiver: signed, tried again, never twice at once, never anywhere else."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from standardwebhooks import Webhook as Verifier

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import queue_deliveries
from datagen.catalog.tables import webhook_deliveries
from datagen.catalog.webhooks import (
    DELIVERED,
    FAILED,
    PENDING,
    Delivery,
    Webhook,
    claim_delivery,
    create_webhook,
    delete_webhook,
    disable_webhook,
    get_webhook,
    list_deliveries,
    record_delivered,
    redeliver,
)
from datagen.errors import ConflictError, NotFoundError
from datagen.settings import Settings, load_settings
from datagen.webhook_delivery import MAX_TRIES, Transport, deliver_due, retry_delay_s
from datagen.webhooks import new_secret
from tests.schema import lay_tables
from tests.webhook_receiver import Received, closed_port, receiving, status


class Sender:
    """A catalog with webhooks, and the service's own way to send."""

    def __init__(self, settings: Settings) -> None:
        self.settings = replace(settings, webhook_networks=("127.0.0.0/8",))
        lay_tables(settings.database_url)
        self.catalog = Catalog(settings.database_url, tenant=None)
        self.tenant = self.catalog.of("acme")

    def webhook(self, url: str, *events: str) -> Webhook:
        return create_webhook(
            self.tenant, url=url, secret=new_secret(), events=events or ("*",), created_by=None
        )

    def tell(self, event_id: str, event_type: str = "job.published") -> None:
        with self.catalog.transaction() as connection:
            queue_deliveries(
                connection,
                tenant="acme",
                event_id=event_id,
                event_type=event_type,
                data={"name": "fashion"},
                now=now_s(connection),
            )

    def send(self, transport: Transport | None = None) -> int:
        return deliver_due(self.catalog, self.settings, transport=transport)

    def log(self, webhook: Webhook) -> list[Delivery]:
        return list_deliveries(self.tenant, webhook.id, limit=100)

    def only(self, webhook: Webhook) -> Delivery:
        [delivery] = self.log(webhook)
        return delivery

    def make_due(self) -> None:
        with self.catalog.transaction() as connection:
            connection.execute(
                update(webhook_deliveries)
                .where(webhook_deliveries.c.state == PENDING)
                .values(next_at=0.0)
            )

    def now(self) -> float:
        with self.catalog.reading() as connection:
            return now_s(connection)


@pytest.fixture(params=["sqlite", "postgresql"])
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sender]:
    settings = load_settings({}, home=tmp_path / "home")
    if request.param == "postgresql":
        settings = replace(settings, database_url=request.getfixturevalue("postgres_url"))
    opened = Sender(settings)
    yield opened
    opened.catalog.close()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Sender]:
    """Where the database does not matter."""
    opened = Sender(load_settings({}, home=tmp_path / "home"))
    yield opened
    opened.catalog.close()


def test_an_event_is_delivered_signed(sender: Sender) -> None:
    with receiving() as receiver:
        webhook = sender.webhook(receiver.url)
        sender.tell("evt_7")
        assert sender.send() == 1
        assert sender.send() == 0
    [got] = receiver.received
    assert got.path == "/hooks?of=datagen"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-id"] == "evt_7"
    content = Verifier(webhook.secret).verify(got.body, got.headers)
    assert set(content) == {"type", "timestamp", "data"}
    assert (content["type"], content["data"]) == ("job.published", {"name": "fashion"})
    delivery = sender.only(webhook)
    assert (delivery.state, delivery.tries, delivery.last_status) == (DELIVERED, 1, 200)
    assert delivery.delivered_at is not None


def test_only_events_that_were_asked_for_are_owed(local: Sender) -> None:
    some = local.webhook("http://127.0.0.1/", "job.failed", "dataset.revoked")
    everything = local.webhook("http://127.0.0.1/", "*")
    for number, event_type in enumerate(["job.published", "job.failed", "dataset.revoked"]):
        local.tell(f"evt_{number}", event_type)
    assert {d.event_type for d in local.log(some)} == {"job.failed", "dataset.revoked"}
    assert len(local.log(everything)) == 3


def test_a_receiver_that_fails_is_tried_again_until_it_accepts(sender: Sender) -> None:
    with receiving(status(500), status(429), status(404), status(204)) as receiver:
        webhook = sender.webhook(receiver.url)
        sender.tell("evt_1")
        for tries, code in enumerate([500, 429, 404], start=1):
            before = sender.now()
            assert sender.send() == 0
            delivery = sender.only(webhook)
            assert (delivery.state, delivery.tries, delivery.last_status) == (PENDING, tries, code)
            assert str(code) in str(delivery.last_error)
            assert delivery.next_at is not None
            assert delivery.next_at >= before + retry_delay_s(tries, 0)
            assert sender.send() == 0, "it is not due yet"
            assert len(receiver.received) == tries
            sender.make_due()
        assert sender.send() == 1
    assert [got.headers["webhook-id"] for got in receiver.received] == ["evt_1"] * 4
    delivery = sender.only(webhook)
    assert (delivery.state, delivery.tries, delivery.last_error) == (DELIVERED, 4, None)


def test_the_last_try_fails_the_delivery(local: Sender) -> None:
    webhook = local.webhook(f"http://127.0.0.1:{closed_port()}/")
    local.tell("evt_1")
    for _ in range(MAX_TRIES + 2):
        local.send()
        local.make_due()
    delivery = local.only(webhook)
    assert (delivery.state, delivery.tries, delivery.next_at) == (FAILED, MAX_TRIES, None)
    assert "ConnectionRefusedError" in str(delivery.last_error)


def test_tries_take_a_day_and_grow_further_apart() -> None:
    delays = [retry_delay_s(tries, 0.5) for tries in range(1, MAX_TRIES)]
    assert delays == sorted(delays)
    assert 20 * 3600 < sum(delays) < 26 * 3600
    assert retry_delay_s(3, 0) < retry_delay_s(3, 0.5) < retry_delay_s(3, 0.999)
    assert retry_delay_s(3, 0.999) < retry_delay_s(4, 0)


def test_gone_disables_the_webhook(sender: Sender) -> None:
    with receiving(status(410)) as receiver:
        webhook = sender.webhook(receiver.url)
        sender.tell("evt_1")
        sender.send()
        sender.tell("evt_2")
        sender.make_due()
        sender.send()
    assert len(receiver.received) == 1
    assert sender.only(webhook).state == FAILED
    assert get_webhook(sender.tenant, webhook.id).disabled_at is not None
    with pytest.raises(ConflictError, match="disabled"):
        redeliver(sender.tenant, webhook.id, sender.only(webhook).id)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(local: Sender, code: int) -> None:
    with receiving() as other, receiving(status(code, [("Location", other.url)])) as receiver:
        webhook = local.webhook(receiver.url)
        local.tell("evt_1")
        assert local.send() == 0
    assert len(receiver.received) == 1
    assert other.received == []
    delivery = local.only(webhook)
    assert (delivery.state, delivery.last_status) == (PENDING, code)
    assert "redirects are not followed" in str(delivery.last_error)


def test_any_number_of_senders_send_a_delivery_once(sender: Sender) -> None:
    with receiving() as receiver:
        webhook = sender.webhook(receiver.url)
        for number in range(20):
            sender.tell(f"evt_{number}")
        sent: list[int] = []
        together = threading.Barrier(4)

        def run() -> None:
            together.wait()
            sent.append(sender.send())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert sorted(ids) == sorted(f"evt_{number}" for number in range(20))
    assert sum(sent) == 20
    assert {(d.state, d.tries) for d in sender.log(webhook)} == {(DELIVERED, 1)}


def test_a_receiver_that_is_down_holds_up_no_other(local: Sender) -> None:
    with receiving() as receiver:
        down = local.webhook(f"http://127.0.0.1:{closed_port()}/")
        for number in range(30):
            local.tell(f"evt_{number}")
        live = local.webhook(receiver.url)
        local.tell("evt_news")
        assert local.send() == 1
    assert local.only(live).state == DELIVERED
    assert sum(d.tries for d in local.log(down)) <= 8, "at most one try of each sender"


# --- senders that die -----------------------------------------------------------------------------


def test_what_a_dead_sender_held_is_sent_by_another(sender: Sender) -> None:
    webhook = sender.webhook("http://127.0.0.1/")
    sender.tell("evt_1")
    dead = claim_delivery(sender.catalog, lease_s=-1, max_tries=MAX_TRIES)
    assert dead is not None
    living = claim_delivery(sender.catalog, lease_s=60, max_tries=MAX_TRIES)
    assert living is not None
    assert (dead.tries, living.tries) == (1, 2)
    assert claim_delivery(sender.catalog, lease_s=60, max_tries=MAX_TRIES) is None
    record_delivered(sender.catalog, dead, 200)
    assert sender.only(webhook).state == PENDING, "its claim is another's now"
    record_delivered(sender.catalog, living, 200)
    assert sender.only(webhook).state == DELIVERED


def test_a_delivery_that_kills_its_senders_fails(sender: Sender) -> None:
    webhook = sender.webhook("http://127.0.0.1/")
    sender.tell("evt_1")
    for _ in range(MAX_TRIES):
        assert claim_delivery(sender.catalog, lease_s=-1, max_tries=MAX_TRIES) is not None
    assert claim_delivery(sender.catalog, lease_s=-1, max_tries=MAX_TRIES) is None
    assert sender.only(webhook).state == FAILED


# --- redelivery and deletion ----------------------------------------------------------------------


def test_redelivery_sends_the_same_message_again(sender: Sender) -> None:
    with receiving() as receiver:
        webhook = sender.webhook(receiver.url)
        sender.tell("evt_1")
        delivery_id = sender.only(webhook).id
        with pytest.raises(ConflictError, match="PENDING"):
            redeliver(sender.tenant, webhook.id, delivery_id)
        sender.send()
        assert redeliver(sender.tenant, webhook.id, delivery_id).state == PENDING
        assert sender.send() == 1
    first, second = receiver.received
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert sender.only(webhook).tries == 1


def test_another_tenants_webhooks_do_not_exist(sender: Sender) -> None:
    webhook = sender.webhook("http://127.0.0.1/")
    sender.tell("evt_1")
    delivery_id = sender.only(webhook).id
    other = sender.catalog.of("other")
    with pytest.raises(NotFoundError):
        get_webhook(other, webhook.id)
    with pytest.raises(NotFoundError):
        list_deliveries(other, webhook.id, limit=9)
    with pytest.raises(NotFoundError):
        redeliver(other, webhook.id, delivery_id)
    with pytest.raises(NotFoundError):
        delete_webhook(other, webhook.id)
    with pytest.raises(NotFoundError, match="no delivery 999"):
        redeliver(sender.tenant, webhook.id, 999)


def test_a_deleted_webhook_is_owed_nothing(sender: Sender) -> None:
    webhook = sender.webhook("http://127.0.0.1/")
    sender.tell("evt_1")
    delete_webhook(sender.tenant, webhook.id)
    sender.tell("evt_2")
    with sender.catalog.reading() as connection:
        assert connection.execute(select(webhook_deliveries)).all() == []


def test_a_webhook_that_is_disabled_while_an_event_is_recorded_is_owed_nothing(
    sender: Sender,
) -> None:
    webhook = sender.webhook("http://127.0.0.1/")
    gone = {"error": "the receiver answered 410"}
    disabling = threading.Thread(
        target=disable_webhook, args=(sender.catalog, webhook.id), kwargs=gone
    )
    with sender.catalog.transaction() as connection:
        now = now_s(connection)
        queue_deliveries(
            connection, tenant="acme", event_id="evt_1", event_type="job.failed", data={}, now=now
        )
        disabling.start()
        disabling.join(0.5)
    disabling.join()
    assert sender.only(webhook).state == FAILED


def test_events_and_deletions_that_race_never_fail(sender: Sender) -> None:
    errors: list[BaseException] = []

    def guarded(work: Any) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    hooks = [sender.webhook("http://127.0.0.1/") for _ in range(20)]
    works = [lambda: [sender.tell(f"evt_{n}") for n in range(20)]]
    works.append(lambda: [delete_webhook(sender.tenant, hook.id) for hook in hooks])
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# --- hostile receivers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "beginning",
    [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", b""],
)
def test_a_receiver_that_drips_is_cut_off(local: Sender, beginning: bytes) -> None:
    """One byte at a time: no single wait is ever long."""
    ended: list[str] = []

    def drip(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(beginning)
            for _ in range(600):
                handler.wfile.write(b"H")
                time.sleep(0.02)
            ended.append("by itself")
        except OSError:
            ended.append("by the sender")

    with receiving(drip) as receiver:
        webhook = local.webhook(receiver.url)
        local.tell("evt_1")
        assert local.send(Transport(timeout_s=0.5)) == 0
        assert local.only(webhook).last_error == "no answer within 0.5 s"
        while not ended:
            time.sleep(0.01)
    assert ended == ["by the sender"]


def test_a_receiver_that_never_answers_is_left(local: Sender) -> None:
    with receiving(lambda handler: handler.rfile.read(1) and None) as receiver:
        webhook = local.webhook(receiver.url)
        local.tell("evt_1")
        assert local.send(Transport(timeout_s=0.5)) == 0
    assert local.only(webhook).last_error == "no answer within 0.5 s"


def test_of_a_huge_answer_only_the_beginning_is_read(local: Sender) -> None:
    written, size = [], 64 * 2**20

    def huge(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        for _ in range(size // 2**16):
            handler.wfile.write(bytes(2**16))
            written.append(2**16)

    with receiving(huge) as receiver:
        webhook = local.webhook(receiver.url)
        local.tell("evt_1")
        assert local.send() == 1
    assert local.only(webhook).state == DELIVERED
    assert sum(written) < size, "the rest was refused; buffers of the system may hold some"


def test_what_is_not_http_is_a_failed_try(local: Sender) -> None:
    with receiving(lambda handler: handler.wfile.write(b"220 mail ready\r\n") and None) as receiver:
        webhook = local.webhook(receiver.url)
        local.tell("evt_1")
        local.send()
    assert "BadStatusLine" in str(local.only(webhook).last_error)


# --- where the connection goes --------------------------------------------------------------------


def names(**addresses: list[str]) -> Transport:
    """Resolves the names given, and no other."""
    return Transport(resolver=lambda host, port: addresses[host.replace(".", "_")])


def test_the_connection_goes_to_the_checked_address_under_the_names_host(local: Sender) -> None:
    """The name is in no DNS: a second look-up could only fail."""
    with receiving() as receiver:
        local.webhook(f"http://hooks.test:{receiver.port}/in")
        local.tell("evt_1")
        assert local.send(names(hooks_test=["127.0.0.1"])) == 1
    [got] = receiver.received
    assert got.headers["host"] == f"hooks.test:{receiver.port}"


def test_a_name_that_moves_to_a_private_address_is_refused(local: Sender) -> None:
    """DNS rebinding: public when it was registered, private when it is sent to."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    transport = Transport(resolver=lambda *_: answers.pop(0))
    local.settings = replace(local.settings, webhook_networks=())
    with receiving() as receiver:
        webhook = local.webhook(f"http://rebinds.test:{receiver.port}/")
        transport.resolver("rebinds.test", receiver.port)  # as the registration asks
        local.tell("evt_1")
        assert local.send(transport) == 0
    assert receiver.received == []
    assert "127.0.0.1, which is no public address" in str(local.only(webhook).last_error)
    assert answers == [], "each try looks the name up once"


def test_one_private_address_among_public_ones_is_enough_to_refuse(local: Sender) -> None:
    local.settings = replace(local.settings, webhook_networks=())
    with receiving() as receiver:
        local.webhook(f"http://mixed.test:{receiver.port}/")
        local.tell("evt_1")
        assert local.send(names(mixed_test=["127.0.0.1", "93.184.216.34"])) == 0
    assert receiver.received == []


def test_the_next_address_is_tried_where_the_first_does_not_answer(local: Sender) -> None:
    with receiving() as receiver:
        local.webhook(f"http://two.test:{receiver.port}/")
        local.tell("evt_1")
        assert local.send(names(two_test=["127.0.0.9", "127.0.0.1"])) == 1
    assert len(receiver.received) == 1


def test_proxies_of_the_environment_are_not_used(
    local: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        local.webhook(receiver.url)
        local.tell("evt_1")
        assert local.send() == 1
    assert (len(proxy.received), len(receiver.received)) == (0, 1)


# --- TLS ------------------------------------------------------------------------------------------


def certified(name: str, folder: Path) -> Path:
    """A certificate that signs itself, with its key, in one file."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def try_tls(
    local: Sender, pem: Path, *, host: str, trusted: bool
) -> tuple[Delivery, list[Received]]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(pem) if trusted else None)
    with receiving(tls=server) as receiver:
        webhook = local.webhook(f"https://{host}:{receiver.port}/")
        local.tell("evt_1")
        local.send(Transport(resolver=lambda *_: ["127.0.0.1"], tls=client))
    return local.only(webhook), receiver.received


def test_tls_is_verified_by_the_name_not_the_address(local: Sender, tmp_path: Path) -> None:
    pem = certified("hooks.test", tmp_path)
    delivery, received = try_tls(local, pem, host="hooks.test", trusted=True)
    assert delivery.state == DELIVERED
    assert json.loads(received[0].body)["type"] == "job.published"


def test_an_unknown_certificate_is_refused(local: Sender, tmp_path: Path) -> None:
    pem = certified("hooks.test", tmp_path)
    delivery, received = try_tls(local, pem, host="hooks.test", trusted=False)
    assert "CERTIFICATE_VERIFY_FAILED" in str(delivery.last_error)
    assert received == []


def test_a_certificate_of_another_name_is_refused(local: Sender, tmp_path: Path) -> None:
    pem = certified("hooks.test", tmp_path)
    delivery, received = try_tls(local, pem, host="other.test", trusted=True)
    assert "CERTIFICATE_VERIFY_FAILED" in str(delivery.last_error)
    assert received == []
