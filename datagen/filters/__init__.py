"""The filters that a recipe may name."""

from __future__ import annotations

from datagen.filters.blank import BlankFilter
from datagen.filters.duplicate import DuplicateFilter
from datagen.filters.interface import FilterRule

FILTERS: dict[str, FilterRule] = {
    "blank": BlankFilter(),
    "duplicate": DuplicateFilter(),
}
