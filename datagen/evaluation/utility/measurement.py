"""The utility of a data set: every arm trained, compared and put into words.

Called by evaluate.py. docs/utility.md states the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.evaluation.measure import Measure
from datagen.evaluation.results import Utility
from datagen.evaluation.utility import arms, verdict
from datagen.evaluation.utility.arms import DEFAULT, QUICK, Effort, Sources
from datagen.evaluation.utility.few_shot import few_shot_gap, paired_gap
from datagen.evaluation.utility.learning import (
    Material,
    Run,
    Worth,
    measure_worth,
    probe_fit,
    stratified_order,
    trainer_fit,
)
from datagen.evaluation.utility.network import SmallNetworkTrainer
from datagen.evaluation.utility.scores import Score
from datagen.evaluation.utility.statistics import judge
from datagen.evaluation.utility.training import Examples, Task, Trainer, run_all
from datagen.faults import plural
from datagen.image_set import ImageSet

MARGIN = 0.01
_MAX_SIDE_PX = 48
_MAX_WORTH = 30_000
_MIN_TEST, _MIN_REAL_PER_CLASS = 50, 5
# Of the real training images, where the held-out ones are the data set itself.
_TEST_SHARE = 1 / 3
_NUM_RUNS = 3


@dataclass(frozen=True)
class _Parts:
    """What is trained on and tested on, of equal size and without an image in common."""

    sources: Sources
    test: Examples
    clusters: NDArray[np.int64] | None
    notes: tuple[str, ...]


def measure_utility(
    synthetic: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    *,
    baseline: ImageSet | None = None,
    trainer: Trainer | None = None,
    quick: bool = False,
    margin: float = MARGIN,
    seed: int = 0,
    workers: int = 1,
    effort: Effort | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    check_abort: Callable[[], None] = lambda: None,
) -> Utility:
    """All sets have the same classes in the same order, and images of one shape. trainer: the
    user's own; by default a small CNN. margin: of the equivalence test, in accuracy. effort: in
    place of the default or quick one. The result depends on the seed, and not on workers.

    Raises InputError if the sets do not fit, or what the trainer raises.
    """
    _check_alike(synthetic, train, held_out, baseline, margin=margin)
    effort = effort or (QUICK if quick else DEFAULT)
    if trainer is not None:
        effort = replace(
            effort,
            num_seeds=3,
            num_tuning_seeds=1,
            few_shot=(),
            curve_steps=1,
            num_sizes=3,
            num_repeats=3,
        )
    parts = _parts(synthetic, train, held_out, baseline, effort, seed=seed)
    lacking = _too_few(parts)
    if lacking:
        return _withheld(lacking, margin=margin, trainer=trainer)
    used: Trainer = trainer or SmallNetworkTrainer(train.num_classes, width=effort.width)
    comparison = _Comparison(
        parts, train.class_names, used, effort, margin, seed, workers, on_progress, check_abort
    )
    return comparison.result()


@dataclass(frozen=True)
class _Comparison:
    """One evaluation: its inputs and how it is run."""

    parts: _Parts
    class_names: tuple[str, ...]
    trainer: Trainer
    effort: Effort
    margin: float
    seed: int
    workers: int
    on_progress: Callable[[str], None]
    check_abort: Callable[[], None]

    def result(self) -> Utility:
        sources, tunes = self.parts.sources, self.trainer.runs_policies
        num_real = min(self.effort.max_real, len(sources.real))
        choice = arms.choose(
            sources, self.effort, self.scores, num_real=num_real, seed=self.seed, tunes=tunes
        )
        repeats = [
            arms.arm_tasks(
                sources, choice, self.effort, num_real=num_real, seed=self.seed + r, tunes=tunes
            )
            for r in range(self.effort.num_seeds)
        ]
        names = list(repeats[0])
        work = [(tasks[name], self.parts.test) for name in names for tasks in repeats]
        flat = self.scores("training the arms", work)
        num = len(repeats)
        scores = {name: flat[i * num : (i + 1) * num] for i, name in enumerate(names)}
        worth = self.worth()
        few_shot = {
            n: few_shot_gap(
                sources, self.parts.test, self.parts.clusters, self.effort, self.scores,
                per_class=n, seed=self.seed,
            )
            for n in self.effort.few_shot
        }  # fmt: skip
        utility = self.judged(scores, choice, num_real=num_real, worth=worth)
        sizes = {name: _num_images(repeats[0][name]) for name in names}
        results = tuple(
            verdict.arm_result(
                name, sizes[name], scores[name], self.class_names, self.parts.clusters
            )
            for name in names
        )
        return replace(utility, arms=results, few_shot=few_shot)

    def judged(
        self,
        scores: dict[str, list[Score]],
        choice: arms.Choice,
        *,
        num_real: int,
        worth: Worth,
    ) -> Utility:
        """The verdict, and every gap."""
        test, clusters = self.parts.test, self.parts.clusters
        reference = arms.reference_arm(choice)
        mixed, without = scores[choice.mix], scores[reference]
        estimate = paired_gap(mixed, without, clusters)
        gap = estimate.measure(len(test))
        only = paired_gap(scores[arms.SYNTHETIC_ONLY], scores[arms.REAL_ONLY], clusters)
        groups = {name: [c] for c, name in enumerate(self.class_names)}
        class_gaps, class_verdicts = verdict.class_results(
            verdict.class_estimates(mixed, without, test.class_ids, groups, clusters), self.margin
        )
        reached = float(np.mean([each.figures["accuracy"].value for each in without]))
        floor = verdict.learning_floor(test.class_ids)
        found = judge(estimate, self.margin)
        text = verdict.sentence(gap, found, class_verdicts, num_real=num_real, margin=self.margin)
        withheld = None
        if reached < floor:
            withheld = text = (
                f"The classifier never learned: its accuracy on held-out real images, trained on "
                f"{num_real:,} real ones, is {reached:.3f}, below the floor of {floor:.3f}"
            )
        return Utility(
            verdict=None if withheld else found,
            withheld=withheld,
            gap=gap,
            worth_real_labels=Measure.absent(withheld) if withheld else worth.alone,
            margin=self.margin,
            sentence=text,
            comparison=self._comparison(choice, reference),
            class_gaps=class_gaps,
            class_verdicts={} if withheld else class_verdicts,
            rarest=self._rarest(mixed, without),
            learning_curve=worth.curve,
            trainer=self.trainer.name,
            synthetic_only_gap=only.measure(len(test)),
            added_worth=None if withheld else worth.added,
        )

    def _comparison(self, choice: arms.Choice, reference: str) -> str:
        steps = (
            f", {self.effort.num_steps} steps of gradient in every arm"
            if self.trainer.runs_policies
            else ""
        )
        text = (
            f"{choice.mix} against {reference}, both with augmentation {choice.policy!r}, chosen "
            f"on a part of the real training images; {self.effort.num_seeds} paired seeds{steps}"
        )
        return "; ".join((text, *self.parts.notes))

    def _rarest(self, mixed: Sequence[Score], without: Sequence[Score]) -> Measure:
        rare = verdict.rare_classes(self.parts.sources.real.class_ids, len(self.class_names))
        gaps = verdict.class_estimates(
            mixed, without, self.parts.test.class_ids, {"rare": rare}, self.parts.clusters
        )
        if not gaps:
            return Measure.absent("no class has less than half of the median number of real images")
        gap, n = gaps["rare"]
        return gap.measure(n, note=", ".join(self.class_names[c] for c in rare))

    def worth(self) -> Worth:
        sources, effort, test = self.parts.sources, self.effort, self.parts.test
        rng = np.random.default_rng([self.seed, 7])
        pool = sources.real.take(stratified_order(sources.real.class_ids, rng)[: effort.max_pool])
        synthetic = sources.synthetic.take(
            stratified_order(sources.synthetic.class_ids, rng)[:_MAX_WORTH]
        )
        material = Material(pool + synthetic, len(pool), len(self.class_names))
        if effort.curve_steps == 0:
            fit = probe_fit(material, test, seed=self.seed)
        else:
            fit = trainer_fit(
                self.trainer, material, test, num_steps=effort.curve_steps, seed=self.seed
            )
        worth = measure_worth(
            material,
            fit,
            self._run,
            num_sizes=effort.num_sizes,
            num_repeats=effort.num_repeats,
            num_runs=1 if effort.curve_steps == 0 else _NUM_RUNS,
            seed=self.seed,
        )
        if len(synthetic) == len(sources.synthetic):
            return worth
        cut = f"of {len(synthetic):,} of the {len(sources.synthetic):,} images"
        note = "; ".join(filter(None, (cut, worth.alone.note)))
        return replace(worth, alone=replace(worth.alone, note=note))

    @property
    def _run(self) -> Run:
        return partial(
            run_all,
            workers=self.workers,
            what="learning curve",
            on_progress=self.on_progress,
            check_abort=self.check_abort,
        )

    def scores(self, what: str, work: Sequence[tuple[Task, Examples]]) -> list[Score]:
        return run_all(
            [partial(arms.train_and_score, self.trainer, task, test) for task, test in work],
            workers=self.workers,
            what=what,
            on_progress=self.on_progress,
            check_abort=self.check_abort,
        )


def _num_images(task: Task) -> int:
    return len(task.examples) + (len(task.pretraining) if task.pretraining else 0)


def _check_alike(
    synthetic: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    baseline: ImageSet | None,
    *,
    margin: float,
) -> None:
    if not 0 < margin < 1:
        raise InputError(f"margin: {margin}; expected a difference in accuracy between 0 and 1")
    named = {"data set": synthetic, "held-out": held_out, "baseline": baseline}
    for name, each in named.items():
        if each is None:
            continue
        if each.class_names != train.class_names or each.image_shape != train.image_shape:
            raise InputError(
                f"{name}: {len(each.class_names)} classes and images of {each.image_shape}; "
                f"expected the {len(train.class_names)} classes and {train.image_shape} of the "
                "reference: map and resize them first"
            )


def _parts(
    synthetic: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    baseline: ImageSet | None,
    effort: Effort,
    *,
    seed: int,
) -> _Parts:
    """Tests on no image that an arm trains on, capped and reduced."""
    notes: list[str] = []
    trained_on = set(synthetic.pixel_digests()) | set(train.pixel_digests())
    if baseline is not None:
        trained_on |= set(baseline.pixel_digests())
    fresh = [row for row, d in enumerate(held_out.pixel_digests()) if d not in trained_on]
    if len(fresh) < len(held_out):
        told = plural(len(held_out) - len(fresh), "held-out image is", "held-out images are")
        notes.append(f"{told} trained on: not tested on")
    test = held_out.take(fresh)
    rng = np.random.default_rng([seed, 8])
    if len(test) < min(_MIN_TEST, len(held_out)):
        train, test = _split(train, rng)
        notes.append(f"{len(test)} of the real training images are tested on instead")
    if len(test) > effort.max_test:
        test = test.take(np.sort(stratified_order(test.class_ids, rng)[: effort.max_test]))
        notes.append(f"tested on {len(test):,} held-out images")
    if max(train.image_shape[:2]) > _MAX_SIDE_PX:
        notes.append(f"images are reduced to {_MAX_SIDE_PX} px for the classifiers")
    clusters = None
    if test.groups is not None:
        clusters = np.unique(np.array(test.groups), return_inverse=True)[1].astype(np.int64)
        notes.append("intervals are clustered by group")
    sources = Sources(
        _examples(train), _examples(synthetic), None if baseline is None else _examples(baseline)
    )
    return _Parts(sources, _examples(test), clusters, tuple(notes))


def _split(train: ImageSet, rng: np.random.Generator) -> tuple[ImageSet, ImageSet]:
    """(train, test), without a patient in both."""
    groups = np.array(train.groups if train.groups is not None else train.names)
    names = rng.permutation(np.unique(groups))
    tested = np.isin(groups, names[: round(_TEST_SHARE * len(names))])
    return train.take(np.flatnonzero(~tested)), train.take(np.flatnonzero(tested))


def _examples(images: ImageSet) -> Examples:
    """A copy that may be written to, reduced to _MAX_SIDE_PX."""
    height, width, channels = images.image_shape
    longest = max(height, width)
    if longest <= _MAX_SIDE_PX:
        return Examples(images.images.copy(), images.class_ids.copy())
    import cv2

    size = tuple(max(8, round(side * _MAX_SIDE_PX / longest)) for side in (width, height))
    reduced = np.stack(
        [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images.images]
    )
    return Examples(
        reduced.reshape(len(images), size[1], size[0], channels), images.class_ids.copy()
    )


def _too_few(parts: _Parts) -> str | None:
    real = np.bincount(parts.sources.real.class_ids)
    least = int(real[real > 0].min()) if len(real) else 0
    if len(parts.test) < _MIN_TEST or len(np.unique(parts.test.class_ids)) < 2:
        found = plural(len(parts.test), "held-out image")
        return f"{found}; expected at least {_MIN_TEST} of two classes"
    if least < _MIN_REAL_PER_CLASS:
        return f"a class has {plural(least, 'real image')}; expected at least {_MIN_REAL_PER_CLASS}"
    if len(parts.sources.synthetic) < 2:
        return (
            f"{plural(len(parts.sources.synthetic), 'image')} in the data set; expected at least 2"
        )
    return None


def _withheld(reason: str, *, margin: float, trainer: Trainer | None) -> Utility:
    absent = Measure.absent(reason)
    return Utility(
        verdict=None,
        withheld=reason,
        gap=absent,
        worth_real_labels=absent,
        margin=margin,
        sentence=f"The utility cannot be told: {reason}",
        trainer="small CNN" if trainer is None else trainer.name,
    )
