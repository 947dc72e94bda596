"""How close synthetic images come to real ones, and how much of their variety they cover.

Every figure compares equally many images on both sides, and stands beside its floor: the same
figure between two sets of real images of that same number. Called by evaluate.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.diversity import measure_diversity
from datagen.evaluation.feature_metrics import (
    Estimate,
    frechet_distance,
    inception_score,
    kernel_distance_estimate,
    manifold_figures,
    manifold_of,
)
from datagen.evaluation.lpips import Lpips, installed_lpips
from datagen.evaluation.measure import Measure
from datagen.evaluation.results import Fidelity
from datagen.features import Classifier, FeatureCache, FeatureExtractor, compute_features
from datagen.image_set import ImageSet

MIN_KERNEL_IMAGES = 30
MIN_MANIFOLD_IMAGES = 50
MIN_HELD_OUT = 1000
_MAX_QUADRATIC, _MAX_QUICK_QUADRATIC = 5000, 1000
_MANIFOLD_NAMES = ("precision", "recall", "density", "coverage")
_NAMES = ("fid", "kid", *_MANIFOLD_NAMES, "inception_score")
_MIX_NOTED = 0.05
Array = NDArray[np.float64]
Check = Callable[[], None]


def min_frechet_images(dim: int) -> int:
    """Twice as many as features, and at least 500. Below `dim` images a covariance is singular;
    the bias is of order dim / n (Chong and Forsyth 2020, arXiv 1911.07023, section 3), the same on
    the floor beside it."""
    return max(2 * dim, 500)


@dataclass(frozen=True)
class _Side:
    """One set: its images in a random order, and what was computed of those that are needed.

    features: (N, d) and probabilities: (N, K), rows in that order; class_ids too.
    """

    class_ids: NDArray[np.int64]
    features: Array
    probabilities: Array | None

    def first(self, num: int, class_id: int | None = None) -> tuple[Array, Array | None]:
        """Features and probabilities of the first num rows, of one class or of all."""
        rows = np.arange(len(self.class_ids))
        if class_id is not None:
            rows = np.flatnonzero(self.class_ids == class_id)
        rows = rows[:num]
        chances = None if self.probabilities is None else self.probabilities[rows]
        return self.features[rows], chances

    def num(self, class_id: int) -> int:
        return int((self.class_ids == class_id).sum())


def measure_fidelity(
    synthetic: ImageSet,
    real: ImageSet,
    held_out: ImageSet,
    *,
    extractor: FeatureExtractor,
    classifier: Classifier | None,
    seed: int,
    quick: bool,
    cache: FeatureCache | None = None,
    lpips: Lpips | str | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    check_abort: Check = lambda: None,
) -> Fidelity:
    """classifier: for the Inception-style score, None to leave it out. lpips: None for the
    installed one, or why it is left out.

    Raises InputError if the extractor gives features that are not finite.
    """
    yardstick, other, against = _real_sides(synthetic, real, held_out, seed=seed)
    sets = (synthetic, yardstick, other)
    num = min(len(images) for images in sets)
    sides = []
    for images, what in zip(sets, ("synthetic", "real", "real, for the floor"), strict=True):
        on_progress(f"features of {what} images")
        chosen = _needed(images, num, sets, seed=seed)
        sides.append(_side(chosen, extractor, classifier, cache, check_abort))
    on_progress("distances")
    cap = _MAX_QUICK_QUADRATIC if quick else _MAX_QUADRATIC
    whole = _compare([side.first(num) for side in sides], cap, check_abort)
    per_class = _per_class(synthetic.class_names, sides, cap, check_abort)
    notes = "; ".join([against, *_mix_note(sides[0], sides[1], num, synthetic.num_classes)])
    on_progress("diversity")
    ssim, lpips_measure = measure_diversity(
        synthetic,
        yardstick,
        lpips=lpips or installed_lpips(),
        seed=seed,
        quick=quick,
        check_abort=check_abort,
    )
    measures = {
        name: replace(
            whole[name],
            per_class={label: classes[name] for label, classes in per_class.items()},
            note="; ".join(part for part in (whole[name].note, notes) if part),
        )
        for name in _NAMES
    }
    return Fidelity(extractor.name, ssim_diversity=ssim, lpips_diversity=lpips_measure, **measures)


def _real_sides(
    synthetic: ImageSet, real: ImageSet, held_out: ImageSet, *, seed: int
) -> tuple[ImageSet, ImageSet, str]:
    """What synthetic images are compared with, what that is compared with for the floor, and a
    note. Held-out images where there are enough: against training images, copies would win."""
    half = min(len(synthetic), len(real) // 2)
    if min(len(held_out), len(real)) >= min(MIN_HELD_OUT, half):
        return held_out, real, "against held-out real images; floor: real training images"
    first, second = _halves(real, seed)
    note = (
        f"against one half of the real training images, as only {len(held_out)} are held out; "
        "floor: the other half"
    )
    return first, second, note


def _halves(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Of each class, and no group in both."""
    rng = np.random.default_rng(seed)
    groups = np.array(images.groups if images.groups is not None else images.names)
    _, group_ids = np.unique(groups, return_inverse=True)
    rank = rng.permutation(int(group_ids.max(initial=-1)) + 1)[group_ids]
    # Groups in random order, a class after the other: each second one goes to the other half.
    first_row = {int(group): row for row, group in reversed(list(enumerate(rank)))}
    order = sorted(first_row, key=lambda group: (images.class_ids[first_row[group]], group))
    is_first = np.isin(rank, order[::2])
    return images.take(np.flatnonzero(is_first)), images.take(np.flatnonzero(~is_first))


