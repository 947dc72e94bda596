"""From scores to the verdict and its words. Called by measurement.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import Arm, Verdict
from datagen.evaluation.utility.scores import METRICS, Score, class_influence
from datagen.evaluation.utility.statistics import (
    LEVEL,
    Estimate,
    estimate,
    holm,
    judge,
    pooled_estimates,
)

Clusters = NDArray[np.int64] | None

_FLOOR_SHARE = 0.1
_RARE_SHARE = 0.5
_WORDS: Mapping[Verdict, str] = {
    "helps": "it helps",
    "no_difference": "no difference within the margin of {margin}",
    "harms": "it harms",
    "inconclusive": "inconclusive: neither better, nor worse, nor equal within {margin}",
}


def learning_floor(class_ids: NDArray[np.int64]) -> float:
    """Accuracy below which a classifier learned nothing: a tenth of the way from always naming the
    most frequent class to perfect."""
    chance = float(np.bincount(class_ids).max() / len(class_ids))
    return chance + _FLOOR_SHARE * (1 - chance)


def arm_result(
    name: str,
    num_images: int,
    scores: Sequence[Score],
    class_names: Sequence[str],
    clusters: Clusters,
) -> Arm:
    metrics = {}
    for metric in METRICS:
        figures = [each.figures[metric] for each in scores]
        values = np.array([figure.value for figure in figures])
        influence = np.mean([figure.influence for figure in figures], axis=0)
        whole = estimate(values, influence, clusters)
        low, high = whole.interval()
        metrics[metric] = Measure(
            whole.value,
            len(influence),
            low=max(0.0, low),
            high=min(1.0, high),
            per_class=_per_class([f.per_class for f in figures], class_names, len(influence)),
        )
    return Arm(name, num_images, metrics)


def _per_class(
    values: Sequence[NDArray[np.float64] | None], class_names: Sequence[str], n: int
) -> dict[str, Measure]:
    known = [each for each in values if each is not None]
    if not known:
        return {}
    means = np.mean(known, axis=0)
    return {
        name: Measure(float(mean), n)
        for name, mean in zip(class_names, means, strict=True)
        if np.isfinite(mean)
    }


def class_estimates(
    with_synthetic: Sequence[Score],
    without: Sequence[Score],
    class_ids: NDArray[np.int64],
    groups: Mapping[str, Sequence[int]],
    clusters: Clusters,
) -> dict[str, tuple[Estimate, int]]:
    """groups: name -> class ids. The gap in mean accuracy over the classes of each group, and its
    number of test images; a group without any is left out."""
    names, repeats, tests, numbers = list[str](), list[NDArray[np.float64]](), [], []
    for name, members in groups.items():
        present = [class_ids == c for c in members if (class_ids == c).any()]
        if not present:
            continue
        values, influences = [], []
        for a, b in zip(with_synthetic, without, strict=True):
            gaps = [a.correct[m].mean() - b.correct[m].mean() for m in present]
            values.append(float(np.mean(gaps)))
            parts = [class_influence(a.correct, m) - class_influence(b.correct, m) for m in present]
            influences.append(np.mean(parts, axis=0))
        names.append(name)
        repeats.append(np.array(values))
        tests.append(np.mean(influences, axis=0))
        numbers.append(int(np.sum(present)))
    gaps = pooled_estimates(repeats, tests, clusters)
    return dict(zip(names, zip(gaps, numbers, strict=True), strict=True))


def class_results(
    gaps: Mapping[str, tuple[Estimate, int]], margin: float
) -> tuple[dict[str, Measure], dict[str, Verdict]]:
    """Intervals at level 1 - 0.05 / number of classes, so that all hold at once (Bonferroni); a
    class helps or is harmed by Holm's p-values, which find a little more."""
    adjusted = holm([gap.p_value() for gap, _ in gaps.values()])
    level = 1 - (1 - LEVEL) / max(1, len(gaps))
    measures, verdicts = {}, dict[str, Verdict]()
    for (name, (gap, n)), p_value in zip(gaps.items(), adjusted, strict=True):
        measures[name] = gap.measure(n, level=level)
        verdict = judge(gap, margin, level=level)
        if verdict != "no_difference":
            significant = p_value < 1 - LEVEL
            verdict = "inconclusive"
            if significant:
                verdict = "helps" if gap.value > 0 else "harms"
        verdicts[name] = verdict
    return measures, verdicts


def rare_classes(real_class_ids: NDArray[np.int64], num_classes: int) -> list[int]:
    """Those with at most half of the median number of real training images."""
    counts = np.bincount(real_class_ids, minlength=num_classes)
    return [int(c) for c in np.flatnonzero(counts <= _RARE_SHARE * np.median(counts))]


def sentence(
    gap: Measure,
    verdict: Verdict,
    classes: Mapping[str, Verdict],
    *,
    num_real: int,
    margin: float,
) -> str:
    """In points of 100."""
    assert gap.low is not None
    assert gap.high is not None
    points = f"{100 * margin:g} {'point' if margin == 0.01 else 'points'}"
    words = _WORDS[verdict].format(margin=points)
    text = (
        f"Adding these images to {num_real:,} real ones changes accuracy by "
        f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f} points: {words}"
    )
    for kind, label in (("helps", "better"), ("harms", "worse")):
        names = [name for name, each in classes.items() if each == kind]
        if names:
            text += f"; {label} for {', '.join(names)}"
    return text
