"""The arms of the comparison: what each is trained on, and how the choices among them are made.

Everything is chosen on a validation part of the real training images; held-out images are only
tested on. Arms are paired: repeat r of each has the same real images, seed and number of steps.
Called by measurement.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.utility.augmentation import POLICIES
from datagen.evaluation.utility.learning import stratified_order
from datagen.evaluation.utility.scores import Score, score
from datagen.evaluation.utility.training import Examples, Task, Trainer

Rows = NDArray[np.int64]

SYNTHETIC_ONLY, REAL_ONLY = "synthetic only", "real only"
AUGMENTED = "real + tuned augmentation"
MIXES = {"real + synthetic 1x": 1, "real + synthetic 3x": 3}
PRETRAINED = "pretrained on synthetic, then real"
BASELINE_ONLY, BASELINE_MIX = "baseline only", "real + baseline 1x"

_VALIDATION_SHARE = 0.2
_MAX_VALIDATION = 2000


@dataclass(frozen=True)
class Effort:
    """How much is trained. num_steps: of each arm; few_steps: of each few-shot arm; curve_steps: of
    each point of the learning curve, 0 for a linear probe in place of the network."""

    num_seeds: int
    num_steps: int
    num_tuning_seeds: int
    policies: tuple[str, ...]
    max_real: int
    max_test: int
    few_shot: tuple[int, ...]
    num_subsets: int
    few_steps: int
    curve_steps: int
    max_pool: int
    num_sizes: int
    num_repeats: int
    width: int = 16


DEFAULT = Effort(
    num_seeds=5,
    num_steps=800,
    num_tuning_seeds=2,
    policies=tuple(POLICIES),
    max_real=10_000,
    max_test=10_000,
    few_shot=(10, 50, 200),
    num_subsets=5,
    few_steps=300,
    curve_steps=500,
    max_pool=20_000,
    num_sizes=6,
    num_repeats=5,
    width=24,
)
QUICK = Effort(
    num_seeds=3,
    num_steps=250,
    num_tuning_seeds=1,
    policies=("none", "shift", "shift + flip"),
    max_real=2_000,
    max_test=4_000,
    few_shot=(50,),
    num_subsets=3,
    few_steps=120,
    curve_steps=150,
    max_pool=5_000,
    num_sizes=4,
    num_repeats=3,
)

# Trains all tasks and scores each on the examples beside it, in order.
Scorer = Callable[[str, Sequence[tuple[Task, Examples]]], list[Score]]


@dataclass(frozen=True)
class Sources:
    """What there is to train on. baseline: other data to compare with, or None."""

    real: Examples
    synthetic: Examples
    baseline: Examples | None

    def draw(self, num_real: int, seed: int) -> Draw:
        """One repeat: num_real real images, the others in a random order."""
        rng = np.random.default_rng([seed, 2])

        def mixed(examples: Examples) -> Examples:
            return examples.take(stratified_order(examples.class_ids, rng))

        real = mixed(self.real)
        spare = real.take(np.arange(num_real, len(real)))
        baseline = None if self.baseline is None else mixed(self.baseline)
        return Draw(leading(real, num_real), spare, mixed(self.synthetic), baseline)


@dataclass(frozen=True)
class Draw:
    """What one repeat trains on, each in a random order. spare: the real images that are not in
    `real`."""

    real: Examples
    spare: Examples
    synthetic: Examples
    baseline: Examples | None


@dataclass(frozen=True)
class Choice:
    """policy: the augmentation that did best for real images alone. mix: the name of the arm that
    did best with synthetic images and that policy."""

    policy: str
    mix: str


def clearly_best(scores: Mapping[str, Sequence[Score]]) -> str:
    """The most accurate, if it beats the first by more than a standard error; else the first."""
    names = list(scores)
    if len(names) == 1:
        return names[0]
    correct = {name: np.mean([s.correct for s in each], axis=0) for name, each in scores.items()}
    best = max(names, key=lambda name: float(correct[name].mean()))
    gain = correct[best] - correct[names[0]]
    return best if gain.mean() > gain.std() / len(gain) ** 0.5 else names[0]


def leading(examples: Examples, num: int) -> Examples:
    return examples.take(np.arange(min(num, len(examples))))


def mix_sizes(num_real: int, num_synthetic: int) -> dict[str, int]:
    """Arm -> synthetic images; one that would only repeat another is left out."""
    sizes = {name: min(times * num_real, num_synthetic) for name, times in MIXES.items()}
    first, second = MIXES
    if sizes[second] == sizes[first]:
        del sizes[second]
    return sizes


def choose(
    sources: Sources, effort: Effort, scorer: Scorer, *, num_real: int, seed: int, tunes: bool
) -> Choice:
    """tunes: the trainer runs policies; otherwise the policy is `none`."""
    drawn = sources.draw(num_real, seed)
    rest, validation = drawn.real, drawn.spare
    if len(validation) < _VALIDATION_SHARE * num_real:
        order = stratified_order(rest.class_ids, np.random.default_rng([seed, 3]))
        cut = max(1, round(_VALIDATION_SHARE * len(order)))
        validation, rest = rest.take(order[:cut]), rest.take(order[cut:])
    validation = leading(validation, _MAX_VALIDATION)
    seeds = [seed + k for k in range(effort.num_tuning_seeds)]

    def best(what: str, arms: Mapping[str, Callable[[int], Task]]) -> str:
        work = [(make(s), validation) for make in arms.values() for s in seeds]
        scores = scorer(what, work) if len(arms) > 1 else []
        return clearly_best(
            {name: scores[i * len(seeds) : (i + 1) * len(seeds)] for i, name in enumerate(arms)}
        )

    def alone(policy: str, s: int) -> Task:
        return Task(rest, s, effort.num_steps, policy)

    policies = effort.policies if tunes else ("none",)
    policy = best("tuning the augmentation", {p: partial(alone, p) for p in policies})

    def mixed(num: int, s: int) -> Task:
        return Task(rest + leading(drawn.synthetic, num), s, effort.num_steps, policy)

    sizes = mix_sizes(len(rest), len(drawn.synthetic))
    mix = best("choosing the mix", {name: partial(mixed, num) for name, num in sizes.items()})
    return Choice(policy, mix)


def arm_tasks(
    sources: Sources, choice: Choice, effort: Effort, *, num_real: int, seed: int, tunes: bool
) -> dict[str, Task]:
    """One repeat of every arm; seed: of the repeat."""
    drawn = sources.draw(num_real, seed)
    real, synthetic, baseline = drawn.real, drawn.synthetic, drawn.baseline

    def task(examples: Examples, policy: str = "none") -> Task:
        return Task(examples, seed, effort.num_steps, policy)

    tasks = {
        SYNTHETIC_ONLY: task(leading(synthetic, max(MIXES.values()) * num_real)),
        REAL_ONLY: task(real),
    }
    if choice.policy != "none":
        tasks[AUGMENTED] = task(real, choice.policy)
    for name, num in mix_sizes(num_real, len(synthetic)).items():
        tasks[name] = task(real + leading(synthetic, num), choice.policy)
    if tunes:
        tasks[PRETRAINED] = Task(
            real, seed, effort.num_steps, choice.policy,
            pretraining=leading(synthetic, max(MIXES.values()) * num_real),
        )  # fmt: skip
    if baseline is not None:
        tasks[BASELINE_ONLY] = task(leading(baseline, max(MIXES.values()) * num_real))
        tasks[BASELINE_MIX] = task(real + leading(baseline, num_real), choice.policy)
    return tasks


def reference_arm(choice: Choice) -> str:
    """The best without synthetic images."""
    return AUGMENTED if choice.policy != "none" else REAL_ONLY


def train_and_score(trainer: Trainer, task: Task, test: Examples, stop: threading.Event) -> Score:
    return score(trainer.predict(task, test.images, stop), test.class_ids)
