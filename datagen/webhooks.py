"""Where webhooks may point, and how their messages are signed.

A tenant names the address, the service calls it: so every address that a name resolves to is
checked, when the webhook is registered and again before each try. Called by the API and by
webhook_delivery.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import urlsplit

from datagen.errors import InputError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Sequence[str]]

MAX_URL_LENGTH = 2_048
_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = 32

# IANA special-purpose registry and RFC 1112: nothing here is a server on the internet.
_NOT_PUBLIC_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
# All that is public lies here. Outside: loopback, link-local, unique local, multicast, and the
# forms that hide an IPv4 address, ::ffff:0:0/96 and NAT64's 64:ff9b::/96.
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
# Protocol assignments with Teredo, documentation, 6to4, documentation.
_NOT_PUBLIC_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


class TargetError(InputError):
    """A webhook's host has no address, or one that may not be reached."""


@dataclass(frozen=True)
class Target:
    """A checked URL. path: with its query. host: a name, or an address without brackets."""

    is_tls: bool
    host: str
    port: int
    path: str


def parse_target(url: str) -> Target:
    """Raises ValueError that completes "expected ..."."""
    if len(url) > MAX_URL_LENGTH or not re.fullmatch(r"[!-\[\]-~]+", url):
        raise ValueError(
            f"at most {MAX_URL_LENGTH} visible ASCII characters without '\\'; write other "
            "characters percent-encoded, and a host's name as xn--..."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("a URL such as https://example.com:8443/hooks") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL that begins with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("a URL without user or password; the signature tells who sends")
    if parts.fragment or url.endswith("#"):
        raise ValueError("a URL without '#'")
    if port == 0:
        raise ValueError("a port from 1 to 65535")
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(is_tls, _host(parts.hostname or ""), port or (443 if is_tls else 80), path)


def resolve_host(host: str, port: int) -> list[str]:
    """Every address of the name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def vetted_addresses(
    target: Target, resolver: Resolver, allowed_networks: Sequence[str], *, timeout_s: float
) -> list[Address]:
    """The addresses of the target's host, each of which may be connected to.

    allowed_networks: that may be reached although they are not public, as 10.1.0.0/16.
    Raises TargetError if any other address is not public, or if none is found in time.
    """
    allowed = [ipaddress.ip_network(network) for network in allowed_networks]
    addresses = [ipaddress.ip_address(text) for text in _resolved(target, resolver, timeout_s)]
    for address in addresses:
        # Of another version, an address is in no network.
        if not is_public(address) and not any(address in network for network in allowed):
            raise TargetError(
                f"host {target.host!r} is at {address}, which is no public address; an operator "
                "can allow its network with DATAGEN_WEBHOOK_NETWORKS"
            )
    return addresses


def _resolved(target: Target, resolver: Resolver, timeout_s: float) -> Sequence[str]:
    """In a thread of its own: a resolver heeds no deadline."""
    found: list[Sequence[str]] = []

    def resolve() -> None:
        with suppress(OSError, UnicodeError):
            found.append(resolver(target.host, target.port))

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found or not found[0]:
        raise TargetError(f"host {target.host!r}: no address was found; check the name")
    return found[0]


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    return address in _PUBLIC_V6 and not any(address in network for network in _NOT_PUBLIC_V6)


def new_secret() -> str:
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature_headers(secret: str, *, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Source: Standard Webhooks specification 1.0, "Webhook metadata" and "Signature scheme".

    timestamp: of this try, seconds since the epoch.
    """
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    signed = f"{event_id}.{timestamp}.".encode() + body
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{signature}",
    }


def _host(host: str) -> str:
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            address = None
        if address is None or address.scope_id is not None:
            raise ValueError("an IPv6 address in brackets, such as [2606:4700::1]")
        return str(address)
    if not re.fullmatch(r"[a-z0-9_.-]{1,253}", host):
        raise ValueError("a host's name of letters, digits, '-' and '.', or its address")
    return host
