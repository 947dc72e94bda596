"""The licence of what others trained, and whether a deployment takes it and its source.

Torch-free. Called by files.py (reading), registration.py and resolve.py (rules).

Source: the hub's model cards: YAML between two lines of --- at the start of README.md, with the
fields license and, where that is `other`, license_name.
"""

from __future__ import annotations

import re
from pathlib import Path

from datagen.errors import ModelError, RecipeError
from datagen.yaml_reader import Reader

_CARD, _MAX_BYTES = "README.md", 1 << 16
_FRONT = re.compile(rb"\A(?:\xef\xbb\xbf)?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FIELDS = re.compile(rb"^(license|license_name)[ \t]*:.*?(?=^[^\s-]|\Z)", re.DOTALL | re.MULTILINE)
_NONE = ("", "unknown", "none", "null")
_MAX_LENGTH = 200


def read_licence(folder: Path, root: Path) -> str | None:
    """As the card states it; None where there is no card, or none in it."""
    card = folder / _CARD
    real = card.resolve()
    if not real.is_file() or not real.is_relative_to(root):
        return None
    with open(real, "rb") as file:
        front = _FRONT.match(file.read(_MAX_BYTES))
    if front is None:
        return None
    # These two fields alone: the rest of a card is anything.
    text = b"".join(match[0] + b"\n" for match in _FIELDS.finditer(front[1] + b"\n"))
    reader = Reader(str(card))
    try:
        content = reader.read(text)
    except RecipeError:
        return None
    fields = content if isinstance(content, dict) and not reader.problems else {}
    licence, name = _text_of(fields.get("license")), _text_of(fields.get("license_name"))
    return name if licence in (None, "other") else licence


def check_licence(licence: str | None, allowed: tuple[str, ...] | None, allow_none: bool) -> None:
    """allowed: names, whatever their case; None for any. Raises ModelError, naming the licence."""
    if licence is None:
        if not allow_none:
            raise ModelError(
                "licence: none is stated, neither by the card nor with it; state it with "
                "`datagen models add-pipeline --licence` if you know it; a deployment takes what "
                "has none only with DATAGEN_ALLOW_UNLICENSED=yes"
            )
        return
    if allowed is not None and licence.casefold() not in (each.casefold() for each in allowed):
        raise ModelError(
            f"licence {licence!r} is not allowed in this deployment; allowed: "
            f"{', '.join(allowed) or 'none'}"
        )


def check_source(
    source: str, allowed: tuple[str, ...] | None, *, revision: str | None = None
) -> None:
    """Whether the deployment takes pipelines from there.

    source: a folder or file; with revision a hub id. allowed: folders, each for all below it, and
    hub ids, owner/name or owner/*; None for any source. Raises ModelError, naming the source.
    """
    if allowed is None:
        return
    takes = _is_hub_id_allowed if revision is not None else _is_below
    if not any(takes(source, each) for each in allowed):
        raise ModelError(
            f"source {source!r} is not among those that this deployment allows: "
            f"{', '.join(allowed) or 'none'}"
        )


def _is_hub_id_allowed(source: str, pattern: str) -> bool:
    if pattern.startswith(("/", ".", "~")):
        return False
    owner, _, name = pattern.partition("/")
    return source == pattern or (name == "*" and source.partition("/")[0] == owner)


def _is_below(source: str, folder: str) -> bool:
    """Folders of the list are absolute: a relative one would be another in another process."""
    if source.startswith("~"):  # whose home it is, depends on who opens it
        return False
    return folder.startswith("/") and Path(source).resolve().is_relative_to(Path(folder).resolve())


def _text_of(value: object) -> str | None:
    if isinstance(value, list):
        texts = [text for each in value if (text := _text_of(each)) is not None]
        return ", ".join(texts)[:_MAX_LENGTH] or None
    if not isinstance(value, str) or value.strip().casefold() in _NONE:
        return None
    return value.strip()[:_MAX_LENGTH]
