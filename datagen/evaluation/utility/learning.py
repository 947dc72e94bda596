"""The trainings behind the learning curve and the worth. Called by measurement.py.

With the linear probe, or with the user's own trainer and fewer repeats.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import CurvePoint
from datagen.evaluation.utility.probe import PatchFeatures, margin, nested_margins
from datagen.evaluation.utility.training import Examples, Task, Trainer
from datagen.evaluation.utility.worth import NUM_PARTS, Curve, variance_of_parts, worth
from datagen.references.threads import one_thread_each

Rows = NDArray[np.int64]
Margins = NDArray[np.float64]
# Trains on leading parts of some rows: (rows, sizes, stop) => (len(sizes), num_test).
Fit = Callable[[Rows, list[int], threading.Event], Margins]
Work = Callable[[threading.Event], Margins]
Run = Callable[[list[Work]], list[Margins]]

MIN_POOL = 80
_SMALLEST_PER_CLASS = 5
_ADDED_SHARE = 4


@dataclass(frozen=True)
class Worth:
    """alone: of the data set alone. added: what it adds to some real images. curve: of the real
    images."""

    alone: Measure
    added: Measure | None
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Material:
    """examples: the real pool, then the data set. num_real: where the data set begins."""

    examples: Examples
    num_real: int
    num_classes: int

    def orders(self, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Rows of the pool and of the data set, each in a fresh stratified order."""
        cut, class_ids = self.num_real, self.examples.class_ids
        synthetic = stratified_order(class_ids[cut:], rng) + cut
        return stratified_order(class_ids[:cut], rng), synthetic


def measure_worth(
    material: Material,
    fit: Fit,
    run: Run,
    *,
    num_sizes: int,
    num_repeats: int,
    num_runs: int = 1,
    seed: int,
) -> Worth:
    """run: does the work, in order. num_repeats: of the curve, 3 or more. num_runs: on the whole
    data set; more than one only where training is random."""
    pool, num_synthetic = material.num_real, len(material.examples) - material.num_real
    if pool < MIN_POOL or num_synthetic < NUM_PARTS:
        reason = (
            f"{pool} real images and {num_synthetic} in the data set; expected at least "
            f"{MIN_POOL} and {NUM_PARTS}"
        )
        return Worth(Measure.absent(reason, n=num_synthetic), None, ())
    rng = np.random.default_rng([seed, 1])
    sizes = _sizes(pool, num_sizes, _SMALLEST_PER_CLASS * material.num_classes)
    work: list[Work] = [partial(fit, material.orders(rng)[0], sizes) for _ in range(num_repeats)]
    real, synthetic = material.orders(rng)
    base = real[: pool // _ADDED_SHARE]
    mixed = np.concatenate([base, synthetic])
    class_ids = material.examples.class_ids
    parts = dealt(synthetic, class_ids, NUM_PARTS)
    wholes = [np.roll(synthetic, k) for k in range(num_runs)]
    mixes = [np.roll(mixed, k) for k in range(num_runs)]
    for rows in (*parts, *dealt(synthetic, class_ids, 2), *wholes, *mixes):
        work.append(partial(fit, rows, [len(rows)]))
    margins = run(work)
    curve = Curve(np.array(sizes, dtype=np.float64), np.stack(margins[:num_repeats]))
    rest = np.concatenate(margins[num_repeats:])
    own = variance_of_parts(rest[:NUM_PARTS])
    halves, whole, both = np.split(rest[NUM_PARTS:], [2, 2 + num_runs])
    alone = worth(curve, whole, halves, own_variance=own, seed=seed)
    added = _added(worth(curve, both, halves, seed=seed), len(base))
    return Worth(replace(alone, n=num_synthetic), added, curve.points(sizes))


def _added(both: Measure, base: int) -> Measure:
    """The worth of base real images and the data set together, less the base."""
    assert both.value is not None
    low, high = ((None if bound is None else bound - base) for bound in (both.low, both.high))
    note = f"to {base:,} real images" + (f"; together {both.note}" if both.note else "")
    return Measure(both.value - base, base, low=low, high=high, note=note)


def _sizes(pool: int, num_sizes: int, smallest: int) -> list[int]:
    """Halves of halves of the pool, rising; at least three."""
    halves = [pool // 2**k for k in range(num_sizes)]
    kept = [n for n in halves if n >= smallest]
    return sorted(kept if len(kept) >= 3 else halves[:3])


def stratified_order(class_ids: Rows, rng: np.random.Generator) -> Rows:
    """A random order in which every leading part has the classes in the shares of the whole."""
    place = np.empty(len(class_ids))
    for class_id in np.unique(class_ids):
        rows = rng.permutation(np.flatnonzero(class_ids == class_id))
        place[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
    return np.argsort(place, kind="stable").astype(np.int64)


def dealt(rows: Rows, class_ids: Rows, num_parts: int) -> list[Rows]:
    """The rows in parts that differ by one image of a class at most, and by one image in all; each
    part keeps the order. class_ids: of all examples."""
    by_class = np.argsort(class_ids[rows], kind="stable")
    part = np.empty(len(rows), dtype=np.int64)
    part[by_class] = np.arange(len(rows)) % num_parts
    return [rows[part == k] for k in range(num_parts)]


def probe_fit(material: Material, test: Examples, *, seed: int) -> Fit:
    """The linear probe; the features of each image are taken once."""
    with one_thread_each():
        features = PatchFeatures(material.examples.images[: material.num_real], seed=seed)
        known = features.extract(material.examples.images)
        tested = (features.extract(test.images), test.class_ids)

    def fit(rows: Rows, sizes: list[int], stop: threading.Event) -> Margins:
        train = (known[rows], material.examples.class_ids[rows])
        return nested_margins(train, sizes, tested, num_classes=material.num_classes, stop=stop)

    return fit


def trainer_fit(
    trainer: Trainer, material: Material, test: Examples, *, num_steps: int, seed: int
) -> Fit:
    """Any trainer: one training for each size, each with a seed of its rows."""

    def fit(rows: Rows, sizes: list[int], stop: threading.Event) -> Margins:
        margins = []
        for size in sizes:
            own = np.random.SeedSequence([seed, int(rows[0]), int(rows[1])]).generate_state(1)
            task = Task(material.examples.take(rows[:size]), int(own[0]), num_steps)
            margins.append(margin(trainer.predict(task, test.images, stop), test.class_ids))
        return np.stack(margins)

    return fit
