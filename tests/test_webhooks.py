"""Where webhooks may point, and how their messages are signed."""

from __future__ import annotations

import ipaddress
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from datagen.webhooks import (
    Target,
    TargetError,
    is_public,
    new_secret,
    parse_target,
    resolve_host,
    signature_headers,
    vetted_addresses,
)

NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.8.9.1"),
    *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
    *("255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "fc00::1", "fd12::1"),
    *("fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "2001::1", "2002:7f00:1::"),
    *("3fff::1", "4000::1", "5f00::1"),
]
PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    target = parse_target("https://example.com/")
    with pytest.raises(TargetError, match="no public address"):
        vetted_addresses(target, lambda *_: [address], (), timeout_s=5)
    with pytest.raises(TargetError, match="no public address"):
        vetted_addresses(target, lambda *_: ["8.8.8.8", address], (), timeout_s=5)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    found = vetted_addresses(
        parse_target("https://example.com/"), lambda *_: [address], (), timeout_s=5
    )
    assert found == [ipaddress.ip_address(address)]


@given(st.ip_addresses())
def test_no_address_passes_that_the_standard_library_calls_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """An independent list; ours may refuse more."""
    if is_public(address):
        kinds = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
        assert [kind for kind in kinds if getattr(address, f"is_{kind}")] == []


def test_a_private_network_can_be_allowed_and_opens_no_other() -> None:
    target = parse_target("http://intranet/")
    allowed = ("10.1.0.0/16", "fd12::/32")
    for address in ("10.1.2.3", "fd12::5"):
        assert vetted_addresses(target, lambda *_, a=address: [a], allowed, timeout_s=5)
    for address in ("10.2.2.3", "fd13::5", "::ffff:10.1.2.3"):
        with pytest.raises(TargetError):
            vetted_addresses(target, lambda *_, a=address: [a], allowed, timeout_s=5)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "0"]
)
def test_every_spelling_of_this_host_is_refused(host: str) -> None:
    with pytest.raises(TargetError, match="no public address"):
        vetted_addresses(parse_target(f"http://{host}:8080/"), resolve_host, (), timeout_s=20)


def test_a_host_without_an_address_is_refused() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    for resolver in (fails, lambda *_: []):
        with pytest.raises(TargetError, match="no address was found"):
            vetted_addresses(parse_target("http://nowhere/"), resolver, (), timeout_s=5)
    long_label = parse_target(f"http://{'a' * 70}.com/")
    with pytest.raises(TargetError, match="no address was found"):
        vetted_addresses(long_label, resolve_host, (), timeout_s=20)


def test_a_resolver_that_hangs_is_left_behind() -> None:
    asked, released = threading.Event(), threading.Event()

    def hangs(host: str, port: int) -> list[str]:
        asked.set()
        released.wait()
        return ["8.8.8.8"]

    with pytest.raises(TargetError, match="no address was found"):
        vetted_addresses(parse_target("http://slow/"), hangs, (), timeout_s=0.05)
    assert asked.is_set()
    released.set()


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target(True, "example.com", 443, "/")),
        ("http://Example.COM:8080/a/b?c=d&e", Target(False, "example.com", 8080, "/a/b?c=d&e")),
        ("https://[2606:4700::1]:1/x", Target(True, "2606:4700::1", 1, "/x")),
        ("https://example.com?q=1", Target(True, "example.com", 443, "/?q=1")),
        (
            "https://xn--bcher-kva.example/h%C3%A4",
            Target(True, "xn--bcher-kva.example", 443, "/h%C3%A4"),
        ),
    ],
)
def test_targets(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.com/", "begins with https:// or http://"),
        ("file:///etc/passwd", "begins with https:// or http://"),
        ("//example.com/", "begins with https:// or http://"),
        ("https://user:secret@example.com/", "without user or password"),
        ("https://@example.com/", "without user or password"),
        ("https://example.com/#part", "without '#'"),
        ("https://example.com/#", "without '#'"),
        ("https://example.com:0/", "a port from 1 to 65535"),
        ("https://example.com:65536/", "a URL such as"),
        ("https://example.com:x/", "a URL such as"),
        ("https:///path", "a host's name"),
        ("https://exa mple.com/", "visible ASCII"),
        ("https://example.com\\@evil.com/", "visible ASCII"),
        ("https://example.com/\r\nX-Header: 1", "visible ASCII"),
        ("https://exämple.com/", "xn--"),
        ("https://exam%70le.com/", "a host's name"),
        ("https://[fe80::1%25eth0]/", "IPv6 address"),
        ("https://[::1/", "a URL such as"),
        ("https://example.com/" + "a" * 2048, "at most 2048"),
        ("", "visible ASCII"),
    ],
)
def test_bad_urls_are_refused_with_what_is_expected(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_target(url)


@given(st.text(alphabet="htps:/@#?[]%.\\1a:-é ", max_size=30))
def test_any_url_is_parsed_or_refused(tail: str) -> None:
    try:
        target = parse_target(f"http://{tail}")
    except ValueError:
        return
    assert 1 <= target.port <= 65535
    assert target.path.startswith("/")


def test_the_specifications_own_example() -> None:
    assert signature_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        event_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    ) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_specifications_library_accepts_what_we_sign_and_nothing_else() -> None:
    secret, body = new_secret(), '{"type":"job.published","name":"größe"}'.encode()
    now = int(datetime.now(UTC).timestamp())
    headers = signature_headers(secret, event_id="evt_1", timestamp=now, body=body)
    assert Webhook(secret).verify(body, headers)["name"] == "größe"
    for wrong in (
        (Webhook(new_secret()), body, headers),
        (Webhook(secret), body + b" ", headers),
        (Webhook(secret), body, headers | {"webhook-id": "evt_2"}),
        (Webhook(secret), body, headers | {"webhook-timestamp": str(now + 1)}),
    ):
        verifier, data, sent = wrong
        with pytest.raises(WebhookVerificationError):
            verifier.verify(data, sent)


def test_secrets_differ_and_are_of_the_size_that_the_specification_asks_for() -> None:
    import base64

    secrets = {new_secret() for _ in range(10)}
    assert len(secrets) == 10
    for secret in secrets:
        assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"))) <= 64
