"""Names of models and their versions. The first version of NAME is called NAME, as it was before
there were others; later ones are NAME@2, NAME@3. So are their folders.

Called by model_directory.py, and by the registries of a home and of a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from datagen.errors import InputError

MODEL_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})(?:@(?P<version>[1-9][0-9]{0,5}))?")
_EXPECTED = (
    "expected 1 to 63 lower-case letters, digits and '-', the first not '-', and @VERSION for one "
    "of its versions, such as digits@2"
)


def parse_model_name(text: str) -> tuple[str, int | None]:
    """NAME, or NAME@3 for its version 3. Raises InputError."""
    match = MODEL_NAME.fullmatch(text)
    if match is None:
        raise InputError(f"model name {text[:80]!r}: {_EXPECTED}")
    return match["name"], int(match["version"]) if match["version"] else None


def exact_name(name: str, version: int) -> str:
    """What the version's folder is called, and what a resolved recipe names."""
    return name if version == 1 else f"{name}@{version}"


def pinned_name(exact: str) -> str:
    """The same version in a recipe, in which NAME alone stands for the newest."""
    return exact if "@" in exact else f"{exact}@1"


def versions_among(name: str, names: Iterable[str]) -> list[int]:
    """Of the exact names, those that are versions of `name`; sorted."""
    found = []
    for each in names:
        match = MODEL_NAME.fullmatch(each)
        if match is not None and match["name"] == name and match["version"] != "1":
            found.append(int(match["version"] or 1))
    return sorted(found)
