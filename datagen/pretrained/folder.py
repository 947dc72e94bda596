"""A folder as `save_pretrained` of transformers writes it: checked and digested before any library
opens it. Torch-free. Called by this package, and by filters and detectors when recipes are checked.

Input is hostile: weights are safetensors alone, nothing in the folder is code, and what decides how
much is allocated is bounded.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from datagen.errors import ModelError
from datagen.pretrained.config_keys import is_forbidden, names_other_backbone
from datagen.safetensors_header import PIPELINE_TYPES, check_safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSOR = "preprocessor_config.json"

_MAX_JSON_BYTES = 64 << 20  # a tokenizer.json of SigLIP has 30 MB
_MAX_CONFIG_BYTES = 1 << 20
_MAX_WEIGHT_BYTES = 8 << 30
_MAX_FILES = 200
_MAX_NUMBER = 10_000_000  # the largest in honest configs is a vocabulary
_MAX_SIDE_PX = 4096
_CODE = {
    *(".py", ".pyc", ".so", ".dll", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"),
    *(".h5", ".msgpack", ".npy", ".npz", ".jinja"),
}
# Their keys are words, not settings.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_VARIANT = re.compile(r"model\.[a-z0-9_]{1,20}\.safetensors")
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True)
class PretrainedFolder:
    """A checked folder. sha256: over names and contents of its files, but for texts to people.
    config: of config.json. model_type, architecture: what it says that the network is."""

    path: Path
    sha256: str
    config: Mapping[str, Any]
    model_type: str
    architecture: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the network's outputs, in order; those that config.json names LABEL_0 and so on where
        it names none."""
        named = self.config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
        return tuple(str(named[key]) for key in sorted(named, key=int))


def open_folder(
    path: Path, *, purpose: str, has_preprocessor: bool = True, has_tokenizer: bool = False
) -> PretrainedFolder:
    """purpose: what the folder is for, for messages, such as "an image classifier".

    Reads every byte once in a process, for the digest. Raises ModelError, with what to do, for a
    folder that is missing, lacks a part, holds code or pickles, or says what no network says.
    """
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ModelError(f"{path}: {what}; expected the folder of {purpose}, as transformers saves")
    files = sorted(_files(path))
    names = {file.name for file in files}
    _check_names(path, names, purpose)
    config = read_json(path / CONFIG)
    _check_config(path / CONFIG, config)
    for name in sorted(names):
        if name.endswith(".json") and name not in (CONFIG, INDEX, *_VOCABULARIES):
            _check_config(path / name, read_json(path / name))
    if has_preprocessor:
        _check_preprocessor(path, names)
    if has_tokenizer and not names & {"tokenizer.json", "vocab.json", "spiece.model"}:
        raise ModelError(
            f"{path}: it has no tokenizer (tokenizer.json, or vocab.json and merges.txt), which "
            f"{purpose} needs; save the tokenizer into it as well"
        )
    _check_weights(path, names)
    model_type, architecture = config.get("model_type"), (config.get("architectures") or [""])[0]
    if not isinstance(model_type, str) or not isinstance(architecture, str):
        raise ModelError(f"{path / CONFIG}: model_type and architectures have to name the network")
    signature = tuple((file.name, *_state(file)) for file in files)
    return PretrainedFolder(path, _digest(path, signature), config, model_type, architecture)


def check_unchanged(path: Path, found: str, expected: str) -> None:
    """Both: digests of its files. Raises ModelError if they are others than were pinned: scores of
    two networks would be kept as if they were of one."""
    if found != expected:
        raise ModelError(
            f"{path}: its files are others than when they were pinned (sha256 {found[:12]}; "
            f"expected {expected[:12]}); put those back, or start a new run with these"
        )


def check_kind(
    folder: PretrainedFolder, model_types: Collection[str], *, ending: str, purpose: str
) -> None:
    """ending: of the name of the network's class. Raises ModelError if it is of another kind."""
    if folder.model_type not in model_types or not folder.architecture.endswith(ending):
        raise ModelError(
            f"{folder.path / CONFIG}: model_type {folder.model_type!r}, architecture "
            f"{folder.architecture!r}; expected {purpose}: a class {ending} of "
            f"{', '.join(sorted(model_types))}"
        )


def _files(path: Path) -> Iterator[Path]:
    for number, file in enumerate(path.iterdir()):
        if number >= _MAX_FILES:
            raise ModelError(
                f"{path}: above {_MAX_FILES} files; expected the folder of one network"
            )
        if file.is_symlink():
            raise ModelError(
                f"{file}: a link; expected files: copy the folder by `cp -rL`, which follows links"
            )
        if file.is_file() and file.suffix.lower() != ".md" and file.name[0] != ".":
            yield file


