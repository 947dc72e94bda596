"""Immutable objects by key: one protocol, a directory and S3, with the same errors.

Called by the engine, the format readers and the command line; they build one store at the edge,
with `open_store`, and pass it in. boto3 is imported by the first request to S3, not before.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from datagen.errors import InputError
from datagen.store.directory import DirectoryStore
from datagen.store.interface import ObjectInfo, Store, key_fault
from datagen.store.s3 import S3Store

__all__ = ["DirectoryStore", "ObjectInfo", "S3Store", "Store", "open_store"]


def open_store(url: str, *, endpoint_url: str | None = None, profile: str | None = None) -> Store:
    """url: file:///folder or s3://bucket/prefix. endpoint_url: of an S3 server other than AWS.
    profile: of the AWS configuration, in place of the default credentials.

    Raises InputError if an address is malformed. Opens no connection and creates no folder.
    """
    parts = urlsplit(url)
    expected = "expected file:///folder or s3://bucket/prefix; correct DATAGEN_STORE_URL"
    if parts.query or parts.fragment:
        raise InputError(f"store address {url!r} has a '?' or '#': {expected}")
    is_absolute = parts.path.startswith("/") and parts.path.strip("/") != ""
    if parts.scheme == "file" and not parts.netloc and is_absolute:
        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme == "s3" and re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc):
        endpoint = urlsplit(endpoint_url or "https://default")
        if endpoint.scheme not in ("http", "https") or not endpoint.hostname:
            raise InputError(
                f"S3 endpoint {endpoint_url!r}: expected http://host:port or https://host; "
                "correct DATAGEN_S3_ENDPOINT_URL"
            )
        prefix = parts.path.strip("/")
        if not prefix or key_fault(prefix) is None:
            return S3Store(parts.netloc, prefix, endpoint_url=endpoint_url, profile=profile)
    raise InputError(f"store address {url!r}: {expected}")
