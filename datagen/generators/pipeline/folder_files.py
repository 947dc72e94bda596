"""The files of a folder that others wrote: what may lie there, how each is read, and its digest.

Torch-free. Called by component_checks.py and files.py.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from datagen.errors import ModelError
from datagen.pretrained.config_keys import FORBIDDEN, is_forbidden
from datagen.recipe import canonical_json
from datagen.safetensors_header import PIPELINE_TYPES, TensorEntry, check_safetensors

MAX_TEXT_BYTES, MAX_WEIGHTS_BYTES = 64 << 20, 64 << 30
_MAX_ENTRIES = 5000

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".msgpack", ".npy")
_CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")
CONVERT = (
    "where you trust it, load it once with diffusers and write it again with "
    "pipeline.save_pretrained(FOLDER, safe_serialization=True), and give that folder"
)
_COUNTS = ("layers", "layers_per_block", "num_blocks", "depth", "num_single_layers")
_MAX_COUNT, _MAX_SIZE, _MAX_ITEMS, _MAX_DEPTH = 512, 10_000_000, 20_000, 16
_BLOCKS, _MAX_BLOCKS = ("channels", "block_types", *_COUNTS), 64
# Numbers that no memory depends on: transformers writes int(1e30) for a tokenizer without a limit.
_UNBOUNDED = ("model_max_length", "max_length", "seed")


def check_tree(what: str, folder: Path) -> None:
    """Raises ModelError for a pickle, code or a linked folder anywhere below, used or not."""
    count = 0
    for parent, folders, names in os.walk(folder):
        shown = Path(parent).relative_to(folder)
        if ".git" in folders:
            folders.remove(".git")
        count += len(folders) + len(names)
        if count > _MAX_ENTRIES:
            raise ModelError(
                f"{what}: more than {_MAX_ENTRIES} files; give the folder of one pipeline"
            )
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise ModelError(
                    f"{what}: {shown / name} is a link to a folder; put the folder itself there"
                )
        for name in sorted(names):
            refuse_by_name(what, str(shown / name))


def refuse_by_name(what: str, name: str) -> None:
    """Raises ModelError for a pickle or code."""
    shown, lower = name[:200], name.lower()
    if lower.endswith(_PICKLES):
        raise ModelError(
            f"{what}: {shown} is a pickle or of a kind like it, which can run code when it is "
            f"opened; weights are safetensors alone: {CONVERT}"
        )
    if lower.endswith(_CODE):
        raise ModelError(
            f"{what}: {shown} is code, and none that comes with a model is run; remove it, or give "
            "a pipeline that diffusers' own classes load"
        )


def checked_file(what: str, name: str, path: Path, root: Path) -> Path:
    """Where the file really lies: regular, of a bounded size, inside root however it is linked.

    Raises ModelError if it is missing or another.
    """
    real = path.resolve()
    if not os.path.lexists(path):
        raise ModelError(f"{what}: {name} is missing; copy or download it whole")
    if not real.is_relative_to(root):
        raise ModelError(f"{what}: {name} is a link out of the folder; put the file itself there")
    if not real.is_file():
        raise ModelError(f"{what}: {name}: expected a regular file; copy it whole")
    limit = MAX_WEIGHTS_BYTES if name.endswith(".safetensors") else MAX_TEXT_BYTES
    if (size := real.stat().st_size) > limit:
        raise ModelError(f"{what}: {name}: {size} bytes; expected at most {limit}")
    return real


def read_json(what: str, name: str, path: Path) -> dict[str, Any]:
    """path: checked. Raises ModelError if it is no JSON object."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{what}: {name}: not JSON ({error}); copy it whole") from None
    if not isinstance(content, dict):
        raise ModelError(f"{what}: {name}: expected a JSON object; copy it whole")
    return content


def check_config(what: str, name: str, content: Mapping[str, Any]) -> None:
    """Raises ModelError for a key that makes a library load code, or a size that is none."""
    for key, value in _leaves(what, name, content, 0):
        if is_forbidden(key, value):
            raise ModelError(
                f"{what}: {name}: {key} is not allowed: it loads what does not lie beside it; "
                f"{CONVERT}"
            )
        if not isinstance(value, int) or isinstance(value, bool) or key in _UNBOUNDED:
            continue
        limit = _MAX_COUNT if key.endswith(_COUNTS) else _MAX_SIZE
        if abs(value) > limit:
            raise ModelError(f"{what}: {name}: {key} {value}; expected at most {limit}")


def _leaves(
    what: str, name: str, value: Any, depth: int, key: str = ""
) -> Iterator[tuple[str, Any]]:
    """(key, value) of all that is no container, and of containers under a forbidden key."""
    if depth > _MAX_DEPTH:
        raise ModelError(f"{what}: {name}: deeper than {_MAX_DEPTH} levels; copy it whole")
    if key in FORBIDDEN or not isinstance(value, dict | list):
        yield key, value
        return
    limit = _MAX_BLOCKS if key.endswith(_BLOCKS) else _MAX_ITEMS
    if len(value) > limit:
        raise ModelError(f"{what}: {name}: {key}: {len(value)} values; expected at most {limit}")
    items = value.items() if isinstance(value, dict) else ((key, each) for each in value)
    for inner, each in items:
        yield from _leaves(what, name, each, depth + 1, inner)


def tensor_entries(path: Path) -> Sequence[TensorEntry]:
    """Of a checked safetensors file, read once as long as it stays as it is. Raises ModelError."""
    return _entries_at(path, *_identity(path))


def tree_sha256(files: Mapping[str, Path]) -> str:
    """Over relative names and contents. Every byte is read once in a process, as long as size,
    time, inode and path of its file stay as they are."""
    digests = {name: _sha256_at(path, *_identity(path)) for name, path in sorted(files.items())}
    return hashlib.sha256(canonical_json(digests)).hexdigest()


def file_sha256(path: Path) -> str:
    """As tree_sha256, of one file's content."""
    return _sha256_at(path, *_identity(path))


def _identity(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=4096)
def _sha256_at(path: Path, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=256)
def _entries_at(
    path: Path, size: int, mtime_ns: int, ctime_ns: int, inode: int
) -> Sequence[TensorEntry]:
    return tuple(check_safetensors(path, types=PIPELINE_TYPES))
