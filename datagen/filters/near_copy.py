"""near_copy: an image that copies a training image of its model. Listed in
datagen.filters.FILTERS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score

if TYPE_CHECKING:
    from datagen.references.reference import Reference


class NearCopyOptions(FilterOptions):
    max_false_positive_rate: float = Field(
        default=0.005,
        ge=0.001,
        le=0.05,
        allow_inf_nan=False,
        description="a share from 0.001 to 0.05: of real images that are no copies, so many may be "
        "taken for one",
    )
    max_score: float | None = Field(
        default=None,
        ge=-100,
        le=100,
        allow_inf_nan=False,
        description="log odds from -100 to 100, in place of that rate",
    )


@dataclass(frozen=True)
class NearCopyJudge:
    max_score: float

    def reject(self, score: Score) -> str | None:
        return "near_copy" if float(score) > self.max_score else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class NearCopyFilter:
    """The score is the log odds of being a copy (references/copy_detector.py)."""

    name = "near_copy"
    options: type[FilterOptions] = NearCopyOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return True

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        assert reference is not None
        return [round(float(score), 4) for score in reference.copies.search(images).score]

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, NearCopyOptions)
        assert reference is not None
        if options.max_score is not None:
            return NearCopyJudge(options.max_score)
        return NearCopyJudge(reference.facts.copies.threshold(options.max_false_positive_rate))
