"""Templates of prompts: {name} is a placeholder, {{ and }} are braces, and there is nothing else.

Not str.format: its fields reach into attributes of objects, and its widths ask for gigabytes.
Called by prompt_schema.py, prompt_checks.py and prompts.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from datagen.faults import WORD, show

CLASS = "class"

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def template_fault(text: str) -> str | None:
    """What was expected, if it is not written as a template."""
    for match in _PIECE.finditer(text):
        name = match[1]
        if match[0] in ("{{", "}}") or (name is not None and WORD.fullmatch(name)):
            continue
        return (
            f"text with {{class}} and {{attribute}} as its only placeholders, not "
            f"{show(match[0])}; braces themselves are written {{{{ and }}}}"
        )
    return None


def placeholders(text: str) -> list[str]:
    """The names in a template, each once, in the order of the text."""
    return list(dict.fromkeys(name for _, name in _pieces(text) if name is not None))


def render(text: str, values: Mapping[str, str]) -> str:
    """values: of every placeholder; what looks like a placeholder in a value stays as it is."""
    return "".join(plain if name is None else values[name] for plain, name in _pieces(text))


def longest(text: str, lengths: Mapping[str, int]) -> int:
    """How many characters `render` gives at most. lengths: of each placeholder's longest value."""
    return sum(len(plain) if name is None else lengths[name] for plain, name in _pieces(text))


def _pieces(text: str) -> Iterator[tuple[str, str | None]]:
    """Plain text and names, in turn: of each pair, one is empty or None."""
    start = 0
    for match in _PIECE.finditer(text):
        yield text[start : match.start()], None
        yield ("", match[1]) if match[1] is not None else (match[0][0], None)
        start = match.end()
    yield text[start:], None
