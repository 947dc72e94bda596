"""quality: sharpness, noise, brightness or clipping that no real image shows. Listed in
datagen.filters.FILTERS."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score
from datagen.references.quality import MEASURES, measure_quality, outside

if TYPE_CHECKING:
    from datagen.references.reference import Reference

_Bound = Annotated[float | None, Field(ge=0, le=10, allow_inf_nan=False)]


class QualityOptions(FilterOptions):
    """None given: what real images of the class show, which needs a reference. Some given: those
    alone, without one."""

    min_sharpness: _Bound = Field(default=None, description="the blurred lie below: 0 to 10")
    max_sharpness: _Bound = Field(default=None, description="the ragged lie above: 0 to 10")
    min_noise: _Bound = Field(default=None, description="the smeared lie below: 0 to 10")
    max_noise: _Bound = Field(default=None, description="the noisy lie above: 0 to 10")
    min_brightness: _Bound = Field(default=None, description="the dark lie below: 0 to 1")
    max_brightness: _Bound = Field(default=None, description="the bright lie above: 0 to 1")
    min_clipped: _Bound = Field(default=None, description="a share of pixels at 0 or 255")
    max_clipped: _Bound = Field(default=None, description="a share of pixels at 0 or 255")

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Measure -> lowest and highest, of those given."""
        given = self.model_dump(exclude_none=True)
        return {
            name: (given.get(f"min_{name}", -math.inf), given.get(f"max_{name}", math.inf))
            for name in MEASURES
            if {f"min_{name}", f"max_{name}"} & given.keys()
        }


@dataclass(frozen=True)
class QualityJudge:
    bounds: Mapping[str, tuple[float, float]]

    def reject(self, score: Score) -> str | None:
        """quality_sharpness, quality_noise, quality_brightness or quality_clipped."""
        measured = np.array(str(score).split(), np.float64)
        name = outside(measured, self.bounds)
        return None if name is None else f"quality_{name}"

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class QualityFilter:
    """The score is four numbers in one text, in the order of MEASURES (references/quality.py)."""

    name = "quality"
    options: type[FilterOptions] = QualityOptions

    def needs_reference(self, options: BaseModel) -> bool:
        assert isinstance(options, QualityOptions)
        return not options.bounds()

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        return [" ".join(f"{value:.4f}" for value in row) for row in measure_quality(images)]

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, QualityOptions)
        if reference is None:
            return QualityJudge(options.bounds())
        return QualityJudge(reference.facts.quality.bounds[reference.class_names.index(class_name)])
