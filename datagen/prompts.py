"""What each image of a recipe is asked for in words. Called by resolve_prompts.py and the stages.

The prompt of an image follows from the recipe's seed, its class and its ordinal, and stays whatever
images are added, but for attributes with exact counts: their sum is the class's count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import chain, islice, product
from typing import NamedTuple

from datagen.conditions import Prompt
from datagen.joint_counts import joint_counts
from datagen.labels import Attribute
from datagen.prompt_checks import own_text
from datagen.prompt_schema import AttributeRequest, PromptRequest
from datagen.prompt_templates import CLASS, placeholders, render
from datagen.quotas import QuotaTree, dealt_place, spread_over, whole_shares, window_of
from datagen.recipe import ClassRequest

_Choice = tuple[tuple[str, str], ...]  # (attribute, value), by attribute


class PromptPlan:
    """The prompts of a recipe, each found alone. Its memory grows with the classes and the values,
    never with the images."""

    def __init__(self, request: PromptRequest, classes: Sequence[ClassRequest], seed: int) -> None:
        """classes: of the recipe whose conditioning.prompt the request is, which has checked that
        they fit. seed: of the recipe."""
        self._request = request
        self._seed = seed
        self._requests = {each.name: each for each in classes}
        self._classes: dict[str, _Templated | _Listed] = {}

    def of(self, class_name: str, ordinal: int) -> Prompt:
        """ordinal: from 0, below the class's count."""
        return self._class(class_name).of(ordinal)

    def distinct(self, limit: int | None = None) -> Iterator[Prompt]:
        """Every prompt that an image may get, each once, those of the classes in turn; at most
        `limit`. A recipe has at most 100,000 of them (prompt_checks.MAX_PROMPTS)."""
        return islice(self._distinct(), limit)

    def _distinct(self) -> Iterator[Prompt]:
        waiting = [self._class(name).every() for name in self._requests]
        seen = set[tuple[str, str]]()
        while waiting:
            going_on = []
            for prompts in waiting:
                prompt = next(prompts, None)
                if prompt is None:
                    continue
                going_on.append(prompts)
                if (prompt.text, prompt.negative) not in seen:
                    seen.add((prompt.text, prompt.negative))
                    yield prompt
            waiting = going_on

    def _class(self, name: str) -> _Templated | _Listed:
        found = self._classes.get(name)
        if found is None:
            found = self._classes[name] = self._prompts_of(self._requests[name])
        return found

    def _prompts_of(self, each: ClassRequest) -> _Templated | _Listed:
        request, key = self._request, f"prompt/{self._seed}/{each.name}"
        template, negative = request.template_of(each.name), request.negative_of(each.name) or ""
        own = {CLASS: request.word_of(each.name)}
        own |= {name: own_text(value) for name, value in each.attributes.items()}
        if template is None:
            texts = (request.lists or {})[each.name]
            return _Listed(texts, render(negative, own), f"{key}/list", spread_over(len(texts)))
        used = [*placeholders(template), *placeholders(negative)]
        asked = {name: request.attributes[name] for name in sorted(request.attributes)}
        levels = [
            _level(name, attribute, each.name) for name, attribute in asked.items() if name in used
        ]
        total = each.count
        parts: tuple[_Part, ...]
        if request.combine == "independent":
            parts = tuple(_part([level], key, total) for level in levels)
        else:
            parts = (_part(_crossed(levels), key, total),) if levels else ()
        attributes = {name: value for name, value in each.attributes.items() if name in used}
        return _Templated(template, negative, own, attributes, parts)


@dataclass(frozen=True)
class _Listed:
    texts: Sequence[str]
    negative: str
    key: str
    entry: Callable[[int], int]

    def of(self, ordinal: int) -> Prompt:
        window = window_of(len(self.texts), Fraction(1, len(self.texts)))
        place = dealt_place(ordinal, window=window, key=self.key)
        return Prompt(self.texts[self.entry(place)], self.negative)

    def every(self) -> Iterator[Prompt]:
        return (Prompt(text, self.negative) for text in self.texts)


