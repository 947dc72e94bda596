"""Sends what webhooks are owed: signed, to a checked address, again until it is accepted.

deliver_due is called from time to time by workers, by as many at once as there are.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import datagen
from datagen.catalog.catalog import Catalog
from datagen.catalog.webhooks import (
    ClaimedDelivery,
    claim_delivery,
    count_due,
    disable_webhook,
    record_delivered,
    record_failure,
)
from datagen.errors import DatagenError
from datagen.settings import Settings
from datagen.webhooks import (
    Address,
    Resolver,
    Target,
    parse_target,
    resolve_host,
    signature_headers,
    vetted_addresses,
)

MAX_TRIES = 8
TIMEOUT_S = 10.0  # of one try, from the look-up of the name to the end of the answer
MAX_ANSWER_BYTES = 64 * 1024  # the rest of an answer is not read
_LEASE_S = 60.0  # far above TIMEOUT_S: no two senders at work on one delivery
_NUM_SENDERS = 8
_CALL_S = 5.0  # how long one call begins new tries; it ends TIMEOUT_S later at most

_GONE = 410


@dataclass(frozen=True)
class Outcome:
    """Of one try. status: None if there was no answer. error: None if it was accepted."""

    status: int | None
    error: str | None


@dataclass(frozen=True)
class Transport:
    """How the outside is reached; tests bring their own names and certificates."""

    resolver: Resolver = resolve_host
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    timeout_s: float = TIMEOUT_S


def retry_delay_s(tries: int, jitter: float) -> float:
    """After so many failed tries: 15 s, 1 min, 4, 16, 64 min, 4.3 h, 17 h; a day in all.

    jitter: in [0, 1); moves it by up to a fifth either way, so that what failed together does not
    come back together.
    """
    return 15.0 * 4.0 ** (tries - 1) * (0.8 + 0.4 * jitter)


def deliver_due(
    catalog: Catalog,
    settings: Settings,
    *,
    transport: Transport | None = None,
    jitter: Callable[[], float] = random.random,
) -> int:
    """Sends what is due, for some seconds. catalog: of all tenants. Returns how many were accepted.

    A receiver that fails is left alone for the rest of the call: it holds up no other for longer.
    """
    senders = min(count_due(catalog), _NUM_SENDERS)
    if senders == 0:
        return 0
    last_begin = time.monotonic() + _CALL_S
    means = transport or Transport()
    failing: set[str] = set()

    def send_some(_: int) -> int:
        accepted = 0
        while time.monotonic() < last_begin:
            claimed = claim_delivery(
                catalog, lease_s=_LEASE_S, max_tries=MAX_TRIES, skipping=tuple(failing)
            )
            if claimed is None:
                break
            outcome = send(claimed, settings.webhook_networks, means)
            _record(catalog, claimed, outcome, jitter())
            if outcome.error is None:
                accepted += 1
            else:
                failing.add(claimed.webhook_id)
        return accepted

    with ThreadPoolExecutor(senders, "webhooks") as pool:
        return sum(pool.map(send_some, range(senders)))


def send(
    claimed: ClaimedDelivery, allowed_networks: Sequence[str], transport: Transport
) -> Outcome:
    """One try. Never raises for what the receiver, its name or its network does."""
    deadline = time.monotonic() + transport.timeout_s
    try:
        target = parse_target(claimed.url)
        addresses = vetted_addresses(
            target, transport.resolver, allowed_networks, timeout_s=transport.timeout_s
        )
        status = _post(claimed, target, addresses, transport.tls, deadline)
    except (DatagenError, OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline:
            return Outcome(None, f"no answer within {transport.timeout_s:g} s")
        kind = "" if isinstance(error, DatagenError) else f"{type(error).__name__}: "
        return Outcome(None, f"{kind}{error}"[:500])
    if 200 <= status < 300:
        return Outcome(status, None)
    if 300 <= status < 400:
        return Outcome(status, f"answered {status}: redirects are not followed; register the URL")
    return Outcome(status, f"answered {status}, expected 200 to 299")


def _record(catalog: Catalog, claimed: ClaimedDelivery, outcome: Outcome, jitter: float) -> None:
    if outcome.error is None:
        assert outcome.status is not None
        record_delivered(catalog, claimed, outcome.status)
        return
    ended = claimed.tries >= MAX_TRIES or outcome.status == _GONE
    record_failure(
        catalog,
        claimed,
        status=outcome.status,
        error=outcome.error,
        retry_after_s=None if ended else retry_delay_s(claimed.tries, jitter),
    )
    if outcome.status == _GONE:
        disable_webhook(catalog, claimed.webhook_id, error="the receiver answered 410: it is gone")


def _post(
    claimed: ClaimedDelivery,
    target: Target,
    addresses: Sequence[Address],
    tls: ssl.SSLContext,
    deadline: float,
) -> int:
    """Returns the status. Redirects are not followed, proxies of the environment not used."""
    body = claimed.body.encode()
    headers = signature_headers(
        claimed.secret,
        event_id=claimed.event_id,
        timestamp=int(claimed.claimed_at),
        body=body,
    )
    headers |= {
        "Content-Type": "application/json",
        "User-Agent": f"datagen/{datagen.__version__}",
        "Connection": "close",
    }
    connection = _Connection(target, addresses, tls, deadline)
    try:
        connection.connect()
        with _cut_off(connection.sock, deadline):
            connection.request("POST", target.path, body, headers)
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
        if time.monotonic() >= deadline:  # what was cut off may look complete
            raise TimeoutError
        return answer.status
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    """Connects to addresses that were checked, whatever the name resolves to by now; the name
    stays in the Host header and in TLS."""

    def __init__(
        self,
        target: Target,
        addresses: Sequence[Address],
        tls: ssl.SSLContext,
        deadline: float,
    ) -> None:
        self.default_port = 443 if target.is_tls else 80
        super().__init__(target.host, target.port)
        self._addresses = addresses
        self._tls = tls if target.is_tls else None
        self._deadline = deadline

    def connect(self) -> None:
        for num_left, address in zip(
            range(len(self._addresses), 0, -1), self._addresses, strict=True
        ):
            share_s = self._left_s() / num_left  # one that never answers leaves time for the next
            try:
                self.sock = socket.create_connection((str(address), self.port), share_s)
                break
            except OSError:
                if num_left == 1:
                    raise
        self.sock.settimeout(self._left_s())
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            with _cut_off(self.sock, self._deadline):
                self.sock.do_handshake()

    def _left_s(self) -> float:
        return max(0.001, self._deadline - time.monotonic())


@contextmanager
def _cut_off(connected: socket.socket, deadline: float) -> Iterator[None]:
    """Ends what waits on the socket at the deadline: its own timeout begins anew with each byte
    that a slow peer sends."""

    def cut() -> None:
        with suppress(OSError):  # closed already
            socket.socket.shutdown(connected, socket.SHUT_RDWR)  # the plain one, under TLS too

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
