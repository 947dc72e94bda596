"""The libraries of the extra `medical`, and what is said where they are absent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from datagen.errors import InputError

_LIBRARIES = {"pydicom", "nibabel", "highdicom"}


@contextmanager
def medical_extra(purpose: str) -> Iterator[None]:
    """Around the import of one of them. purpose: such as "reading NIfTI". Raises InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise InputError(
            f"{purpose} needs {error.name}: install it with `pip install datagen[medical]`"
        ) from None
