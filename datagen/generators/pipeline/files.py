"""A diffusers pipeline on disk: found, checked and digested before any library opens it.

Torch-free. Input is hostile: pipeline and component classes come from lists of ours, weights are
safetensors alone, and no code is loaded. Called by spec.py, loading.py and registration.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PipelineFolder:
    """A checked pipeline.

    root: the folder that links in it may point into. sha256: over names and contents of the files
    that are used. family: of families_table.FAMILIES. components: name -> (library, class), those
    that are null left out. variant: to load, such as fp16; None for the plain files. licence: as
    its card states it. num_bytes: of the weights that are used. has_safety_checker: with weights
    of its own. files: relative names of all that is used.
    """

    folder: Path
    root: Path
    sha256: str
    pipeline_class: str
    family: str
    components: Mapping[str, tuple[str, str]]
    variant: str | None
    licence: str | None
    num_bytes: int
    has_safety_checker: bool
    files: tuple[str, ...]


@dataclass(frozen=True)
class ControlNetFolder:
    """A checked folder of one ControlNet. The fields are as PipelineFolder has them."""

    folder: Path
    root: Path
    sha256: str
    controlnet_class: str
    variant: str | None
    licence: str | None
    num_bytes: int


@dataclass(frozen=True)
class LoraFile:
    """A checked LoRA adapter: one safetensors file."""

    path: Path
    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class TextualInversionFile:
    """A checked learned embedding. shapes: tensor name -> (vectors, width)."""

    path: Path
    sha256: str
    shapes: Mapping[str, tuple[int, ...]]


def open_pipeline(
    source: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_network: bool = False,
) -> PipelineFolder:
    """source: a folder, or a hub id (owner/name) together with revision, its full commit id.

    Reads every byte of its files once in a process, for the digest. Raises ModelError if it is
    missing, unsafe or of a kind that is not run, or not the files of `sha256`.
    """
    raise NotImplementedError


def open_controlnet(
    source: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    allow_network: bool = False,
) -> ControlNetFolder:
    """As open_pipeline, of a folder with one ControlNet."""
    raise NotImplementedError


def open_lora(source: str, *, sha256: str | None = None) -> LoraFile:
    """source: a safetensors file, or a folder that holds one. Raises ModelError."""
    raise NotImplementedError


def open_textual_inversion(source: str, *, sha256: str | None = None) -> TextualInversionFile:
    """source: a safetensors file, or a folder that holds one. Raises ModelError."""
    raise NotImplementedError


def check_task(pipeline: PipelineFolder, task: str) -> str:
    """The pipeline class to instantiate. Raises ModelError if its components are not for it."""
    raise NotImplementedError


def check_controlnet(controlnet: ControlNetFolder, pipeline: PipelineFolder) -> None:
    """Raises ModelError if it was made for another base."""
    raise NotImplementedError


def check_lora(lora: LoraFile, pipeline: PipelineFolder) -> None:
    """Raises ModelError, with the tensor and both shapes, if it was made for another base."""
    raise NotImplementedError


def check_textual_inversion(inversion: TextualInversionFile, pipeline: PipelineFolder) -> None:
    """Raises ModelError, with both widths, if it was made for another text encoder."""
    raise NotImplementedError
