"""Few real images of each class, with and without the synthetic ones. Called by measurement.py.

Each subset of the real images is drawn once and trained on twice, by its own seed: alone with an
augmentation tuned for so few images, and with the synthetic images, which fill half of each batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.utility.arms import Effort, Scorer, Sources, clearly_best
from datagen.evaluation.utility.scores import Score
from datagen.evaluation.utility.statistics import Estimate, estimate
from datagen.evaluation.utility.training import Examples, Task
from datagen.faults import plural

_MAX_SYNTHETIC = 5000
_MAX_VALIDATION = 1000


def few_shot_gap(
    sources: Sources,
    test: Examples,
    clusters: NDArray[np.int64] | None,
    effort: Effort,
    scorer: Scorer,
    *,
    per_class: int,
    seed: int,
) -> Measure:
    """Accuracy of real + synthetic minus real + tuned augmentation, with per_class real images."""
    counts = np.bincount(sources.real.class_ids)
    least = int(counts[counts > 0].min())
    if least <= per_class:
        reason = f"a class has {plural(least, 'real image')}; expected more than {per_class}"
        return Measure.absent(reason, n=least)
    subsets = [draw_subset(sources.real, per_class, seed + r) for r in range(effort.num_subsets)]
    what = f"few-shot, {per_class} of each class"
    policy = tuned_policy(sources.real, subsets[0], effort, scorer, what=what, seed=seed)
    rng = np.random.default_rng([seed, 4])
    chosen = rng.permutation(len(sources.synthetic))[:_MAX_SYNTHETIC]
    synthetic = sources.synthetic.take(chosen)
    work = []
    for r, rows in enumerate(subsets):
        real = sources.real.take(rows)
        alone = Task(real, seed + r, effort.few_steps, policy)
        both = Task(real, seed + r, effort.few_steps, policy, second=synthetic)
        work += [(alone, test), (both, test)]
    scores = scorer(what, work)
    gap = paired_gap(scores[1::2], scores[0::2], clusters)
    note = f"against real + augmentation {policy!r}; {effort.num_subsets} paired subsets"
    return gap.measure(len(test), note=note)


def paired_gap(
    with_synthetic: list[Score],
    without: list[Score],
    clusters: NDArray[np.int64] | None,
    metric: str = "accuracy",
) -> Estimate:
    """Of a metric, over repeats that are paired in order."""
    pairs = [
        (a.figures[metric], b.figures[metric]) for a, b in zip(with_synthetic, without, strict=True)
    ]
    values = np.array([a.value - b.value for a, b in pairs])
    influence = np.mean([a.influence - b.influence for a, b in pairs], axis=0)
    return estimate(values, influence, clusters)


def draw_subset(real: Examples, per_class: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng([seed, 5])
    rows = [
        rng.choice(np.flatnonzero(real.class_ids == c), per_class, replace=False)
        for c in np.unique(real.class_ids)
    ]
    return np.concatenate(rows)


def tuned_policy(
    real: Examples,
    rows: NDArray[np.int64],
    effort: Effort,
    scorer: Scorer,
    *,
    what: str,
    seed: int,
) -> str:
    """The best augmentation for these rows, by other real training images: more of them than a team
    with so few would have, to the advantage of training without synthetic images."""
    rng = np.random.default_rng([seed, 6])
    others = np.setdiff1d(np.arange(len(real)), rows)
    validation = real.take(rng.permutation(others)[:_MAX_VALIDATION])
    tasks = [Task(real.take(rows), seed, effort.few_steps, p) for p in effort.policies]
    scores = scorer(f"{what}, tuning", [(task, validation) for task in tasks])
    return clearly_best({p: [s] for p, s in zip(effort.policies, scores, strict=True)})
