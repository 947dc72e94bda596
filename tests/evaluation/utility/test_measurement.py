"""The verdict on toy pictures: what is known to help, to harm, to be told apart from neither."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from datagen.errors import InputError
from datagen.evaluation.results import Utility
from datagen.evaluation.utility import measure_utility
from datagen.evaluation.utility.network import SmallNetworkTrainer
from datagen.evaluation.utility.training import StoppedError, Task, run_all
from datagen.image_set import ImageSet
from tests.evaluation.utility.toys import EFFORT, NAMES, shuffled, toy_examples, toy_set

TRAIN = toy_set(240, seed=0, prefix="t")
HELD_OUT = toy_set(300, seed=1, prefix="h")


def utility(synthetic: ImageSet, *, workers: int = 1, **changes: object) -> Utility:
    effort = replace(EFFORT, **changes)  # type: ignore[arg-type]
    return measure_utility(synthetic, TRAIN, HELD_OUT, effort=effort, workers=workers)


@pytest.fixture(scope="module")
def with_real() -> Utility:
    return utility(toy_set(360, seed=2, prefix="s"), workers=2)


def test_more_real_images_do_no_harm_and_are_worth_their_number(with_real: Utility) -> None:
    assert with_real.verdict in ("helps", "no_difference", "inconclusive")
    worth = with_real.worth_real_labels
    assert worth.low is not None
    assert worth.low <= 360
    assert worth.high is None or worth.high >= 200
    assert worth.n == 360


def test_every_arm_has_every_metric_with_its_interval(with_real: Utility) -> None:
    names = {arm.name for arm in with_real.arms}
    assert {"synthetic only", "real only", "real + synthetic 1x", "real + synthetic 3x"} < names
    for arm in with_real.arms:
        assert set(arm.metrics) == {"accuracy", "auroc", "sensitivity", "ece"}
        for measure in arm.metrics.values():
            assert measure.value is not None
            assert measure.low is not None
            assert measure.low <= measure.value
        assert set(arm.metrics["accuracy"].per_class) == set(NAMES)


def test_figures_have_n_and_an_interval_or_a_reason(with_real: Utility) -> None:
    content = with_real.to_json()
    for name in ("gap", "worth_real_labels", "synthetic_only_gap"):
        assert "interval" in content[name]
        assert content[name]["n"] > 0
    assert set(content["class_gaps"]) == set(NAMES)
    assert "interval" in content["few_shot"]["10"]
    assert "withheld" in content["rarest_classes"]
    assert [point["num_real"] for point in content["learning_curve"]] == [30, 60, 120, 240]
    assert "Adding these images to 120 real ones" in with_real.sentence


def test_the_result_does_not_depend_on_the_number_of_workers() -> None:
    one, three = (
        utility(
            toy_set(60, seed=2, prefix="s"),
            workers=workers,
            few_shot=(),
            policies=("none",),
            num_steps=10,
        )
        for workers in (1, 3)
    )
    assert one.to_json() == three.to_json()


def test_shuffled_labels_are_worth_nothing_and_never_help() -> None:
    bad = shuffled(toy_set(360, seed=2, prefix="s"), seed=0)
    found = utility(bad, few_shot=(), num_seeds=3, policies=("none",))
    assert found.verdict in ("harms", "inconclusive")
    assert found.gap.value is not None
    assert found.gap.value < 0
    assert found.worth_real_labels.value is not None
    assert found.worth_real_labels.value < 60


def test_the_held_out_images_themselves_are_tested_on_others() -> None:
    found = utility(replace(HELD_OUT), few_shot=(), policies=("none",))
    assert "real training images are tested on instead" in found.comparison
    synthetic_only = next(arm for arm in found.arms if arm.name == "synthetic only")
    assert synthetic_only.metrics["accuracy"].n == 80


def test_a_classifier_that_never_learned_withholds_the_verdict() -> None:
    noise = shuffled(TRAIN, seed=3)
    found = measure_utility(
        toy_set(120, seed=2, prefix="s"),
        noise,
        HELD_OUT,
        effort=replace(EFFORT, few_shot=(), policies=("none",)),
    )
    assert found.verdict is None
    assert "never learned" in str(found.withheld)
    assert "below the floor of 0.400" in found.sentence
    assert found.worth_real_labels.withheld is not None


def test_a_baseline_gets_arms_of_its_own_and_patients_their_clusters() -> None:
    patients = tuple(f"p{i // 5}" for i in range(len(HELD_OUT)))
    found = measure_utility(
        toy_set(120, seed=2, prefix="s"),
        TRAIN,
        replace(HELD_OUT, groups=patients),
        baseline=toy_set(120, seed=5, prefix="b"),
        effort=replace(EFFORT, few_shot=(), policies=("none",)),
    )
    assert {"baseline only", "real + baseline 1x"} < {arm.name for arm in found.arms}
    assert "clustered by group" in found.comparison


def test_rare_classes_are_named() -> None:
    rows = np.flatnonzero((TRAIN.class_ids != 2) | (np.arange(len(TRAIN)) < 60))
    found = measure_utility(
        toy_set(120, seed=2, prefix="s"),
        TRAIN.take(rows),
        HELD_OUT,
        effort=replace(EFFORT, few_shot=(50,), policies=("none",)),
    )
    assert found.rarest is not None
    assert (found.rarest.note, found.rarest.n) == ("dot", 100)
    assert "expected more than 50" in str(found.few_shot[50].withheld)


def test_too_few_held_out_images_withhold_the_verdict() -> None:
    found = measure_utility(toy_set(60, seed=2), TRAIN, HELD_OUT.take(range(20)), effort=EFFORT)
    assert found.verdict is None
    assert "20 held-out images" in found.sentence


def test_other_classes_and_margins_out_of_range_are_refused() -> None:
    other = replace(toy_set(60, seed=2), class_names=("a", "b", "c"))
    with pytest.raises(InputError, match="data set"):
        measure_utility(other, TRAIN, HELD_OUT)
    with pytest.raises(InputError, match="margin"):
        measure_utility(toy_set(60, seed=2), TRAIN, HELD_OUT, margin=0.0)


def test_an_abort_ends_the_trainings() -> None:
    class AbortedError(Exception):
        pass

    def abort() -> None:
        raise AbortedError

    with pytest.raises(AbortedError):
        measure_utility(toy_set(60, seed=2), TRAIN, HELD_OUT, check_abort=abort, effort=EFFORT)


def test_the_first_error_stops_the_rest() -> None:
    def fail(stop: threading.Event) -> None:
        raise InputError("broken")

    def wait(stop: threading.Event) -> None:
        if stop.wait(30):
            raise StoppedError
        pytest.fail("nobody stopped it")

    with pytest.raises(InputError, match="broken"):
        run_all(
            [wait, fail],
            workers=2,
            what="x",
            on_progress=lambda text: None,
            check_abort=lambda: None,
        )


def test_the_worth_of_a_network_knows_the_luck_of_training() -> None:
    found = utility(
        toy_set(120, seed=2, prefix="s"),
        few_shot=(),
        policies=("none",),
        curve_steps=30,
        workers=2,
    )
    worth = found.worth_real_labels
    assert worth.n == 120
    assert worth.low is not None
    assert worth.low <= 120
    assert worth.high is None or worth.high >= 120


@pytest.mark.parametrize("policy", ["shift + flip", "shift + cutout", "crop + flip + brightness"])
def test_policies_repeat_by_the_seed(policy: str) -> None:
    trainer = SmallNetworkTrainer(3, width=4)
    task = Task(toy_examples(60, seed=0), 1, 5, policy, pretraining=toy_examples(30, seed=3))
    test = toy_examples(20, seed=1).images
    first, second = (trainer.predict(task, test, threading.Event()) for _ in range(2))
    plain = trainer.predict(replace(task, policy="none"), test, threading.Event())
    assert np.array_equal(first, second)
    assert not np.array_equal(first, plain)
