"""The files of a model directory, as they are sent. Called by both clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from datagen.errors import ModelError

# Field of the form -> file. Some models have no weights; neither a card nor a reference is asked
# for.
_FILES = {
    "config": "config.json",
    "weights": "model.safetensors",
    "card": "README.md",
    "reference": "reference.safetensors",
}


@contextmanager
def open_model_files(folder: Path) -> Iterator[dict[str, tuple[str, BinaryIO]]]:
    """Field -> (name, open file); they are read as they are sent. Raises ModelError."""
    with ExitStack() as stack:
        opened: dict[str, tuple[str, BinaryIO]] = {}
        for field, name in _FILES.items():
            path = folder / name
            if field != "config" and not path.exists():
                continue
            try:
                opened[field] = (name, stack.enter_context(path.open("rb")))
            except OSError as error:
                raise ModelError(
                    f"{path}: cannot be read ({error.strerror}); expected a model directory, as "
                    "`datagen train` writes it"
                ) from None
        yield opened
