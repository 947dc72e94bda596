"""Fairness: how the data set serves each value of a declared attribute, and the largest gap.

Called by evaluate.py with what the other concerns computed. Attributes come from the recipe
(`attributes:` of a class), or from metadata.csv beside real images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import AttributeFairness
from datagen.image_set import ImageSet
from datagen.real_images.listing import NOT_GIVEN, some

MIN_IMAGES = 20
MAX_VALUES = 20
NEAREST_K = 5
_MAX_COVERAGE_IMAGES = 1000
_ALPHA = 0.05

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FairnessInputs:
    """synthetic_agreed: (N,) bool, an independent classifier confirms the label; None if it was
    not asked. extract: (N, H, W, C) uint8 -> (N, D) features; asked for few images only.
    held_out_correct: (N,) bool, a classifier trained with the synthetic images is right."""

    synthetic: ImageSet
    synthetic_agreed: NDArray[np.bool_] | None = None
    real: ImageSet | None = None
    extract: Callable[[NDArray[np.uint8]], Features] | None = None
    held_out: ImageSet | None = None
    held_out_correct: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Share:
    """A share and its n: enough to give an interval of any level."""

    value: float
    n: float

    def interval(self, alpha: float) -> tuple[float, float]:
        """Wilson 1927, as in Newcombe 1998, Statistics in Medicine 17:857, method 3."""
        z = NormalDist().inv_cdf(1 - alpha / 2)
        centre = self.value + z * z / (2 * self.n)
        spread = z * math.sqrt(
            self.value * (1 - self.value) / self.n + z * z / (4 * self.n * self.n)
        )
        scale = 1 + z * z / self.n
        return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def measure_fairness(inputs: FairnessInputs, *, seed: int) -> tuple[AttributeFairness, ...]:
    """One result for each attribute that any of the sets declares; empty if none does."""
    sets = [inputs.synthetic, inputs.real, inputs.held_out]
    names = sorted({name for images in sets if images is not None for name in images.attributes})
    return tuple(_of_attribute(name, inputs, seed) for name in names)


def _of_attribute(name: str, inputs: FairnessInputs, seed: int) -> AttributeFairness:
    synthetic = _column(inputs.synthetic, name)
    real, held_out = _column(inputs.real, name), _column(inputs.held_out, name)
    everywhere = (*(synthetic or ()), *(real or ()), *(held_out or ()))
    values = sorted(set(everywhere) - {NOT_GIVEN}) + [NOT_GIVEN] * (NOT_GIVEN in everywhere)
    if len(values) > MAX_VALUES:
        reason = (
            f"{name} has {len(values):,} values, such as {some(values)}; expected at most "
            f"{MAX_VALUES}: put numbers into ranges"
        )
        return AttributeFairness(name, {}, Measure.absent(reason), reason)
    measures: dict[str, dict[str, Measure]] = {
        value: {"count": _count(synthetic, value)} for value in values
    }
    shares: dict[str, dict[str, Share]] = {}
    for kind, by_value in (
        ("label_agreement", _shares(synthetic, inputs.synthetic_agreed, None, values)),
        ("coverage", _coverage(synthetic, real, inputs, values, seed)),
        ("utility", _shares(held_out, inputs.held_out_correct, inputs.held_out, values)),
    ):
        for value, found in by_value.items():
            measures[value][kind] = _measure(found)
        shares[kind] = {
            value: found
            for value, found in by_value.items()
            if isinstance(found, Share) and value != NOT_GIVEN
        }
    gap, sentence = _largest_gap(name, shares)
    return AttributeFairness(name, measures, gap, sentence)


def _column(images: ImageSet | None, name: str) -> tuple[str, ...] | None:
    return None if images is None else images.attributes.get(name)


def _count(column: Sequence[str] | None, value: str) -> Measure:
    if column is None:
        return Measure.absent("the synthetic images do not declare it")
    num = column.count(value)
    return Measure(float(num), num)


def _measure(found: Share | str) -> Measure:
    if isinstance(found, str):
        return Measure.absent(found)
    low, high = found.interval(_ALPHA)
    return Measure(found.value, round(found.n), low, high)


def _shares(
    column: Sequence[str] | None,
    hits: NDArray[np.bool_] | None,
    clustered: ImageSet | None,
    values: Sequence[str],
) -> dict[str, Share | str]:
    """Value -> share of hits, or why there is none. clustered: whose groups count as one."""
    if hits is None:
        return dict.fromkeys(values, "it was not measured")
    if column is None:
        return dict.fromkeys(values, "its images do not declare the attribute")
    of_value = np.array(column)
    groups = None if clustered is None or clustered.groups is None else np.array(clustered.groups)
    found: dict[str, Share | str] = {}
    for value in values:
        rows = np.flatnonzero(of_value == value)
        found[value] = _share(hits[rows], None if groups is None else groups[rows])
    return found


def _share(hits: NDArray[np.bool_], groups: NDArray[np.str_] | None) -> Share | str:
    """Images of one group are alike: n is divided by the design effect, the variance between
    groups over that of independent images (Kish 1965, Survey Sampling, section 8.2)."""
    num, value = len(hits), float(np.mean(hits)) if len(hits) else 0.0
    num_independent = num if groups is None else len(set(groups.tolist()))
    if num_independent < MIN_IMAGES:
        unit = "images" if groups is None else "groups"
        return f"{num_independent} {unit}; {MIN_IMAGES} or more are needed"
    if groups is None:
        return Share(value, num)
    if not 0 < value < 1:
        return Share(value, num_independent)
    _, ids = np.unique(groups, return_inverse=True)
    residuals = np.bincount(ids, weights=hits - value)
    variance = np.square(residuals).sum() / num**2 * num_independent / (num_independent - 1)
    design_effect = variance / (value * (1 - value) / num)
    return Share(value, num / max(1.0, design_effect))


def _coverage(
    synthetic: Sequence[str] | None,
    real: Sequence[str] | None,
    inputs: FairnessInputs,
    values: Sequence[str],
    seed: int,
) -> dict[str, Share | str]:
    """Of the real images of each value, by the synthetic ones of the same. It grows with n, so all
    values are measured with as many images as the smallest has, on both sides."""
    if inputs.extract is None or inputs.real is None:
        return dict.fromkeys(values, "it was not measured")
    if synthetic is None or real is None:
        side = "synthetic" if synthetic is None else "real"
        return dict.fromkeys(values, f"the {side} images do not declare the attribute")
    rows = {v: (_rows(real, v), _rows(synthetic, v)) for v in values if v != NOT_GIVEN}
    sizes = {value: min(map(len, sides)) for value, sides in rows.items()}
    enough = [value for value, size in sizes.items() if size >= MIN_IMAGES]
    num = min([_MAX_COVERAGE_IMAGES, *(sizes[value] for value in enough)])
    found: dict[str, Share | str] = {}
    for value in values:
        if value not in enough:
            found[value] = f"{sizes.get(value, 0)} images; {MIN_IMAGES} or more are needed"
            continue
        real_rows, synthetic_rows = (
            np.random.default_rng((seed, side)).permutation(members)[:num]
            for side, members in enumerate(rows[value])
        )
        covered = coverage(
            inputs.extract(inputs.real.images[real_rows]),
            inputs.extract(inputs.synthetic.images[synthetic_rows]),
        )
        found[value] = Share(covered, num)
    return found


def coverage(real: Features, synthetic: Features, *, nearest_k: int = NEAREST_K) -> float:
    """Share of real images that have a synthetic one nearer than their k-th nearest real one.

    Source: Naeem et al. 2020, arXiv 2002.09797, equation 5.
    """
    # Itself is the nearest of all, hence k and not k - 1.
    radii = np.sort(_distances(real, real), axis=1)[:, nearest_k]
    return float(np.mean(_distances(real, synthetic).min(axis=1) < radii))


def _distances(a: Features, b: Features) -> NDArray[np.float64]:
    """Euclidean, (len(a), len(b)); not by matrix product, which loses the small ones."""
    left, right = (torch.from_numpy(np.asarray(x, np.float64)) for x in (a, b))
    return np.asarray(torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist"))


def _rows(column: Sequence[str], value: str) -> NDArray[np.int64]:
    return np.flatnonzero(np.array(column) == value)


def _largest_gap(attribute: str, shares: Mapping[str, Mapping[str, Share]]) -> tuple[Measure, str]:
    """Over all measures and pairs of values. The interval is Bonferroni's for all these pairs, as
    the largest is picked out of them."""
    pairs = list(_pairs(shares))
    if not pairs:
        reason = f"no measure of {attribute} has two values with {MIN_IMAGES} images or more"
        return Measure.absent(reason), reason
    alpha = _ALPHA / len(pairs)
    kind, (worse, low_share), (better, high_share) = max(
        pairs, key=lambda pair: pair[2][1].value - pair[1][1].value
    )
    gap, low, high = difference(high_share, low_share, alpha=alpha)
    num = round(min(low_share.n, high_share.n))
    verdict = "" if low > 0 else "; that may be chance"
    sentence = (
        f"{kind}: {worse} {low_share.value:.3f}, {better} {high_share.value:.3f}: a gap of "
        f"{100 * gap:.1f} points [{100 * low:.1f}, {100 * high:.1f}]{verdict}"
    )
    note = f"95% over all {len(pairs)} comparisons of this attribute"
    return Measure(gap, num, low, high, note=note), sentence


_Named = tuple[str, Share]


def _pairs(shares: Mapping[str, Mapping[str, Share]]) -> Iterator[tuple[str, _Named, _Named]]:
    """Measure, and two values of the attribute, the worse one first."""
    for kind, by_value in shares.items():
        for a, b in combinations(by_value.items(), 2):
            worse, better = sorted((a, b), key=lambda named: named[1].value)
            yield kind, worse, better


def difference(a: Share, b: Share, *, alpha: float) -> tuple[float, float, float]:
    """a - b with its interval: Newcombe 1998, Statistics in Medicine 17:873, method 10."""
    (low_a, high_a), (low_b, high_b) = a.interval(alpha), b.interval(alpha)
    gap = a.value - b.value
    low = gap - math.hypot(a.value - low_a, high_b - b.value)
    high = gap + math.hypot(high_a - a.value, b.value - low_b)
    return gap, low, high