def _check_names(path: Path, names: set[str], purpose: str) -> None:
    for name in sorted(names):
        if Path(name).suffix.lower() in _CODE:
            raise ModelError(
                f"{path / name}: a file that can run code when it is read; only safetensors, JSON "
                "and text are opened: save the network with safetensors and remove this file"
            )
    if "adapter_config.json" in names:
        raise ModelError(f"{path}: an adapter; merge it into its network and save that")
    if CONFIG not in names or not names & {WEIGHTS, INDEX}:
        lacking = CONFIG if CONFIG not in names else WEIGHTS
        raise ModelError(f"{path}: it has no {lacking}; expected the folder of {purpose}")


def read_json(path: Path, max_bytes: int = _MAX_CONFIG_BYTES) -> dict[str, Any]:
    """Raises ModelError."""
    try:
        if path.stat().st_size > max_bytes:
            raise ValueError(f"above {max_bytes} bytes")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable ({error}); save the network again") from None
    return content


def _check_config(path: Path, content: Any, name: str = "") -> None:
    """No code, no file but those checked, and no number that makes a library loop without end."""
    if isinstance(content, dict):
        if "auto_map" in content or "custom_pipelines" in content:
            raise ModelError(f"{path}: it asks for code of its own (auto_map); remove that entry")
        if names_other_backbone(content):
            raise ModelError(
                f"{path}: backbone {str(content['backbone'])[:100]!r} is looked up elsewhere; save "
                "the network again, with a backbone_config"
            )
        for key, value in content.items():
            if is_forbidden(str(key), value):
                raise ModelError(
                    f"{path}: {key} is not allowed: it loads what is not checked here; remove that "
                    "entry, and save the network whole, as plain safetensors"
                )
            _check_config(path, value, str(key))
    elif isinstance(content, list):
        for value in content:
            _check_config(path, value, name)
    elif isinstance(content, int | float) and not isinstance(content, bool):
        limit = 1000 if "layers" in name or "depth" in name or "blocks" in name else _MAX_NUMBER
        # Tokenizers say "no limit" with 1e30.
        if not content <= limit and name != "model_max_length":
            raise ModelError(f"{path}: {name} is {content}; expected at most {limit}")


def _check_preprocessor(path: Path, names: set[str]) -> None:
    if PREPROCESSOR not in names:
        raise ModelError(
            f"{path}: it has no {PREPROCESSOR}, which says how images are prepared; save the image "
            "processor into it as well"
        )
    content = read_json(path / PREPROCESSOR)
    for name in ("size", "crop_size", "pad_size"):
        value = content.get(name) or 0
        sides = list(value.values()) if isinstance(value, dict) else value
        sides = sides if isinstance(sides, list) else [sides]
        for side in sides:
            if side is not None and (type(side) is not int or not 0 <= side <= _MAX_SIDE_PX):
                raise ModelError(
                    f"{path / PREPROCESSOR}: {name} is {value}; expected whole numbers up to "
                    f"{_MAX_SIDE_PX}"
                )


def _check_weights(path: Path, names: set[str]) -> None:
    weights = [path / WEIGHTS]
    if WEIGHTS not in names:
        parts = read_json(path / INDEX, _MAX_JSON_BYTES).get("weight_map")
        found = sorted(set(parts.values())) if isinstance(parts, dict) else []
        if not found or not set(found) <= names:
            raise ModelError(f"{path / INDEX}: it names files that are not here; copy them as well")
        weights = [path / str(name) for name in found]
    _refuse_stray_weights(path, names, {file.name for file in weights})
    size = sum(file.stat().st_size for file in weights)
    if size > _MAX_WEIGHT_BYTES:
        raise ModelError(f"{path}: {size} bytes of weights; expected at most {_MAX_WEIGHT_BYTES}")
    for file in weights:
        check_safetensors(file, types=PIPELINE_TYPES)


def _refuse_stray_weights(path: Path, names: set[str], own: set[str]) -> None:
    """Other variants of the whole weights may lie there: none is asked for."""
    for name in sorted(names - own - {INDEX}):
        if ".safetensors" in name.lower() and _VARIANT.fullmatch(name) is None:
            raise ModelError(
                f"{path / name}: none of the network's own weights, which are "
                f"{', '.join(sorted(own)[:3])}; remove it"
            )


def file_digest(path: Path) -> str:
    """sha256 of a file; read once in a process, while it stays as it is."""
    return _digest(path.parent, ((path.name, *_state(path)),))


def _state(file: Path) -> tuple[int, int, int, int]:
    """Who writes a file can set its time of writing back, but not that of its change."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


@lru_cache(maxsize=64)
def _digest(path: Path, files: tuple[tuple[str, int, int, int, int], ...]) -> str:
    """files: name and state of each: another state is another entry."""
    whole = hashlib.sha256()
    for name, *_ in files:
        content = hashlib.sha256()
        with (path / name).open("rb") as file:
            while data := file.read(_PIECE_BYTES):
                content.update(data)
        whole.update(f"{name}\0{content.hexdigest()}\n".encode())
    return whole.hexdigest()
