from __future__ import annotations

import numpy as np
import pytest
import torch

from datagen.errors import TrainingError
from datagen.training.dataset import RealImages
from datagen.training.privacy.features import BoundedFeatures
from datagen.training.privacy.matching import mean_distance
from datagen.training.privacy.release import Release, make_release, release_steps
from tests.training.tiny_data import tiny_images


@pytest.fixture(scope="module")
def features() -> BoundedFeatures:
    return BoundedFeatures(channels=1, image_size=(8, 8))


def real_images(num: int) -> RealImages:
    images, labels = tiny_images(num)
    return RealImages(images[..., None], labels.astype(np.int64))


def test_no_image_contributes_more_than_1(features: BoundedFeatures) -> None:
    images = torch.cat([torch.rand(50, 1, 8, 8), torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)])
    wavelets = features.wavelets(images)
    assert float(wavelets.norm(dim=1).max()) <= 1 + 1e-5
    assert float(features.embed(images, wavelets).norm(dim=1).max()) <= 1 + 1e-5


def test_features_of_colour_images_have_a_bound_too() -> None:
    features = BoundedFeatures(channels=3, image_size=(12, 8))
    images = torch.rand(5, 3, 12, 8)
    embedded = features.embed(images, features.wavelets(images))
    assert embedded.shape == (5, features.dim)
    assert float(embedded.norm(dim=1).max()) <= 1 + 1e-5


def test_large_images_are_refused_with_the_way_out() -> None:
    with pytest.raises(TrainingError, match="resize the images, or use edm"):
        BoundedFeatures(channels=1, image_size=(64, 64))


def test_with_little_noise_the_release_is_the_truth(features: BoundedFeatures) -> None:
    real = real_images(300)
    release, _ = make_release(
        real, features, num_classes=3, scale=1e-4, rate=20.0, num_canaries=100
    )
    images = torch.from_numpy(real.images).permute(0, 3, 1, 2).float() / 255
    wavelets = features.wavelets(images)
    embedded = features.embed(images, wavelets)
    for class_id in range(3):
        mean = embedded[real.class_ids == class_id, :-1].mean(0)
        assert torch.allclose(release.means[class_id], mean, atol=1e-3)
    assert (release.logits(wavelets).argmax(1).numpy() == real.class_ids).mean() > 0.95


def test_two_releases_of_the_same_images_differ_by_their_noise(features: BoundedFeatures) -> None:
    """A recipe's seed has no say: whoever knows it must not be able to subtract the noise."""
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        release, _ = make_release(
            real_images(60), features, num_classes=3, scale=0.1, rate=1.0, num_canaries=100
        )
        found.append(release)
    noise = release_steps(0.1)[0].noise_multiplier
    spread = float((found[0].means - found[1].means).std())
    assert spread == pytest.approx(noise * 2**0.5 / 20, rel=0.5)  # 20 images a class
    assert not torch.allclose(found[0].classifier, found[1].classifier)


def test_the_distance_is_unbiased() -> None:
    """Zero in the mean between samples of one distribution, whatever their number."""
    release = Release(torch.zeros(1, 6), torch.zeros(1, 1))
    rng = torch.Generator().manual_seed(0)
    found = [
        float(mean_distance(torch.randn(1, 3, 6, generator=rng), release)) for _ in range(4000)
    ]
    assert abs(np.mean(found)) < 4 * np.std(found) / 4000**0.5
