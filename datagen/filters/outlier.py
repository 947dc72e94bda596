"""outlier: an image unlike the real images of its class. Listed in datagen.filters.FILTERS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score

if TYPE_CHECKING:
    from datagen.references.reference import Reference


class OutlierOptions(FilterOptions):
    max_distance: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="a distance from 0 to 1000, 1 being usual for the class; left out, the one "
        "below which 99.9% of held-out real images lie",
    )


@dataclass(frozen=True)
class OutlierJudge:
    max_distance: float

    def reject(self, score: Score) -> str | None:
        return "outlier" if float(score) > self.max_distance else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class OutlierFilter:
    """The score is the distance to the real images of its class (references/outliers.py)."""

    name = "outlier"
    options: type[FilterOptions] = OutlierOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return True

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        assert reference is not None
        found = reference.distances(images, reference.class_ids(class_names))
        return [round(float(distance), 4) for distance in found]

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, OutlierOptions)
        assert reference is not None
        limit = options.max_distance
        return OutlierJudge(reference.facts.outliers.threshold if limit is None else limit)
