from __future__ import annotations

import numpy as np
import pytest
import torch

from datagen.features import SmallClassifier, accuracy, embed, kernel_distance, train_classifier
from tests.training.tiny_data import tiny_images


def test_kernel_distance_equals_the_double_sum() -> None:
    """Binkowski et al. 2018, equation 4: every pair by hand."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(5, 4)) + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 4 + 1) ** 3)

    within_a = [kernel(a[i], a[j]) for i in range(6) for j in range(6) if i != j]
    within_b = [kernel(b[i], b[j]) for i in range(5) for j in range(5) if i != j]
    between = [kernel(x, y) for x in a for y in b]
    expected = np.mean(within_a) + np.mean(within_b) - 2 * np.mean(between)
    assert kernel_distance(a, b) == pytest.approx(float(expected), rel=1e-12)


def test_kernel_distance_of_one_distribution_is_zero_on_average() -> None:
    rng = np.random.default_rng(1)
    distances = [
        kernel_distance(rng.normal(size=(40, 8)), rng.normal(size=(60, 8))) for _ in range(300)
    ]
    assert abs(np.mean(distances)) < 4 * np.std(distances) / np.sqrt(300)


def test_kernel_distance_grows_with_the_difference() -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(200, 8))
    shifted = [kernel_distance(a, rng.normal(size=(200, 8)) + shift) for shift in (0, 0.5, 1)]
    assert shifted == sorted(shifted)


@pytest.fixture(scope="module")
def classifier() -> SmallClassifier:
    torch.set_num_threads(1)
    images, labels = tiny_images(384)
    return train_classifier(
        images[..., None], labels.astype(np.int64), num_classes=3, num_epochs=8, seed=0
    )


def test_the_classifier_learns(classifier: SmallClassifier) -> None:
    images, labels = tiny_images(90, seed=1)
    assert accuracy(classifier, images[..., None], labels.astype(np.int64)) > 0.95


def test_training_a_classifier_repeats_and_leaves_random_state_alone() -> None:
    images, labels = tiny_images(30)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    networks = [
        train_classifier(
            images[..., None], labels.astype(np.int64), num_classes=3, num_epochs=2, seed=seed
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    features = [embed(network, images[..., None]) for network in networks]
    assert np.array_equal(features[0], features[1])
    assert not np.array_equal(features[0], features[2])


def test_features_do_not_depend_on_how_many_are_asked_for(classifier: SmallClassifier) -> None:
    images, _ = tiny_images(700)
    together = embed(classifier, images[..., None])
    assert together.shape == (700, 128)
    assert together.dtype == np.float64
    assert np.allclose(together[600:], embed(classifier, images[600:, ..., None]), atol=1e-5)
