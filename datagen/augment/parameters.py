"""Kinds of transform parameters: what a recipe may write and what albumentations is given.

Each has `expected`, which completes "expected ...", and `parse`, which returns the value for
albumentations or raises ValueError. Used by transforms.py and check.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Pair = tuple[float, float]
Argument = Pair | float | str | bool

_FURTHEST = 1e6


@dataclass(frozen=True)
class Span:
    """[low, high] within bounds, from which each image draws.

    number: what a lone number x stands for: [-x, x], [x, x] or nothing; as in albumentations.
    """

    low: float
    high: float
    number: Literal["symmetric", "exact"] | None = None
    whole: bool = False
    odd: bool = False

    @property
    def expected(self) -> str:
        kind = "odd whole numbers" if self.odd else "whole numbers" if self.whole else "numbers"
        pair = f"[low, high], {kind} from {self.low:g} to {self.high:g}, low <= high"
        return f"a number or {pair}" if self.number else pair

    def parse(self, value: object) -> Pair:
        if isinstance(value, (list, tuple)):
            ends = [_number(end) for end in value]
        elif self.number is None:
            raise ValueError
        else:
            end = _number(value)
            ends = [-abs(end), abs(end)] if self.number == "symmetric" else [end, end]
        if len(ends) != 2:
            raise ValueError
        low, high = ends
        if not self.low <= low <= high <= self.high:
            raise ValueError
        if self.whole and not (isinstance(low, int) and isinstance(high, int)):
            raise ValueError
        if self.odd and (low % 2 == 0 or high % 2 == 0):
            raise ValueError
        return low, high


@dataclass(frozen=True)
class Number:
    """One number within bounds."""

    low: float
    high: float
    whole: bool = False

    @property
    def expected(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def parse(self, value: object) -> float:
        number = _number(value)
        if not self.low <= number <= self.high or (self.whole and not isinstance(number, int)):
            raise ValueError
        return number


@dataclass(frozen=True)
class Choice:
    """A word. values: what albumentations is given for each."""

    values: Mapping[str, int | str]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.values)

    def parse(self, value: object) -> int | str:
        if not isinstance(value, str) or value not in self.values:
            raise ValueError
        return self.values[value]


@dataclass(frozen=True)
class Flag:
    """true or false."""

    expected: str = "true or false"

    def parse(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value


Parameter = Span | Number | Choice | Flag


def _number(value: object) -> float:
    """The value if it is a number, neither true, false, NaN nor beyond all bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    if not -_FURTHEST <= value <= _FURTHEST:
        raise ValueError
    return value
