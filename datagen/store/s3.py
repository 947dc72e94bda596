"""The store in an S3 bucket, at AWS or any server that knows conditional writes.

Called through `open_store`. boto3 costs a third of a second to import, so requests import it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from datagen.errors import InputError, ObjectMissingError, StoreError, StoreUnavailableError
from datagen.store.interface import (
    PRESIGNED_S,
    STREAM_BUFFER_BYTES,
    ForwardStream,
    ObjectInfo,
    check_key,
    check_length,
    check_prefix,
    differs,
    key_fault,
    same_bytes,
)
from datagen.store.s3_errors import boto_errors, http_status, missing_bucket, store_error

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 20.0
NUM_ATTEMPTS = 3
CONFLICT_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)
# Of an object that seems to be another than ours: a reply can be changed on its way.
NUM_READS = 3


class S3Store:
    """Objects below a prefix of a bucket. Credentials come from boto3's own chain alone, or from
    one profile of the AWS configuration."""

    def __init__(
        self, bucket: str, prefix: str, *, endpoint_url: str | None, profile: str | None = None
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint_url = endpoint_url
        self._profile = profile
        self._lock = threading.Lock()
        self._made: Any = None
        self._made_by = 0
        self._bucket_seen = False

    def put_new(self, key: str, data: bytes) -> bool:
        return self._put(self._name(key), io.BytesIO(data))

    def put_file(self, key: str, path: Path) -> bool:
        with path.open("rb") as source:
            return self._put(self._name(key), source)

    def _put(self, name: str, source: BinaryIO) -> bool:
        content_md5 = _content_md5(source)
        for pause_s in CONFLICT_PAUSES_S:
            status = self._put_once(name, source, content_md5)
            if status == 200:
                return True
            if status == 412 and self._holds(name, source):
                return False
            time.sleep(pause_s)  # 409: another writer is at it; or it was deleted in between
        raise StoreUnavailableError(
            f"{self._address(name)} can neither be created nor read: other writers of the same "
            "name are in the way, or a key that starts with it and a slash; run again"
        )

    def get(self, key: str) -> bytes:
        name = self._name(key)
        with self._errors("read", name) as client:
            data: bytes = client.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        return data

    def get_range(self, key: str, start: int, length: int) -> bytes:
        assert min(start, length) >= 0
        name = self._name(key)
        data = b""
        if length == 0:  # a Range header cannot ask for nothing
            with self._errors("read", name) as client:
                client.head_object(Bucket=self._bucket, Key=name)
            return data
        try:
            with self._errors("read", name) as client:
                data = client.get_object(
                    Bucket=self._bucket, Key=name, Range=f"bytes={start}-{start + length - 1}"
                )["Body"].read()
        except StoreError as error:
            if http_status(error.__cause__) != 416:
                raise
        return check_length(data, url=self._address(name), start=start, length=length)

    def open(self, key: str) -> BinaryIO:
        name = self._name(key)
        with self._errors("read", name) as client:
            body = client.get_object(Bucket=self._bucket, Key=name)["Body"]
        return io.BufferedReader(
            ForwardStream(body, lambda: self._errors("read", name)), STREAM_BUFFER_BYTES
        )

    def size(self, key: str) -> int | None:
        name = self._name(key)
        try:
            with self._errors("read", name) as client:
                num_bytes: int = client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]
        except ObjectMissingError:
            self._require_bucket()  # a HEAD has no body to say which of the two is missing
            return None
        return num_bytes

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # Sorted here: SeaweedFS lists folder by folder, "a/b" before "a-".
        name = self._prefix + check_prefix(prefix)
        found = []
        with self._errors("list", name) as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=name
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if key_fault(key) is None:  # some tools mark folders by objects named "a/"
                        found.append((key, int(item["Size"])))
        for key, num_bytes in sorted(found):
            yield ObjectInfo(key, num_bytes)

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._errors("delete", name) as client:
            client.delete_object(Bucket=self._bucket, Key=name)

    def url(self, key: str) -> str:
        return self._address(self._name(key))

    def presign(self, key: str, *, expires_s: int = PRESIGNED_S) -> str | None:
        name = self._name(key)
        with self._errors("sign an address of", name) as client:
            url: str = client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": name}, ExpiresIn=expires_s
            )
        return url

    def check(self) -> None:
        name = self._name(f"probe-{uuid4().hex}")
        first, second = io.BytesIO(b"first"), io.BytesIO(b"second")
        self._put_once(name, first, _content_md5(first))
        try:
            if self._put_once(name, second, _content_md5(second)) == 200:
                raise StoreError(
                    f"the S3 server of {self._address('')} ignores If-None-Match: writers could "
                    "overwrite each other's objects; use a server with conditional writes (AWS, "
                    "SeaweedFS), or a directory"
                )
        finally:
            with self._errors("delete", name) as client:
                client.delete_object(Bucket=self._bucket, Key=name)

    def _name(self, key: str) -> str:
        name = self._prefix + check_key(key)
        return check_key(name)

    def _address(self, name: str) -> str:
        return f"s3://{self._bucket}/{name}"

    def _put_once(self, name: str, source: BinaryIO, content_md5: str) -> int:
        """Returns 200, or 412 and 409 as the server gave them."""
        source.seek(0)
        try:
            with self._errors("write", name) as client:
                client.put_object(
                    Bucket=self._bucket,
                    Key=name,
                    Body=source,
                    IfNoneMatch="*",
                    ContentMD5=content_md5,
                )
        except StoreError as error:
            status = http_status(error.__cause__)
            if status not in (409, 412):
                raise
            return status
        return 200

    def _holds(self, name: str, source: BinaryIO) -> bool:
        """False if it is gone; raises ObjectExistsError if it is another object."""
        wanted_bytes = source.seek(0, os.SEEK_END)
        num_bytes = 0
        for _ in range(NUM_READS):
            source.seek(0)
            try:
                with self._errors("read", name) as client:
                    reply = client.get_object(Bucket=self._bucket, Key=name)
                    num_bytes = int(reply["ContentLength"])
                    with closing(reply["Body"]) as body:
                        if num_bytes == wanted_bytes and same_bytes(body, source):
                            return True
            except ObjectMissingError:
                return False
        raise differs(self._address(name), num_bytes=num_bytes, source=source)

    def _require_bucket(self) -> None:
        if not self._bucket_seen:
            try:
                with self._errors("read", "") as client:
                    client.head_bucket(Bucket=self._bucket)
            except ObjectMissingError as error:
                raise missing_bucket(self._bucket) from error
            self._bucket_seen = True

    def _client(self) -> Any:
        """One client per process: it is safe between threads, its connections not after a fork."""
        with self._lock:
            if self._made_by != os.getpid():
                self._made = _make_client(self._endpoint_url, self._profile)
                self._made_by = os.getpid()
            return self._made

    @contextmanager
    def _errors(self, action: str, name: str) -> Iterator[Any]:
        """Gives the client; what it raises comes out as a StoreError."""
        try:
            yield self._client()
        except boto_errors() as error:
            what = f"cannot {action} {self._address(name)}"
            raise store_error(error, what, bucket=self._bucket) from error


def _content_md5(source: BinaryIO) -> str:
    """So that the server refuses a body that was changed on its way."""
    source.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := source.read(STREAM_BUFFER_BYTES):
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _make_client(endpoint_url: str | None, profile: str | None) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(profile_name=profile)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": NUM_ATTEMPTS},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=32,
        # boto3's newer default checksums fail on several servers other than AWS. A Content-MD5
        # guards each put (SeaweedFS signs the payload's hash, and stores other bytes all the
        # same), our own sha256 everything read back.
        signature_version="s3v4",  # else presigned addresses are of an older kind
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "path" if endpoint_url else "auto",
            "payload_signing_enabled": True,
        },
    )
    try:
        return session.client(
            "s3",
            endpoint_url=endpoint_url,
            region_name=session.region_name or "us-east-1",  # servers other than AWS ask for none
            config=config,
        )
    except ValueError as error:
        raise InputError(f"{error}; correct DATAGEN_S3_ENDPOINT_URL") from None
