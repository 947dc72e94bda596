"""The faults of a recipe: what stands where, what was expected, and how to say so in one line.

Called by all that reads or checks a recipe, and through recipe.py by whatever finds a fault later
(field_error) or meets an unknown name (suggest).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from datagen.errors import RecipeError

MAX_PROBLEMS = 50
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One fault. field: like classes[1].count, "" is the recipe as a whole.

    expected: completes "expected ...". text: how the file spells a value that was read as
    something other than text.
    """

    field: str
    value: Any
    expected: str
    line: int | None = None
    text: str | None = None

    def describe(self, source: str | None) -> str:
        place = [] if source is None else [source if self.line is None else f"{source}:{self.line}"]
        shown = show(self.value)
        if self.text is not None and self.text != shown:
            text = self.text[:120]
            shown = text if self.value == self.text else f"{text} (read as {shown})"
        return ": ".join([*place, self.field or "recipe", shown, f"expected {self.expected}"])


class InvalidRecipe(RecipeError):
    """A recipe with its faults, one line of the message each. num_problems counts those cut off."""

    def __init__(
        self, problems: Iterable[Problem], *, source: str | None = None, num_problems: int = 0
    ) -> None:
        self.problems = tuple(problems)
        self.source = source
        self.num_problems = max(num_problems, len(self.problems))
        lines = [problem.describe(source) for problem in self.problems]
        if self.num_problems > len(lines):
            lines.append(f"... and {self.num_problems - len(lines)} more")
        super().__init__("\n".join(lines))


def field_error(field: str, value: Any, expected: str) -> InvalidRecipe:
    """A fault that only resolving can see; RecipeDocument.locate adds file and line."""
    return InvalidRecipe([Problem(field, value, expected)])


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" with the nearest known word, or ""."""
    by_folded = {_fold(name): name for name in known}
    nearest = get_close_matches(_fold(word[:64]), by_folded, n=1)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def _fold(word: str) -> str:
    return word.casefold().replace("_", "-")


def show(value: Any, *, depth: int = 3) -> str:
    """One short printable line, whatever the value. depth: of lists that are spelled out."""
    if value is None:
        return "nothing given"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, (list, tuple)):
        if depth == 0:
            return f"a list of {len(value)}"
        short = f"[{', '.join(show(item, depth=depth - 1) for item in value[:4])}]"
        return short if len(value) <= 4 and len(short) <= 80 else f"a list of {len(value)}"
    text = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """1 image, 2 images; 1 box is, 2 boxes are."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def join(path: Place) -> str:
    field = ""
    for part in path:
        field = member(field, part)
    return field


def member(field: str, part: str | int) -> str:
    """classes, 1, name => classes[1].name; keys that are no plain word are quoted."""
    if isinstance(part, str) and WORD.fullmatch(part):
        return f"{field}.{part}" if field else part
    return f"{field}[{part if isinstance(part, int) else show(part)}]"


def line_of(lines: Mapping[str, int], field: str) -> int:
    """The line of the field, or of the nearest one around it."""
    while field and field not in lines:
        field = field[: max(field.rfind("."), field.rfind("["), 0)]
    return lines.get(field, 1)
