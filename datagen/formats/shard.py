"""The shard: a canonical tar of samples, the one layout that datagen stores.

Written by the engine (pack), read by VersionReader and by any tar or WebDataset reader. A sample
is {key}.png, then {key}.mask.png and {key}.instances.png where it has them, then {key}.json. Equal
samples in equal order give equal bytes: the same as Python's tarfile writes with USTAR_FORMAT, mode
0644 and zero times and owners, in a tenth of the time.
Source of the layout: POSIX.1-1988 (ustar), pax(1) "ustar Interchange Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from datagen.errors import InputError, VerifyError

BLOCK_BYTES = 512
RECORD_BYTES = 20 * BLOCK_BYTES
MAX_MEMBER_BYTES = 256 * 2**20

# A dot would end the key for WebDataset, a slash would make a folder; 85 + ".instances.png" is
# within tar's 100.
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,84}")
_ALWAYS = (".png", ".json")
_MAPS = {".mask.png": "mask", ".instances.png": "instances"}
_MODE_AND_OWNERS = b"0000644\0" + 2 * b"0000000\0"
_MTIME = b"00000000000\0"
_TAIL = (b"0" + bytes(100) + b"ustar\x0000").ljust(356, b"\0")
_CONSTANT_SUM = sum(_MODE_AND_OWNERS + _MTIME + _TAIL) + 8 * ord(" ")


@dataclass(frozen=True, slots=True)
class ShardMember:
    """One sample: its encoded image, its canonical JSON, and its label maps as PNG, empty where it
    has none."""

    key: str
    png: bytes
    json: bytes
    mask: bytes = b""
    instances: bytes = b""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """(name, content), in the order of the tar."""
        for suffix, content in (
            (".png", self.png),
            (".mask.png", self.mask),
            (".instances.png", self.instances),
            (".json", self.json),
        ):
            if content or suffix in _ALWAYS:
                yield self.key + suffix, content

    @property
    def size_bytes(self) -> int:
        """In the tar, headers and padding included."""
        return sum(BLOCK_BYTES + len(c) + -len(c) % BLOCK_BYTES for _, c in self.files())


@dataclass(frozen=True, slots=True)
class PackedShard:
    """data: the tar. offsets: (offset, size) in bytes of each sample's PNG inside data."""

    data: bytes
    offsets: list[tuple[int, int]]


def pack_shard(members: Iterable[ShardMember]) -> PackedShard:
    """Raises InputError if a key is given twice or is not a plain name of up to 85 characters."""
    parts: list[bytes] = []
    offsets: list[tuple[int, int]] = []
    keys: set[str] = set()
    position = 0
    for member in members:
        if member.key in keys or not _KEY.fullmatch(member.key):
            raise InputError(
                f"sample key {member.key!r}: expected a new name of letters, digits, - and _"
            )
        keys.add(member.key)
        offsets.append((position + BLOCK_BYTES, len(member.png)))
        for name, content in member.files():
            padding = -len(content) % BLOCK_BYTES
            parts += (_header(name, len(content)), content, bytes(padding))
            position += BLOCK_BYTES + len(content) + padding
    end = 2 * BLOCK_BYTES
    parts.append(bytes(end + -(position + end) % RECORD_BYTES))
    return PackedShard(b"".join(parts), offsets)


def iterate_shard(stream: BinaryIO) -> Iterator[ShardMember]:
    """Holds one sample in memory. Reads what pack_shard writes, and no other kind of tar.

    Raises VerifyError if the bytes are cut or changed in a way that shows without a digest.
    """
    name, png = _read_member(stream)
    while name:
        key, _, suffix = name.partition(".")
        maps: dict[str, bytes] = {}
        follower, document = _read_member(stream)
        while (kind := _MAPS.get(follower.removeprefix(key))) and kind not in maps:
            maps[kind] = document
            follower, document = _read_member(stream)
        if not _KEY.fullmatch(key) or suffix != "png" or follower != f"{key}.json":
            raise VerifyError(
                f"tar member {name!r} is followed by {follower!r}: "
                "expected each sample as KEY.png and then KEY.json"
            )
        yield ShardMember(key, png, document, **maps)
        name, png = _read_member(stream)


def _header(name: str, size: int) -> bytes:
    if size > MAX_MEMBER_BYTES:
        raise InputError(f"{name}: {size} bytes: expected at most {MAX_MEMBER_BYTES}")
    encoded, digits = name.encode("ascii"), b"%011o\0" % size
    checksum = b"%06o\0 " % (_CONSTANT_SUM + sum(encoded) + sum(digits))
    return b"".join((encoded.ljust(100, b"\0"), _MODE_AND_OWNERS, digits, _MTIME, checksum, _TAIL))


def _read_member(stream: BinaryIO) -> tuple[str, bytes]:
    """The next member's name and content; no name and no content at the end mark."""
    header = _read_exactly(stream, BLOCK_BYTES)
    if not any(header):
        return "", b""
    try:
        name = header[:100].rstrip(b"\0").decode("ascii")
        size = int(header[124:135], 8)
    except ValueError:
        raise VerifyError("a tar header is damaged: expected a ustar header") from None
    if not 0 <= size <= MAX_MEMBER_BYTES or header != _header(name, size):
        raise VerifyError(f"tar header of {name!r} is damaged: expected datagen's ustar header")
    content = _read_exactly(stream, size + -size % BLOCK_BYTES)
    return name, content[:size]


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    """Reads on after a short read, as sockets give them."""
    parts: list[bytes] = []
    while length > 0:
        part = stream.read(length)
        if not part:
            raise VerifyError("a tar ends before its end mark: expected a whole file")
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
