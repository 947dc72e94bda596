"""review: images that someone saw and refused. Listed in datagen.filters.FILTERS.

Written by `datagen refilter` for what a reviewer dropped or the evaluation quarantined.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, Field, StringConstraints

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score

if TYPE_CHECKING:
    from datagen.references.reference import Reference

MAX_REJECTED = 10_000


class ReviewOptions(FilterOptions):
    rejected: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...] = Field(
        default=(),
        max_length=MAX_REJECTED,
        strict=False,  # JSON and YAML hold lists
        description=f"a list of at most {MAX_REJECTED:,} sha256 of raw pixels, 64 hex digits each",
    )


@dataclass(frozen=True)
class ReviewJudge:
    rejected: frozenset[str]

    def reject(self, score: Score) -> str | None:
        return "review" if score in self.rejected else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class ReviewFilter:
    """The score is the sha256 of the raw pixels, in C order."""

    name = "review"
    options: type[FilterOptions] = ReviewOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return False

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        return [hashlib.sha256(image.data).hexdigest() for image in np.ascontiguousarray(images)]

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, ReviewOptions)
        return ReviewJudge(frozenset(options.rejected))
