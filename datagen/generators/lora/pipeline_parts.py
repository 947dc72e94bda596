"""One part of a pipeline, loaded by the library that wrote it, from files that pipeline_files.py
has checked. Called by networks.py and prompts.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CLIPTokenizer
from transformers.utils import logging

from datagen.errors import ModelError

# What the libraries raise on files of the right kind with wrong contents.
_LOADING = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError),
    *(RuntimeError, SafetensorError, TypeError, ValueError),
)


def load_tokenizer(folder: Path) -> Any:
    """Raises ModelError."""
    with _told_of(folder):
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def load_part(kind: Any, folder: Path) -> Any:
    """A network in float32. kind: a class of diffusers or transformers. Raises ModelError."""
    with _told_of(folder), _without_progress_bars():
        network, found = kind.from_pretrained(
            folder,
            torch_dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    lacking = [*found["missing_keys"], *found["mismatched_keys"]]
    if lacking:
        raise ModelError(
            f"pipeline folder {folder}: {len(lacking)} tensors are missing or of another shape "
            f"than config.json says, such as {str(lacking[0])[:200]}; save the pipeline again"
        )
    return network


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except _LOADING as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"pipeline folder {folder}: cannot be loaded ({reason}); save the pipeline again"
        ) from None


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """transformers draws one for each file that it reads."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
