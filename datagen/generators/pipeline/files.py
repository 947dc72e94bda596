"""A diffusers pipeline on disk: found, checked and digested before any library opens it.

Torch-free. Input is hostile: pipeline and component classes come from lists of ours, weights are
safetensors alone, and no code is loaded. Called by spec.py, loading.py and registration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from datagen.errors import ModelError
from datagen.generators.pipeline.component_checks import (
    INDEX,
    check_headers,
    choose_variant,
    open_component,
    read_index,
    used_files,
)
from datagen.generators.pipeline.component_table import CONTROLNETS
from datagen.generators.pipeline.families_table import FAMILY_OF
from datagen.generators.pipeline.folder_files import (
    check_tree,
    checked_file,
    file_sha256,
    read_json,
    refuse_by_name,
    tensor_entries,
    tree_sha256,
)
from datagen.generators.pipeline.hub import (
    fetch_snapshot,
    find_snapshot,
    is_hub_id,
    not_cached,
)
from datagen.generators.pipeline.licences import read_licence
from datagen.generators.pipeline.lora_fit import check_lora
from datagen.generators.pipeline.opened_files import (
    ControlNetFolder,
    LoraFile,
    PipelineFolder,
    TextualInversionFile,
)
from datagen.generators.pipeline.part_fit import (
    check_controlnet,
    check_task,
    check_textual_inversion,
    task_of,
)

# Opening and checking in one place, for whoever runs or registers pipelines.
__all__ = [
    "ControlNetFolder",
    "LoraFile",
    "PipelineFolder",
    "TextualInversionFile",
    "check_controlnet",
    "check_lora",
    "check_task",
    "check_textual_inversion",
    "open_controlnet",
    "open_lora",
    "open_pipeline",
    "open_textual_inversion",
    "task_of",
]

_CONFIG = "config.json"

Opened = TypeVar("Opened", PipelineFolder, ControlNetFolder)


def open_pipeline(
    source: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_network: bool = False,
) -> PipelineFolder:
    """source: a folder, or a hub id (owner/name) together with revision, its full commit id.
    allow_network: what the hub's cache lacks may be fetched.

    Reads every byte of its files once in a process, for the digest. Raises ModelError if it is
    missing, unsafe or of a kind that is not run, or not the files of `sha256`.
    """
    what = f"pipeline {source[:500]}"
    opened = _read(_read_pipeline, what, source, revision, allow_network=allow_network)
    _check_digest(what, opened.sha256, sha256)
    return opened


def _read_pipeline(what: str, folder: Path, root: Path) -> PipelineFolder:
    check_tree(what, folder)
    index = checked_file(what, INDEX, folder / INDEX, root)
    pipeline_class, declared = read_index(what, read_json(what, INDEX, index))
    parts = [
        open_component(what, folder / name, root, name=name, declared=each, prefix=f"{name}/")
        for name, each in declared.items()
    ]
    variant = choose_variant(what, parts)
    files = used_files(parts, variant) | {INDEX: index}
    return PipelineFolder(
        folder=folder,
        root=root,
        num_bytes=check_headers(files),
        sha256=tree_sha256(files),
        pipeline_class=pipeline_class,
        family=FAMILY_OF[pipeline_class],
        components=declared,
        variant=variant,
        licence=read_licence(folder, root),
        has_safety_checker="safety_checker" in declared,
        files=tuple(sorted(files)),
    )


def open_controlnet(
    source: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_network: bool = False,
) -> ControlNetFolder:
    """As open_pipeline, of a folder with one ControlNet."""
    what = f"controlnet {source[:500]}"
    opened = _read(_read_controlnet, what, source, revision, allow_network=allow_network)
    _check_digest(what, opened.sha256, sha256)
    return opened


def _read_controlnet(what: str, folder: Path, root: Path) -> ControlNetFolder:
    check_tree(what, folder)
    config = read_json(what, _CONFIG, checked_file(what, _CONFIG, folder / _CONFIG, root))
    class_name = str(config.get("_class_name"))
    if class_name not in CONTROLNETS:
        raise ModelError(
            f"{what}: {_CONFIG}: _class_name {class_name[:100]!r}; expected one of "
            f"{', '.join(CONTROLNETS)}"
        )
    declared = ("diffusers", class_name)
    part = open_component(what, folder, root, name="controlnet", declared=declared, prefix="")
    variant = choose_variant(what, [part])
    files = used_files([part], variant)
    return ControlNetFolder(
        folder=folder,
        root=root,
        num_bytes=check_headers(files),
        sha256=tree_sha256(files),
        controlnet_class=class_name,
        variant=variant,
        licence=read_licence(folder, root),
    )


def open_lora(source: str, *, sha256: str | None = None) -> LoraFile:
    """source: a safetensors file, or a folder that holds one. Raises ModelError."""
    what = f"lora {source[:500]}"
    with _read_errors_told(what):
        path = _single_file(what, source)
        tensor_entries(path)
        digest = file_sha256(path)
        num_bytes = path.stat().st_size
    _check_digest(what, digest, sha256)
    return LoraFile(path, digest, num_bytes)


def open_textual_inversion(source: str, *, sha256: str | None = None) -> TextualInversionFile:
    """source: a safetensors file, or a folder that holds one. Raises ModelError."""
    what = f"textual inversion {source[:500]}"
    with _read_errors_told(what):
        path = _single_file(what, source)
        shapes = {entry.name: entry.shape for entry in tensor_entries(path)}
        digest = file_sha256(path)
    _check_digest(what, digest, sha256)
    return TextualInversionFile(path, digest, shapes)


def _read(
    read: Callable[[str, Path, Path], Opened],
    what: str,
    source: str,
    revision: str | None,
    *,
    allow_network: bool,
) -> Opened:
    """read: is told what errors call it, its folder, and the one that links may point into."""
    with _read_errors_told(what):
        if revision is None:
            return read(what, *_folder_of(what, source))
        found = find_snapshot(source, revision)
        if found is None and not allow_network:
            raise not_cached(source, revision)
        if found is not None:
            try:
                return read(what, *found)
            except ModelError:
                if not allow_network:
                    raise
        return read(what, *fetch_snapshot(source, revision))  # parts of it may have been missing


def _folder_of(what: str, source: str) -> tuple[Path, Path]:
    folder = Path(source)
    if not source or not folder.is_dir():
        hint = "; a hub id needs a revision beside it" if is_hub_id(source) else ""
        raise ModelError(
            f"{what} is not a folder; give one that diffusers' save_pretrained wrote{hint}"
        )
    return folder, folder.resolve()


def _single_file(what: str, source: str) -> Path:
    """Where the one safetensors file really lies: itself, not by a link out of its folder."""
    place = Path(source)
    if place.is_dir():
        check_tree(what, place)
        found = sorted(place.glob("*.safetensors"))
        if len(found) != 1:
            raise ModelError(
                f"{what}: {len(found)} safetensors files in the folder; name one of them"
            )
        place = found[0]
    refuse_by_name(what, place.name)
    if place.suffix != ".safetensors":
        raise ModelError(f"{what}: expected a safetensors file, or a folder that holds one")
    return checked_file(what, place.name, place, place.parent.resolve())


def _check_digest(what: str, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise ModelError(
            f"{what}: sha256 {digest}; expected {expected}: these are not the files that were "
            "named; put those back, or register what is there now as another model"
        )


@contextmanager
def _read_errors_told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{what}: cannot be read ({error}); copy it whole") from None
