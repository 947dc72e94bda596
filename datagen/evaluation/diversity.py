"""Diversity within a class: how unlike two of its images are, beside the same of real images.

Called by fidelity.py. 1 - SSIM and LPIPS of disjoint random pairs: each image is in one pair, so
that pairs are independent and the interval is honest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, stats

from datagen.evaluation.feature_metrics import Estimate
from datagen.evaluation.lpips import Lpips
from datagen.evaluation.measure import Measure
from datagen.image_set import ImageSet

MIN_PAIRS = 10
_MAX_PAIRS, _MAX_QUICK_PAIRS = 200, 50
_MAX_LPIPS_PAIRS = 50
_VALUES_AT_ONCE = 2**23  # of the images of all pairs of a class: larger images, fewer pairs
_WINDOW_PX, _SIGMA_PX = 11, 1.5
Images = NDArray[np.uint8]  # (N, H, W, C)
Compare = Callable[[Images, Images], NDArray[np.float64]]
Pairs = tuple[Images, Images]


def measure_diversity(
    synthetic: ImageSet,
    real: ImageSet,
    *,
    lpips: Lpips | str,
    seed: int,
    quick: bool,
    check_abort: Callable[[], None] = lambda: None,
) -> tuple[Measure, Measure]:
    """Mean 1 - SSIM and mean LPIPS within class, over classes. lpips: or why there is none."""
    pairs = _class_pairs(synthetic, real, seed=seed, quick=quick)
    side = min(synthetic.images.shape[1:3])
    if side < _WINDOW_PX:
        reason = f"images of {side} px are smaller than SSIM's window of {_WINDOW_PX} px"
        ssim_measure = Measure.absent(reason, n=len(synthetic))
    else:
        ssim_measure = _measure(pairs, lambda a, b: 1 - ssim(a, b), check_abort)
        ssim_measure = replace(ssim_measure, note=f"1 - SSIM; {ssim_measure.note}".rstrip("; "))
    if isinstance(lpips, str):
        return ssim_measure, Measure.absent(lpips, n=len(synthetic))
    few = {
        name: tuple((a[:_MAX_LPIPS_PAIRS], b[:_MAX_LPIPS_PAIRS]) for a, b in sides)
        for name, sides in pairs.items()
    }
    lpips_measure = _measure(few, lpips.distances, check_abort)
    return ssim_measure, replace(lpips_measure, note=f"{lpips.trunk}; {lpips_measure.note}")


def ssim(a: Images, b: Images) -> NDArray[np.float64]:
    """(N, H, W, C) uint8 twice, at least 11 px a side => (N,) mean structural similarity.

    A Gaussian window over all places, borders mirrored, channels averaged. Source: Wang et al.
    2004, equations 13 to 16.
    """
    x, y = a / 255.0, b / 255.0
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = (_blur(x * x) - mean_x**2).clip(0)
    variance_y = (_blur(y * y) - mean_y**2).clip(0)
    covariance = _blur(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    means: NDArray[np.float64] = similarity.mean(axis=(1, 2, 3))
    return means


def _blur(images: NDArray[np.float64]) -> NDArray[np.float64]:
    places = np.arange(_WINDOW_PX) - _WINDOW_PX // 2
    window = np.exp(-((places / _SIGMA_PX) ** 2) / 2)
    window /= window.sum()
    for axis in (1, 2):
        images = ndimage.correlate1d(images, window, axis=axis, mode="mirror")
    return images


def _class_pairs(
    synthetic: ImageSet, real: ImageSet, *, seed: int, quick: bool
) -> dict[str, tuple[Pairs, ...]]:
    """Class name -> pairs of synthetic and pairs of real images, equally many."""
    rng = np.random.default_rng(seed)
    most = _MAX_QUICK_PAIRS if quick else _MAX_PAIRS
    values = int(np.prod(synthetic.image_shape))
    most = max(MIN_PAIRS, min(most, _VALUES_AT_ONCE // (2 * values)))
    found: dict[str, tuple[Pairs, ...]] = {}
    for class_id, name in enumerate(synthetic.class_names):
        rows = [rng.permutation(images.rows_of(class_id)) for images in (synthetic, real)]
        num = min(most, *(len(side) // 2 for side in rows))
        found[name] = tuple(
            (images.images[side[:num]], images.images[side[num : 2 * num]])
            for images, side in zip((synthetic, real), rows, strict=True)
        )
    return found


def _measure(
    pairs: Mapping[str, tuple[Pairs, ...]], compare: Compare, check_abort: Callable[[], None]
) -> Measure:
    """The mean over the classes that have enough images; floor: of the real pairs."""
    per_class, estimates, floors = {}, [], []
    for name, (synthetic, real) in pairs.items():
        check_abort()
        num = len(synthetic[0])
        if num < MIN_PAIRS:
            reason = f"needs {2 * MIN_PAIRS} images on each side; there are fewer"
            per_class[name] = Measure.absent(reason, n=2 * num)
            continue
        estimate, floor = _mean(compare(*synthetic)), float(compare(*real).mean())
        per_class[name] = Measure(
            estimate.value, 2 * num, low=estimate.low, high=estimate.high, floor=floor
        )
        estimates.append(estimate)
        floors.append(floor)
    if not estimates:
        reason = f"no class has {2 * MIN_PAIRS} images on each side"
        return replace(Measure.absent(reason), per_class=per_class)
    value = float(np.mean([estimate.value for estimate in estimates]))
    halves = [(e.high or e.value) - e.value for e in estimates]
    half = math.sqrt(sum(h * h for h in halves)) / len(halves)
    return Measure(
        value,
        sum(measure.n for measure in per_class.values() if measure.value is not None),
        low=value - half,
        high=value + half,
        floor=float(np.mean(floors)),
        per_class=per_class,
        note="mean over random pairs within a class; higher is more diverse",
    )


def _mean(values: NDArray[np.float64]) -> Estimate:
    """With Student's interval."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half)
