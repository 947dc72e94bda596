"""What differs between two published versions: recipe, counts, images by class and ordinal.

Called by `datagen diff`. The catalog's rows of both versions pass side by side, class by class, so
that memory grows with the number of differing ranges, not of images.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import SampleRow, VersionRow
from datagen.catalog.samples import iterate_samples

# Lists of the recipe whose items have a name: they are compared by it, not by their place.
_NAMED_BY = {"classes": "name", "filters": "filter"}


@dataclass(frozen=True)
class FieldChange:
    """before, after: JSON values; None where the field was not there."""

    field: str
    before: Any
    after: Any


class OrdinalRanges:
    """Ordinals, given in rising order, as [first, last] ranges."""

    def __init__(self) -> None:
        self.ranges: list[list[int]] = []
        self.count = 0

    def add(self, ordinal: int) -> None:
        self.count += 1
        if self.ranges and self.ranges[-1][1] == ordinal - 1:
            self.ranges[-1][1] = ordinal
        else:
            self.ranges.append([ordinal, ordinal])


@dataclass
class ClassDiff:
    """One class. changed: the image, its split or its attributes differ; parts: how many each."""

    added: OrdinalRanges = field(default_factory=OrdinalRanges)
    removed: OrdinalRanges = field(default_factory=OrdinalRanges)
    changed: OrdinalRanges = field(default_factory=OrdinalRanges)
    unchanged: int = 0
    parts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class VersionDiff:
    """Of version `before` to version `after`, both as NAME@V."""

    before: str
    after: str
    recipe: list[FieldChange]
    classes: dict[str, ClassDiff]

    @property
    def totals(self) -> dict[str, int]:
        classes = self.classes.values()
        return {
            "added": sum(c.added.count for c in classes),
            "removed": sum(c.removed.count for c in classes),
            "changed": sum(c.changed.count for c in classes),
            "unchanged": sum(c.unchanged for c in classes),
        }


def diff_versions(catalog: Catalog, before: VersionRow, after: VersionRow) -> VersionDiff:
    first, second = _recipe(catalog, before), _recipe(catalog, after)
    names = dict.fromkeys(c["name"] for recipe in (first, second) for c in recipe["classes"])
    return VersionDiff(
        before=f"{before.name}@{before.version}",
        after=f"{after.name}@{after.version}",
        recipe=list(_field_changes(first, second, "")),
        classes={name: _diff_class(catalog, before, after, name) for name in names},
    )


def _recipe(catalog: Catalog, version: VersionRow) -> dict[str, Any]:
    job = get_job(catalog, version.job_id)
    assert job is not None
    recipe: dict[str, Any] = json.loads(job.recipe_body)
    return recipe


def _diff_class(
    catalog: Catalog, before: VersionRow, after: VersionRow, class_name: str
) -> ClassDiff:
    found = ClassDiff()
    sides = (
        _side(0, iterate_samples(catalog, before.job_id, class_name)),
        _side(1, iterate_samples(catalog, after.job_id, class_name)),
    )
    for ordinal, entries in groupby(heapq.merge(*sides), key=itemgetter(0)):
        rows = {side: row for _, side, row in entries}
        if len(rows) == 2:
            parts = _changed_parts(rows[0], rows[1])
            for part in parts:
                found.parts[part] = found.parts.get(part, 0) + 1
            if parts:
                found.changed.add(ordinal)
            else:
                found.unchanged += 1
        else:
            (found.removed if 0 in rows else found.added).add(ordinal)
    return found


def _side(side: int, rows: Iterator[SampleRow]) -> Iterator[tuple[int, int, SampleRow]]:
    return ((row.ordinal, side, row) for row in rows)


def _changed_parts(before: SampleRow, after: SampleRow) -> list[str]:
    """Only what a data set delivers: scores and places in shards may differ without a change."""
    differs = {
        "image": before.image_sha256 != after.image_sha256,
        "split": before.split != after.split,
        "attributes": before.attributes != after.attributes
        and json.loads(before.attributes) != json.loads(after.attributes),
    }
    return [part for part, is_changed in differs.items() if is_changed]


def _field_changes(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            place = f"{path}.{key}" if path else key
            first, second = before.get(key), after.get(key)
            if key in _NAMED_BY and not path:
                first, second = (_by_name(items, _NAMED_BY[key]) for items in (first, second))
            yield from _field_changes(first, second, place)
    elif before != after:
        yield FieldChange(path, before, after)


def _by_name(items: Any, name: str) -> Mapping[str, Any]:
    return {item[name]: item for item in items or ()}
