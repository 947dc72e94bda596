"""blank: an image with too little contrast shows nothing. Listed in datagen.filters.FILTERS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score

if TYPE_CHECKING:
    from datagen.references.reference import Reference

_CHUNK_VALUES = 1 << 20  # bounds the float64 copy at 8 MiB whatever the batch


class BlankOptions(FilterOptions):
    # The faintest of 60,000 real Fashion-MNIST images scores 0.065; noise of +-8 grey levels on
    # an even picture scores 0.019 (docs/filters.md).
    min_contrast: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        allow_inf_nan=False,
        description="a standard deviation of the pixels, as a share of 255, from 0 to 0.5",
    )


@dataclass(frozen=True)
class BlankJudge:
    min_contrast: float

    def reject(self, score: Score) -> str | None:
        return "blank" if float(score) < self.min_contrast else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class BlankFilter:
    """The score is the contrast: the pixels' standard deviation within each channel, over 255.

    Within each channel (their variances are averaged), so that an even colour scores 0.
    """

    name = "blank"
    options: type[FilterOptions] = BlankOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return False

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        num, height, width, channels = images.shape
        pixels = images.reshape(num, height * width, channels)
        step = max(1, _CHUNK_VALUES // (height * width * channels))
        scores: list[Score] = []
        for start in range(0, num, step):
            scores.extend(_contrast(pixels[start : start + step]))
        return scores

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, BlankOptions)
        return BlankJudge(options.min_contrast)


def _contrast(pixels: Images) -> list[float]:
    """pixels: (N, P, C) uint8. Whole numbers in float64 sum exactly, so in any order."""
    values = pixels.astype(np.float64)
    num_pixels = pixels.shape[1]
    totals = np.einsum("npc->nc", values)
    squares = np.einsum("npc,npc->nc", values, values)
    variances = (squares * num_pixels - totals * totals) / num_pixels**2
    contrast: list[float] = (np.sqrt(variances.mean(axis=1)) / 255).tolist()
    return contrast
