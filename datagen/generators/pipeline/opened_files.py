"""What is known of files on disk once they were checked. Torch-free. Made by files.py."""

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