def _needed(images: ImageSet, num: int, sets: tuple[ImageSet, ...], *, seed: int) -> ImageSet:
    """In random order: the first `num`, and of each class as many as every set has."""
    order = np.random.default_rng(seed).permutation(len(images))
    least = np.min([each.counts() for each in sets], axis=0)
    is_needed = np.arange(len(images)) < num
    for class_id, most in enumerate(least):
        places = np.flatnonzero(images.class_ids[order] == class_id)
        is_needed[places[:most]] = True
    return images.take(order[is_needed])


def _side(
    images: ImageSet,
    extractor: FeatureExtractor,
    classifier: Classifier | None,
    cache: FeatureCache | None,
    check_abort: Check,
) -> _Side:
    features = compute_features(
        extractor, images.images, names=images.names, cache=cache, check_abort=check_abort
    )
    probabilities = None
    if classifier is not None:
        probabilities = classifier.predict_proba(images.images).astype(np.float64)
    return _Side(images.class_ids, features.astype(np.float64), probabilities)


def _per_class(
    class_names: tuple[str, ...], sides: list[_Side], cap: int, check_abort: Check
) -> dict[str, Mapping[str, Measure]]:
    found: dict[str, Mapping[str, Measure]] = {}
    for class_id, name in enumerate(class_names):
        num = min(side.num(class_id) for side in sides)
        found[name] = _compare([side.first(num, class_id) for side in sides], cap, check_abort)
    return found


def _compare(
    samples: list[tuple[Array, Array | None]], cap: int, check_abort: Check
) -> dict[str, Measure]:
    """Of synthetic, real, and other real images, equally many: each measure by name."""
    (fake, real, other), chances = zip(*samples, strict=True)
    measures = {"fid": _fid(fake, real, other)}
    check_abort()
    note = f"on the first {cap:,} in random order: the work grows with the square" * (
        len(fake) > cap
    )
    fake, real, other = (side[:cap] for side in (fake, real, other))
    measures["kid"] = replace(_kid(fake, real, other), note=note)
    check_abort()
    for name, measure in _manifold(fake, real, other).items():
        measures[name] = replace(measure, note=note)
    check_abort()
    measures["inception_score"] = _score(chances[0], chances[1])
    return measures


def _fid(fake: Array, real: Array, other: Array) -> Measure:
    least = min_frechet_images(fake.shape[1])
    if len(fake) < least:
        return _too_few(len(fake), least, f" for {fake.shape[1]} features")
    return _measure(frechet_distance(fake, real), len(fake), frechet_distance(other, real))


def _kid(fake: Array, real: Array, other: Array) -> Measure:
    if len(fake) < MIN_KERNEL_IMAGES:
        return _too_few(len(fake), MIN_KERNEL_IMAGES)
    floor = kernel_distance_estimate(other, real)
    return _measure(kernel_distance_estimate(fake, real), len(fake), floor)


def _manifold(fake: Array, real: Array, other: Array) -> dict[str, Measure]:
    num = len(fake)
    if num < MIN_MANIFOLD_IMAGES:
        return {name: _too_few(num, MIN_MANIFOLD_IMAGES) for name in _MANIFOLD_NAMES}
    around = manifold_of(real)
    figures = manifold_figures(around, manifold_of(fake))
    floor = manifold_figures(around, manifold_of(other))
    return {
        name: _measure(getattr(figures, name), num, getattr(floor, name))
        for name in _MANIFOLD_NAMES
    }


def _score(fake: Array | None, real: Array | None) -> Measure:
    """floor: of the real images; more is better here."""
    if fake is None or real is None:
        return Measure.absent("there is no classifier of the real classes")
    if len(fake) < MIN_KERNEL_IMAGES:
        return _too_few(len(fake), MIN_KERNEL_IMAGES)
    measure = _measure(inception_score(fake), len(fake), inception_score(real))
    return replace(measure, note="with the classifier of the real classes")


def _measure(estimate: Estimate, num: int, floor: Estimate) -> Measure:
    return Measure(estimate.value, num, low=estimate.low, high=estimate.high, floor=floor.value)


def _too_few(num: int, least: int, why: str = "") -> Measure:
    reason = (
        f"needs {least:,} images on each side{why}, synthetic and twice real; there are {num:,}"
    )
    return Measure.absent(reason, n=num)


def _mix_note(synthetic: _Side, real: _Side, num: int, num_classes: int) -> list[str]:
    """Said where the class shares differ: part of every distance is that."""
    shares = [
        np.bincount(side.class_ids[:num], minlength=num_classes) / max(1, num)
        for side in (synthetic, real)
    ]
    differing = float(np.abs(shares[0] - shares[1]).sum()) / 2
    if differing <= _MIX_NOTED:
        return []
    return [f"{differing:.0%} of the images would have to change class to match the real mix"]
