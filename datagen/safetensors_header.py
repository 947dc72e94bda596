"""A safetensors file's header, checked by hand before any library opens the file.

Called by generators/ (weights) and references/, which reads the tensors here as well.

Source: the format's specification (huggingface/safetensors, README, "Format"): 8 bytes of header
length, little-endian; a JSON object of tensors; then the tensors, without holes or overlaps.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from datagen.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_HEADER_BYTES = 4 << 20
_MAX_TENSORS = 20_000
_MAX_DIMENSIONS = 8
_PIECE_BYTES = 1 << 22
_REMEDY = "train or copy the model again"
_NUMPY_TYPES = {"F32": "<f4", "F16": "<f2", "I8": "i1", "U8": "u1", "I32": "<i4", "F64": "<f8"}
_BYTES_PER_ITEM = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
WEIGHT_TYPES = ("F32", "F16")
REFERENCE_TYPES = tuple(_NUMPY_TYPES)
PIPELINE_TYPES = tuple(_BYTES_PER_ITEM)  # of weights that others trained


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header. begin, end: offsets into the part after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class TensorFile:
    """A whole file in memory. tensors: read-only. metadata: of the header, text to text. sha256: of
    the file."""

    tensors: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]
    sha256: str


def check_safetensors(path: Path, *, types: Sequence[str] = WEIGHT_TYPES) -> list[TensorEntry]:
    """Returns the tensors in file order. Raises ModelError if the file is not sound."""
    with open(path, "rb", opener=_no_link) as file, _told_of(path):
        return _check(file, os.fstat(file.fileno()).st_size, types)[0]


def read_safetensors(
    path: Path, *, types: Sequence[str] = WEIGHT_TYPES, max_bytes: int
) -> TensorFile:
    """Without torch. Raises ModelError if the file is not sound, above max_bytes, or holds a number
    that is NaN or infinite."""
    with open(path, "rb", opener=_no_link) as file, _told_of(path):
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > max_bytes:
            raise ValueError(f"{size_bytes} bytes; expected at most {max_bytes}")
        entries, metadata = _check(file, size_bytes, types)
        file.seek(0)
        data = file.read(size_bytes)
    import numpy as np

    start = size_bytes - entries[-1].end
    tensors = {}
    for entry in entries:
        count, kind = math.prod(entry.shape), _NUMPY_TYPES[entry.dtype]
        values = np.frombuffer(data, kind, count, start + entry.begin)
        if not np.isfinite(values).all():
            raise ModelError(f"{path}: tensor {entry.name}: not finite; {_REMEDY}")
        tensors[entry.name] = values.reshape(entry.shape)
    return TensorFile(tensors, metadata, hashlib.sha256(data).hexdigest())


def read_tensor(
    path: Path, name: str, *, types: Sequence[str] = WEIGHT_TYPES, max_bytes: int
) -> NDArray[Any]:
    """One tensor alone, flat. Raises ModelError if the file is not sound, or has none of at most
    max_bytes by that name."""
    import numpy as np

    with open(path, "rb", opener=_no_link) as file, _told_of(path):
        size_bytes = os.fstat(file.fileno()).st_size
        entries, _ = _check(file, size_bytes, types)
        found = next((entry for entry in entries if entry.name == name), None)
        if found is None or found.end - found.begin > max_bytes:
            raise ValueError(f"no tensor {name} of at most {max_bytes} bytes")
        file.seek(size_bytes - entries[-1].end + found.begin)
        return np.frombuffer(file.read(found.end - found.begin), _NUMPY_TYPES[found.dtype])


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"model file {path}: not a sound safetensors file: {error}; {_REMEDY}"
        ) from None


def check_finite(path: Path) -> None:
    """In bounded memory, without torch. Raises ModelError for a number that is NaN or infinite, and
    as check_safetensors does."""
    import numpy as np

    entries = check_safetensors(path, types=REFERENCE_TYPES)
    with open(path, "rb") as file:
        start = os.fstat(file.fileno()).st_size - entries[-1].end
        for entry in entries:
            file.seek(start + entry.begin)
            left = entry.end - entry.begin
            while left and (data := file.read(min(left, _PIECE_BYTES))):
                left -= len(data)
                if not np.isfinite(np.frombuffer(data, _NUMPY_TYPES[entry.dtype])).all():
                    raise ModelError(f"{path}: tensor {entry.name}: not finite; {_REMEDY}")


def _check(
    file: BinaryIO, size_bytes: int, types: Sequence[str]
) -> tuple[list[TensorEntry], dict[str, str]]:
    """And the metadata."""
    length = int.from_bytes(file.read(8), "little")
    if size_bytes < 8 or length > min(_MAX_HEADER_BYTES, size_bytes - 8):
        raise ValueError(
            f"a header of {length} bytes in a file of {size_bytes}; expected at most "
            f"{_MAX_HEADER_BYTES}, inside the file"
        )
    header = json.loads(file.read(length), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__: expected an object of texts")
    if not 0 < len(header) <= _MAX_TENSORS:
        raise ValueError(f"{len(header)} tensors; expected 1 to {_MAX_TENSORS}")
    entries = sorted(
        (_entry(*item, types) for item in header.items()), key=lambda e: (e.begin, e.end)
    )
    end = 0
    for entry in entries:
        if entry.begin != end:
            raise ValueError(f"tensor {entry.name} begins at {entry.begin}; expected {end}")
        end = entry.end
    if end != size_bytes - 8 - length:
        raise ValueError(
            f"{size_bytes - 8 - length} bytes of tensors; expected {end}: truncated or padded"
        )
    return entries, metadata


def _entry(name: str, fields: Any, types: Sequence[str]) -> TensorEntry:
    name = name[:200]
    if not isinstance(fields, dict) or fields.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in types:
        raise ValueError(f"tensor {name}: dtype {str(dtype)[:50]}; expected {' or '.join(types)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"tensor {name}: shape {str(shape)[:100]} is not one")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name}: data_offsets {str(offsets)[:100]}: expected two")
    begin, end = offsets
    if end - begin != math.prod(shape) * _BYTES_PER_ITEM[dtype]:
        raise ValueError(f"tensor {name}: {end - begin} bytes for {dtype} of shape {shape}")
    return TensorEntry(name, dtype, tuple(shape), begin, end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 1 << 40 for value in values
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a name occurs twice in the header")
    return dict(pairs)
