"""Real data by name: recipes name them, never paths. Called by resolve, assessment and commands.

`datagen references add` writes NAME.json into the home's references/; one data set ships. Torch-
and Pillow-free until images are counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datagen.errors import InputError, NotFoundError, StoreError
from datagen.recipe import suggest
from datagen.resources import sample_data_dir
from datagen.settings import Settings

FORMAT = 1
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_JSON_BYTES = 1 << 20
# Each image is decoded, but a million of them must fit into memory to be counted.
_THUMBNAIL = (16, 16)


@dataclass(frozen=True)
class NamedData:
    """held_out_path: None where a test part lies beside the training part, or nothing is held
    out. num_held_out: those that are in both are counted too. digest: over names and bytes of all
    files; empty for a folder that was never added. is_shipped: came with the code."""

    name: str
    train_path: Path
    held_out_path: Path | None = None
    licence: str = ""
    class_names: tuple[str, ...] = ()
    num_train: int = 0
    num_held_out: int = 0
    digest: str = ""
    is_shipped: bool = False


def find_named(name: str, settings: Settings) -> NamedData:
    """Reads NAME.json alone. Raises NotFoundError, InputError if the file is damaged."""
    known = _files(settings)
    if name not in known:
        raise NotFoundError(
            f"real data {name!r} are not known{suggest(name, known)}; `datagen references list` "
            "lists what is, `datagen references add NAME DIR` adds a folder"
        )
    return _read(known[name], is_shipped=known[name].parent != settings.references_dir)


def resolve_data(text: str, settings: Settings) -> NamedData:
    """text: a name, or else a path; ./NAME is always a path. Raises NotFoundError."""
    if text in _files(settings):
        return find_named(text, settings)
    path = Path(text)
    if not path.exists():
        known = ", ".join(_files(settings))
        raise NotFoundError(
            f"data {text!r}: no such folder, and no real data of that name (known: {known}); name "
            "a folder with one folder of images a class"
        )
    return NamedData(text, path)


def plain_name(class_name: str) -> str:
    """By which classes are told apart: letters and digits alone, "Ankle boot" is "ankle-boot"."""
    return re.sub(r"[\W_]+", "", class_name.casefold())


def list_named(settings: Settings) -> list[NamedData]:
    """Sorted by name. Raises InputError if a file is damaged."""
    return [find_named(name, settings) for name in _files(settings)]


def add_named(
    name: str, path: Path, settings: Settings, *, held_out: Path | None = None, licence: str = ""
) -> NamedData:
    """Reads all images once, so that what is named is sound, and writes NAME.json.

    Raises InputError if the data cannot be used, or the name is taken.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"name {name!r}: expected 1 to 63 lower-case letters, digits and '-', the first not '-'"
        )
    if name in _files(settings):
        raise InputError(f"real data {name!r} exist; remove them first, or choose another name")
    from datagen.evaluation.checks import without_overlap
    from datagen.real_images import load_reference

    train, kept = load_reference(path, held_out, image_size=_THUMBNAIL)
    if kept is not None and kept.image_shape == train.image_shape:
        without_overlap(train, kept, [])
    data = NamedData(
        name=name,
        train_path=path.resolve(),
        held_out_path=None if held_out is None else held_out.resolve(),
        licence=licence,
        class_names=train.class_names,
        num_train=len(train),
        num_held_out=0 if kept is None else len(kept),
    )
    data = replace(data, digest=digest_of(data))
    _write(data, settings.references_dir / f"{name}.json")
    return data


def remove_named(name: str, settings: Settings) -> NamedData:
    """Forgets the name; the images stay where they are. Raises NotFoundError, InputError."""
    data = find_named(name, settings)
    if data.is_shipped:
        raise InputError(f"real data {name!r} ship with datagen and cannot be removed")
    (settings.references_dir / f"{name}.json").unlink(missing_ok=True)
    return data


def check_unchanged(data: NamedData) -> None:
    """Raises InputError if the files are not those that were added."""
    for path in filter(None, (data.train_path, data.held_out_path)):
        if not path.exists():
            raise InputError(
                f"real data {data.name!r}: {path} is gone; restore it, or remove the name and add "
                "it again"
            )
    if data.digest and digest_of(data) != data.digest:
        raise InputError(
            f"real data {data.name!r}: the files in {data.train_path} changed since they were "
            "added; restore them, or `datagen references remove` the name and add it again: "
            "figures would else be compared that are not of the same data"
        )


def digest_of(data: NamedData) -> str:
    """sha256 over the relative names and bytes of all files that are not hidden."""
    digest = hashlib.sha256()
    for root in filter(None, (data.train_path, data.held_out_path)):
        for path in _data_files(root):
            digest.update(f"{path.relative_to(root).as_posix()}\0{_sha256(path)}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _files(settings: Settings) -> dict[str, Path]:
    """Name -> its JSON file; what ships comes first, and cannot be hidden."""
    found: dict[str, Path] = {}
    for folder in (settings.references_dir, sample_data_dir()):
        with suppress(FileNotFoundError, NotADirectoryError):
            found |= {p.stem: p for p in folder.iterdir() if p.suffix == ".json"}
    return dict(sorted((name, path) for name, path in found.items() if NAME.fullmatch(name)))


def _read(file: Path, *, is_shipped: bool) -> NamedData:
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"above {_MAX_JSON_BYTES} bytes")
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        return _parse(content, file, is_shipped=is_shipped)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"data file {file} is damaged ({error}); remove it and add the data again"
        ) from None


def _parse(content: Mapping[str, Any], file: Path, *, is_shipped: bool) -> NamedData:
    """Paths are relative to the file where they are not absolute."""
    held_out = content["held_out"]
    return NamedData(
        name=file.stem,
        train_path=file.parent / str(content["path"]),
        held_out_path=None if held_out is None else file.parent / str(held_out),
        licence=str(content["licence"]),
        class_names=tuple(str(name) for name in content["class_names"]),
        num_train=int(content["num_train"]),
        num_held_out=int(content["num_held_out"]),
        digest=str(content["digest"]),
        is_shipped=is_shipped,
    )


def _write(data: NamedData, file: Path) -> None:
    content = {"format": FORMAT, **to_json(data)}
    del content["name"], content["is_shipped"]
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        partial.replace(file)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written ({error.strerror})") from None


def to_json(data: NamedData) -> dict[str, Any]:
    """What `datagen references` prints and NAME.json holds."""
    content = asdict(data)
    held_out = content.pop("held_out_path")
    return {
        "name": content.pop("name"),
        "path": str(content.pop("train_path")),
        "held_out": None if held_out is None else str(held_out),
        **content,
    }


def _data_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
