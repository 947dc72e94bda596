from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from datagen.evaluation.utility.scores import SPECIFICITY, Score, score
from datagen.evaluation.utility.statistics import Estimate, estimate, holm, judge, pooled_estimates

NUM_TEST, NUM_SEEDS = 200, 4


def simulated_gaps(
    rng: np.random.Generator, *, cluster_size: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paired accuracies per seed, their influence and clusters; the true gap is 0."""
    clusters = np.arange(NUM_TEST) // cluster_size
    hardness = rng.normal(size=NUM_TEST // cluster_size)[clusters]
    gaps = []
    for _ in range(NUM_SEEDS):
        shift = rng.normal(0, 0.1)
        one, other = (rng.normal(size=NUM_TEST) for _ in range(2))
        # Arms differ on each cluster by its own amount, of mean 0, and by the training's luck.
        gaps.append(0.3 * hardness + 0.3 * (one - other) + shift)
    images = np.array(gaps)
    mean = images.mean(0)
    return images.mean(1), mean - mean.mean(), clusters


@pytest.mark.parametrize("cluster_size", [1, 10])
def test_the_interval_covers_what_varies_between_seeds_and_patients(cluster_size: int) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        values, influence, clusters = simulated_gaps(rng, cluster_size=cluster_size)
        low, high = estimate(values, influence, clusters).interval()
        covered += low <= 0 <= high
    assert covered >= 0.93 * 400


def test_without_clusters_the_interval_of_patients_is_too_narrow() -> None:
    rng = np.random.default_rng(0)
    values, influence, clusters = simulated_gaps(rng, cluster_size=10)
    alone = estimate(values, influence, None)
    assert estimate(values, influence, clusters).error > alone.error


def test_verdicts_follow_the_interval_and_the_margin() -> None:
    def verdict(value: float, error: float) -> str:
        return judge(Estimate(value, error, 1000), 0.01)

    assert verdict(0.03, 0.005) == "helps"
    assert verdict(-0.03, 0.005) == "harms"
    assert verdict(0.0, 0.004) == "no_difference"
    assert verdict(0.0, 0.02) == "inconclusive"
    # Surely above 0 and surely below the margin.
    assert verdict(0.004, 0.001) == "no_difference"


def test_equal_arms_are_rarely_told_to_differ() -> None:
    rng = np.random.default_rng(1)
    verdicts = []
    for _ in range(300):
        values, influence, _ = simulated_gaps(rng)
        verdicts.append(judge(estimate(values, influence, None), 0.01))
    wrong = sum(v in ("helps", "harms") for v in verdicts)
    assert wrong <= 0.1 * 300


def test_holm_gives_the_known_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_pooled_classes_keep_their_own_test_variance() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 0.01, 3) for _ in range(5)]
    influences = [rng.normal(0, scale, 500) for scale in (1, 1, 1, 1, 4)]
    gaps = pooled_estimates(values, influences, None)
    assert gaps[4].error > 3 * gaps[0].error
    assert all(gap.freedom == 10 for gap in gaps)


def predictions(rng: np.random.Generator, num: int = 400) -> tuple[np.ndarray, np.ndarray]:
    class_ids = rng.integers(0, 3, num)
    logits = rng.normal(size=(num, 3))
    logits[np.arange(num), class_ids] += 1.2
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), class_ids


def test_auroc_is_that_of_scikit_learn() -> None:
    probabilities, class_ids = predictions(np.random.default_rng(0))
    expected = roc_auc_score(class_ids, probabilities.astype(np.float64), multi_class="ovr")
    assert score(probabilities, class_ids).figures["auroc"].value == pytest.approx(expected)


def test_sensitivity_is_read_at_the_specificity() -> None:
    probabilities, class_ids = predictions(np.random.default_rng(0))
    found = score(probabilities, class_ids).figures["sensitivity"].per_class
    assert found is not None
    negatives = np.sort(probabilities[class_ids != 0, 0])
    threshold = np.quantile(negatives, SPECIFICITY)
    assert found[0] == pytest.approx((probabilities[class_ids == 0, 0] > threshold).mean())


def test_confident_and_wrong_is_badly_calibrated() -> None:
    sure = np.tile(np.array([[0.9, 0.1]], np.float32), (100, 1))
    right = score(sure, np.array([0] * 90 + [1] * 10)).figures["ece"].value
    wrong = score(sure, np.array([0] * 40 + [1] * 60)).figures["ece"].value
    assert right == pytest.approx(0.0, abs=1e-6)
    assert wrong == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "auroc", "sensitivity", "ece"])
def test_influences_tell_the_spread_over_test_sets(metric: str) -> None:
    rng = np.random.default_rng(0)
    scores: list[Score] = [score(*predictions(rng)) for _ in range(200)]
    values = [each.figures[metric].value for each in scores]
    errors = [each.figures[metric].influence.std() / 400**0.5 for each in scores]
    # The error of calibration is a sum of absolute values: its influences overstate the spread.
    most = 1.5 if metric == "ece" else 1.25
    assert 0.8 <= np.mean(errors) / np.std(values) <= most


def test_a_class_that_the_test_set_lacks_has_no_figure() -> None:
    probabilities, class_ids = predictions(np.random.default_rng(0))
    found = score(probabilities, np.minimum(class_ids, 1))
    per_class = found.figures["auroc"].per_class
    assert per_class is not None
    assert np.isnan(per_class[2])
    assert np.isfinite(found.figures["auroc"].value)
