"""The rules of the schema that pydantic has no word for: plain values, and names that stand once.

Called by recipe.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BeforeValidator

from datagen.faults import WORD, Place
from datagen.schema_faults import Fault, refuse

MAX_TEXT = 1000
MAX_ENTRIES = 10_000  # a reviewer may reject so many images

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain_mapping(depth: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, dict):
            refuse(plain_faults(value, (), depth))
            return ordered(value)
        return value

    return BeforeValidator(check)


def repeated(names: Iterable[tuple[Place, str]]) -> Iterator[Fault]:
    """Names become folders, and some file systems fold case: names equal but for case repeat."""
    seen: dict[str, str] = {}
    for path, name in names:
        if name.lower() in seen:
            first = seen[name.lower()]
            yield path, name, f"each name once, whatever its case; '{first}' stands above"
        else:
            seen[name.lower()] = name


def plain_faults(value: Any, path: Place, depth: int) -> Iterator[Fault]:
    """Faults of a value that ought to be plain JSON; depth: how many containers may nest."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT or _CONTROL.search(value):
            yield path, value, f"text of at most {MAX_TEXT} characters, none of them control"
    elif isinstance(value, (list, tuple, dict)):
        if depth == 0:
            yield path, value, "a single value: text, a number, true or false"
            return
        if len(value) > MAX_ENTRIES:
            yield path, value, f"at most {MAX_ENTRIES} entries"
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not (isinstance(key, str) and WORD.fullmatch(key)):
                yield (*path, key), item, "a key of 1 to 63 letters, digits, '_' and '-'"
            else:
                yield from plain_faults(item, (*path, key), depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, value, "a whole number of at most 63 bits"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, value, "a finite number"
    elif not isinstance(value, (int, float)):
        yield path, value, "text, a number, true or false"


def ordered(value: Any) -> Any:
    """Sorts the keys: what iterates over them must not see the order in the file."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return [ordered(item) for item in value] if isinstance(value, (list, tuple)) else value
