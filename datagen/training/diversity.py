"""Mode-collapse watch: are a class's samples as unlike each other as its real images are, and do
they reach all of them? Called by training/loop.py at each evaluation, for every family.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

MIN_IMAGES = 10
_NEAREST_K = 5
# Of real images against real ones, whatever they show: 1 - 2**-k for many images.
REAL_COVERAGE = 0.97
_LOW_SPREAD = _LOW_COVERAGE = 0.8
_MAX_WARNINGS = 5

_REMEDIES = {
    "cgan": "raise objective.gamma, or set objective.augment_target or objective.minibatch_stddev",
    "vae": "train longer, or lower objective.kl_weight",
}
_REMEDY = "keep earlier weights, or train on more images of it"


@dataclass(frozen=True)
class ClassDiversity:
    """num: samples, and as many held-out images. spread: mean distance of two samples over that of
    two held-out images; 1 is as diverse as real. coverage: share of held-out images that have a
    sample nearer than their fifth nearest held-out one."""

    num: int
    spread: float
    coverage: float

    @property
    def is_low(self) -> bool:
        """Lower than chance makes real images look, and than 0.8.

        Of 5000 pairs of real sets (benchmarks/collapse.py), one in 1000 had a spread below 0.76
        at n = 30, 0.85 at 100, 0.91 at 200, and a coverage below 0.73, 0.87, 0.91: about what the
        margin says.
        """
        margin = 1.3 / math.sqrt(self.num)
        return self.spread < min(_LOW_SPREAD, 1 - margin) or self.coverage < min(
            _LOW_COVERAGE, REAL_COVERAGE - margin
        )


@dataclass(frozen=True)
class Diversity:
    """classes: class id -> its figures; without those that had too few held-out images."""

    classes: dict[int, ClassDiversity]

    def figures(self) -> dict[str, float]:
        """Means and minima over classes, for a history; empty if no class was measured."""
        figures = {}
        for name in ("spread", "coverage") if self.classes else ():
            values = [float(getattr(found, name)) for found in self.classes.values()]
            figures[f"{name}_mean"] = float(np.mean(values))
            figures[f"{name}_min"] = min(values)
        return figures

    def warnings(self, class_names: Sequence[str], *, generator: str = "") -> list[str]:
        """A sentence for each class that is low, the lowest first. generator: names the remedy."""
        low = [
            (min(found.spread, found.coverage), c, found)
            for c, found in self.classes.items()
            if found.is_low
        ]
        remedy = _REMEDIES.get(generator, _REMEDY)
        lines = [
            f"class {class_names[c]}: samples are {found.spread:.0%} as diverse as real images and "
            f"cover {found.coverage:.0%} of them ({REAL_COVERAGE:.0%} if real, of {found.num}): "
            f"{remedy}"
            for _, c, found in sorted(low, key=lambda entry: entry[:2])
        ]
        more = len(lines) - _MAX_WARNINGS
        if more > 0:
            lines[_MAX_WARNINGS:] = [f"{more} more class{'es' if more > 1 else ''} likewise"]
        return lines


def watch(
    sample_features: Mapping[int, NDArray[np.floating]],
    held_out: Mapping[int, NDArray[np.floating]],
) -> Diversity:
    """Per class at equal n, as many as both sides have; classes with fewer than MIN_IMAGES, or
    whose held-out images are all alike, are left out.

    sample_features, held_out: class id -> (N, dim) features of one network, such as the judge's.
    """
    classes = {}
    for class_id in sorted(sample_features.keys() & held_out.keys()):
        samples, real = sample_features[class_id], held_out[class_id]
        num = min(len(samples), len(real))
        if num < MIN_IMAGES:
            continue
        samples, real = _evenly(samples, num), _evenly(real, num)
        spread = mean_distance(real)
        if spread > 0:
            classes[class_id] = ClassDiversity(
                num, mean_distance(samples) / spread, coverage(samples, real)
            )
    return Diversity(classes)


def mean_distance(features: NDArray[np.floating]) -> float:
    """Of all pairs of different rows, Euclidean. features: (N, dim), N > 1."""
    return float(pdist(features.astype(np.float64)).mean())


def coverage(samples: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """Share of real rows whose ball, up to their fifth nearest real neighbour, holds a sample.

    Source: Naeem et al. 2020 (arXiv 2002.09797), equation 5.
    """
    samples, real = samples.astype(np.float64), real.astype(np.float64)
    # The nearest of all is the row itself, at distance 0.
    radii = np.partition(cdist(real, real), _NEAREST_K, axis=1)[:, _NEAREST_K]
    return float((cdist(real, samples).min(axis=1) < radii).mean())


def _evenly(features: NDArray[np.floating], num: int) -> NDArray[np.floating]:
    """num rows from first to last: neighbours may come from one group."""
    return features[np.linspace(0, len(features) - 1, num).astype(np.int64)]
