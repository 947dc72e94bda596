"""Where the service is and who asks: checked once, the same for both senders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from datagen import __version__
from datagen.errors import InputError
from datagen.settings import load_settings

CONNECT_TIMEOUT_S = 10.0
# The service sends a heartbeat every 15 s; three missed ones are a dead connection.
STREAM_SILENCE_S = 45.0


@dataclass(frozen=True)
class Connection:
    """api_url: without /v1 and closing slash."""

    api_url: str
    api_key: str
    timeout_s: float
    max_retries: int

    def url(self, path: str) -> str:
        return f"{self.api_url}/v1{path}"

    def headers(self) -> dict[str, str]:
        agent = f"datagen-client/{__version__}"
        return {"Authorization": f"Bearer {self.api_key}", "User-Agent": agent}

    def timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S))

    def stream_timeout(self) -> httpx.Timeout:
        """Of a stream that may be silent between heartbeats."""
        return httpx.Timeout(
            max(self.timeout_s, STREAM_SILENCE_S), connect=min(self.timeout_s, CONNECT_TIMEOUT_S)
        )


def open_connection(
    api_url: str | None, api_key: str | None, *, timeout_s: float, max_retries: int
) -> Connection:
    """What is not given comes from DATAGEN_API_URL and DATAGEN_API_KEY. Raises InputError."""
    settings = load_settings()
    url, key = api_url or settings.api_url, api_key or settings.api_key
    if url is None:
        raise InputError(
            "DATAGEN_API_URL is not set: give the service's address, such as "
            "https://datagen.example, there or as api_url"
        )
    if key is None:
        raise InputError(
            "DATAGEN_API_KEY is not set: give your key (dg_...) there or as api_key; an "
            "administrator makes one with `datagen keys create`"
        )
    if not re.fullmatch(r"[!-~]{1,8192}", key):  # the key itself is never shown
        raise InputError("DATAGEN_API_KEY: expected visible ASCII characters, without blanks")
    if timeout_s <= 0 or max_retries < 0:
        raise InputError(
            f"timeout_s {timeout_s} and max_retries {max_retries}: expected more than 0, and 0 or "
            "more"
        )
    return Connection(_checked(url), key, timeout_s, max_retries)


def _checked(url: str) -> str:
    base = url.rstrip("/").removesuffix("/v1")
    try:
        parts = urlsplit(base)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_plain = not (parts.query or parts.fragment or parts.username) and parts.port != 0
    except ValueError:
        is_address = is_plain = False
    if not is_address or not is_plain:
        raise InputError(
            f"DATAGEN_API_URL {url[:200]!r}: expected http://host:port or https://host, without "
            "user, query or fragment"
        )
    return base
