from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from datagen.filters.quality import QualityFilter, QualityOptions
from datagen.references.quality import MEASURES, measure_quality
from tests.tiny_reference import CLASS_NAMES, drawn, tiny_reference

RULE = QualityFilter()
FRESH = drawn(60, seed=13)
LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


def reasons(images: NDArray[np.uint8]) -> list[str | None]:
    judges = [RULE.judge(RULE.options(), CLASS_NAMES[c], tiny_reference()) for c in FRESH.class_ids]
    scores = RULE.score(images, [], None)
    return [judge.reject(score) for judge, score in zip(judges, scores, strict=True)]


def test_the_measures_are_those_of_their_papers() -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 31, 1), np.uint8)
    plain = image[..., 0].astype(float)
    laplacian = ndimage.convolve(plain, LAPLACIAN)[1:-1, 1:-1]
    noise = np.abs(ndimage.convolve(plain, IMMERKAER)[1:-1, 1:-1])
    expected = (
        laplacian.std() / 255,
        np.sqrt(np.pi / 2) * noise.sum() / (6 * 18 * 29) / 255,
        plain.mean() / 255,
        np.isin(plain, (0, 255)).mean(),
    )
    assert measure_quality(image[None])[0] == pytest.approx(expected, abs=6e-5)


def test_noise_is_measured_at_its_sigma() -> None:
    noise = np.random.default_rng(2).normal(128, 12, (1, 200, 200, 1)).round().astype(np.uint8)
    assert measure_quality(noise)[0, MEASURES.index("noise")] * 255 == pytest.approx(12, rel=0.03)


def test_real_images_pass() -> None:
    """The bounds are the extremes of only 50 images of each class here."""
    assert np.mean([reason is not None for reason in reasons(FRESH.images)]) <= 0.1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("blurred", "quality_sharpness"),
        ("noisy", "quality_sharpness"),
        ("dark", "quality_sharpness"),
        ("clipped", "quality_clipped"),
    ],
)
def test_damage_is_named(kind: str, reason: str) -> None:
    plain = FRESH.images.astype(float)
    noise = np.random.default_rng(3).normal(0, 60, plain.shape)
    changed = {
        "blurred": ndimage.gaussian_filter(plain, (0, 2.5, 2.5, 0)),
        "noisy": plain + noise,
        "dark": plain / 20,
        "clipped": np.where(plain < 60, 0, plain),
    }[kind]
    found = reasons(np.clip(changed, 0, 255).astype(np.uint8))
    assert np.mean([each is not None and each.startswith("quality_") for each in found]) >= 0.9
    assert reason in found


def test_given_bounds_stand_alone_and_need_no_reference() -> None:
    options = QualityOptions(max_noise=0.1)
    assert not RULE.needs_reference(options)
    assert RULE.needs_reference(QualityOptions())
    judge = RULE.judge(options, "any", None)
    assert judge.reject("0.0000 0.1000 0.9000 1.0000") is None
    assert judge.reject("0.0000 0.1001 0.9000 1.0000") == "quality_noise"
