"""An object of the store as an answer, whole or one range of its bytes (RFC 9110, section 14).

Called by datasets.py. An object never changes: its sha256 is its entity tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastapi.responses import Response, StreamingResponse

from datagen.api.problems import RequestError
from datagen.store import Store

MEDIA_TYPE = "application/octet-stream"
_PIECE_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def object_response(
    store: Store, key: str, size_bytes: int, *, sha256: str, byte_range: str | None
) -> Response:
    """Raises RequestError 416 for a range beyond the object, ObjectMissingError. A range that is
    malformed, or several, are as none: the whole object is the answer then."""
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{sha256}"'}
    wanted = _wanted(byte_range, size_bytes)
    if wanted is None:
        headers["Content-Length"] = str(size_bytes)
        stream = _whole(store, key)
        return StreamingResponse(stream, headers=headers, media_type=MEDIA_TYPE)
    first, last = wanted
    headers["Content-Length"] = str(last - first + 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    pieces = _pieces(store, key, first, last)
    return StreamingResponse(pieces, 206, headers=headers, media_type=MEDIA_TYPE)


def _wanted(byte_range: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte."""
    match = _RANGE.fullmatch(byte_range or "")
    if match is None or not any(match.groups()):
        return None
    start, end = match.groups()
    if start and end and int(end) < int(start):
        return None  # malformed, and so ignored
    if start:
        first, last = int(start), min(int(end or size_bytes), size_bytes - 1)
    else:
        first, last = max(0, size_bytes - int(end)), size_bytes - 1
    if first >= size_bytes or first > last:
        detail = f"range {byte_range!r}: the object has {size_bytes} bytes"
        raise RequestError(416, "range", detail)
    return first, last


def _whole(store: Store, key: str) -> Iterator[bytes]:
    """The object is opened at once: a missing one is told by the status."""
    stream = store.open(key)

    def pieces() -> Iterator[bytes]:
        with stream:
            while piece := stream.read(_PIECE_BYTES):
                yield piece

    return pieces()


def _pieces(store: Store, key: str, first: int, last: int) -> Iterator[bytes]:
    """The first piece is read at once, for the same reason."""
    head = store.get_range(key, first, min(_PIECE_BYTES, last - first + 1))

    def pieces() -> Iterator[bytes]:
        yield head
        for start in range(first + len(head), last + 1, _PIECE_BYTES):
            yield store.get_range(key, start, min(_PIECE_BYTES, last - start + 1))

    return pieces()