@dataclass(frozen=True)
class _Templated:
    """words: what stands in the templates for the class and its own attributes, and those."""

    template: str
    negative: str
    words: Mapping[str, str]
    own: Mapping[str, Attribute]
    parts: tuple[_Part, ...]

    def of(self, ordinal: int) -> Prompt:
        return self._prompt(part.of(ordinal) for part in self.parts)

    def every(self) -> Iterator[Prompt]:
        return map(self._prompt, product(*(part.every() for part in self.parts)))

    def _prompt(self, choices: Iterable[_Choice]) -> Prompt:
        drawn = {name: value for choice in choices for name, value in choice}
        words = {**self.words, **drawn}
        return Prompt(
            render(self.template, words), render(self.negative, words), {**self.own, **drawn}
        )


class _Level(NamedTuple):
    """Choices with their shares of the places, each above 0. is_exact: they are counts."""

    cells: tuple[_Choice, ...]
    shares: tuple[int, ...]
    is_exact: bool


class _Part(NamedTuple):
    """Attributes that are dealt together: a level deals each cell's places among its own cells."""

    levels: tuple[tuple[tuple[_Choice, ...], QuotaTree], ...]
    window: int
    key: str
    total: int | None

    def of(self, ordinal: int) -> _Choice:
        place = dealt_place(ordinal, window=self.window, key=self.key, total=self.total)
        choice: _Choice = ()
        for cells, tree in self.levels:
            index, place = tree.locate(place)
            choice += cells[index]
        return choice

    def every(self) -> Iterator[_Choice]:
        for choices in product(*(cells for cells, _ in self.levels)):
            yield tuple(chain.from_iterable(choices))


def _level(name: str, attribute: AttributeRequest, class_name: str) -> _Level:
    counts = attribute.counts_of(class_name)
    shares: Mapping[str, float] = (attribute.weights or {}) if counts is None else counts
    values = [value for value in sorted(shares) if shares[value] > 0]
    whole = whole_shares([shares[value] for value in values])
    return _Level(tuple(((name, value),) for value in values), tuple(whole), counts is not None)


def _crossed(levels: Sequence[_Level]) -> list[_Level]:
    """Those with counts as one level, whose margins are exact, then each of those with weights."""
    exact = [level for level in levels if level.is_exact]
    return ([reduce(_joint, exact)] if exact else []) + [x for x in levels if not x.is_exact]


def _joint(rows: _Level, columns: _Level) -> _Level:
    table = _joint_counts(rows.shares, columns.shares)
    cells = [
        (row + column, table[i][j])
        for i, row in enumerate(rows.cells)
        for j, column in enumerate(columns.cells)
        if table[i][j] > 0
    ]
    return _Level(tuple(cell for cell, _ in cells), tuple(count for _, count in cells), True)


@lru_cache(maxsize=64)
def _joint_counts(rows: tuple[int, ...], columns: tuple[int, ...]) -> list[list[int]]:
    """Classes of equal counts share it."""
    table: list[list[int]] = joint_counts(rows, columns).tolist()
    return table


def _part(levels: Sequence[_Level], key: str, total: int) -> _Part:
    smallest = math.prod(Fraction(min(each.shares), sum(each.shares)) for each in levels)
    names = "+".join(name for each in levels for name, _ in each.cells[0])
    return _Part(
        tuple((each.cells, _tree(each.shares)) for each in levels),
        window_of(math.prod(len(each.cells) for each in levels), Fraction(smallest)),
        f"{key}/{names}",
        total if any(each.is_exact for each in levels) else None,
    )


@lru_cache(maxsize=256)
def _tree(shares: tuple[int, ...]) -> QuotaTree:
    """Classes of equal shares share it."""
    return QuotaTree(shares)
