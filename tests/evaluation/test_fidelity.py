from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.evaluation.feature_metrics import frechet_distance
from datagen.evaluation.fidelity import measure_fidelity, min_frechet_images
from datagen.evaluation.results import Fidelity
from datagen.features import Classifier, FeatureCache, fit_classifier
from datagen.image_set import ImageSet
from tests.training.tiny_data import CLASS_NAMES, tiny_images

LEFT_OUT = "left out"


class Corners:
    """Means of four corners: cheap features that see more than a mean."""

    name, dim, digest = "corners", 4, "0" * 64

    def extract(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        half = images.shape[1] // 2
        parts = (images[:, y : y + half, x : x + half] for y in (0, half) for x in (0, half))
        return np.stack([part.mean(axis=(1, 2, 3)) for part in parts], axis=1).astype(np.float32)


def tiny_set(num: int, *, seed: int, darker: int = 0) -> ImageSet:
    """Classes at random: what is exactly balanced is not a random sample, and KID would show it."""
    images, labels = tiny_images(4 * num, seed=seed)
    rows = np.random.default_rng(seed).permutation(4 * num)[:num]
    images, labels = images[rows], labels[rows]
    images = np.maximum(images.astype(int) - darker, 0).astype(np.uint8)
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    names = tuple(f"{seed}-{i}.png" for i in range(num))
    return ImageSet(images[..., None], labels.astype(np.int64), CLASS_NAMES, names)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.set_num_threads(1)
    return fit_classifier(tiny_set(300, seed=9), seed=0, num_epochs=3)


REAL = tiny_set(1800, seed=0)
HELD_OUT = tiny_set(900, seed=1)


def measured(
    synthetic: ImageSet, *, real: ImageSet = REAL, held_out: ImageSet = HELD_OUT
) -> Fidelity:
    return measure_fidelity(
        synthetic,
        real,
        held_out,
        extractor=Corners(),
        classifier=None,
        seed=0,
        quick=True,
        lpips=LEFT_OUT,
    )


def test_real_images_posing_as_synthetic_stand_at_the_floor() -> None:
    found = measured(tiny_set(900, seed=2))
    assert found.fid.value is not None
    assert found.fid.floor is not None
    assert found.fid.value < 3 * found.fid.floor + 1
    assert found.kid.low is not None
    assert found.kid.high is not None
    assert found.kid.low < 0 < found.kid.high
    for name in ("precision", "recall", "coverage"):
        measure = getattr(found, name)
        assert measure.value == pytest.approx(measure.floor, abs=0.06), name
    assert {measure.n for measure in (found.fid, found.kid, found.coverage)} == {900}
    assert found.fid.per_class["left"].withheld is not None
    assert 250 < found.kid.per_class["left"].n < 350


def test_darker_images_stand_far_from_the_floor() -> None:
    found = measured(tiny_set(900, seed=2, darker=40))
    assert found.fid.low is not None
    assert found.fid.floor is not None
    assert found.fid.low > 10 * found.fid.floor
    assert found.kid.low is not None
    assert found.kid.floor is not None
    assert found.kid.low > 10 * abs(found.kid.floor)
    assert found.coverage.value is not None
    assert found.coverage.floor is not None
    assert found.coverage.value < 0.6 < found.coverage.floor
    assert found.kid.per_class["left"].value > 10 * abs(found.kid.per_class["left"].floor or 0)


def test_fid_is_that_of_equally_many_images() -> None:
    """With all 1,800 it would be another, the estimate's bias being of order 1 / n."""
    synthetic = tiny_set(1800, seed=2)
    found = measured(synthetic)
    rng = np.random.default_rng(0).permutation(1800)[:900]
    kept = HELD_OUT.take(np.random.default_rng(0).permutation(900))
    chosen = [Corners().extract(s.images).astype(np.float64) for s in (synthetic.take(rng), kept)]
    assert found.fid.value == pytest.approx(frechet_distance(*chosen).value, rel=1e-6)
    assert found.fid.n == 900


def test_a_class_takes_as_many_images_as_every_set_has() -> None:
    """Also where the whole sets are cut to half: 200 dark images of 1,800, not the 100 left."""
    synthetic = tiny_set(2700, seed=2)
    rows = [synthetic.rows_of(class_id)[:most] for class_id, most in enumerate((800, 800, 200))]
    found = measured(synthetic.take(np.concatenate(rows)))
    assert found.kid.n == 900
    assert found.kid.per_class["dark"].n == 200


def test_few_held_out_images_make_it_compare_halves_of_the_real_ones() -> None:
    found = measured(tiny_set(900, seed=2), held_out=HELD_OUT.take(range(60)))
    assert "one half of the real training images, as only 60 are held out" in found.fid.note
    assert found.fid.n == 900
    assert found.kid.low is not None
    assert found.kid.low < 0


def test_patients_do_not_stand_in_both_halves() -> None:
    """Each patient's ten images are one image: split apart, the floor would be near zero."""
    base = REAL.take(np.repeat(np.arange(60), 10))
    grouped = replace(
        base,
        names=tuple(f"{i}.png" for i in range(600)),
        groups=tuple(f"patient {i // 10}" for i in range(600)),
    )
    none_held_out = HELD_OUT.take([])
    synthetic = tiny_set(600, seed=3)
    together = measured(synthetic, real=grouped, held_out=none_held_out)
    apart = measured(synthetic, real=replace(grouped, groups=None), held_out=none_held_out)
    assert together.coverage.floor is not None
    assert apart.coverage.floor is not None
    assert together.coverage.floor < apart.coverage.floor - 0.3


def test_too_few_images_withhold_each_measure_with_the_number_needed() -> None:
    found = measured(tiny_set(45, seed=2))
    assert found.fid.withheld == (
        "needs 500 images on each side for 4 features, synthetic and twice real; there are 45"
    )
    assert found.kid.value is not None
    assert "needs 50 images" in str(found.precision.withheld)
    assert "no classifier" in str(found.inception_score.withheld)
    nothing = measured(tiny_set(0, seed=2))
    assert all(getattr(nothing, name).value is None for name in Fidelity.NAMES)


def test_fid_needs_more_images_than_features() -> None:
    assert [min_frechet_images(dim) for dim in (4, 128, 1280, 2048)] == [500, 500, 2560, 4096]


def test_a_class_that_is_missing_is_withheld_and_the_rest_is_not() -> None:
    synthetic = tiny_set(900, seed=2)
    found = measured(synthetic.take(np.flatnonzero(synthetic.class_ids != 2)))
    assert found.kid.per_class["dark"].withheld is not None
    assert found.kid.per_class["left"].value is not None
    assert re.search(r"3\d% of the images would have to change class", found.kid.note)


def test_the_score_of_the_reference_classifier_knows_one_class_from_three(
    classifier: Classifier,
) -> None:
    synthetic = tiny_set(300, seed=2)
    scores = []
    for images in (synthetic, synthetic.take(synthetic.rows_of(0))):
        found = measure_fidelity(
            images,
            REAL,
            HELD_OUT,
            extractor=Corners(),
            classifier=classifier,
            seed=0,
            quick=True,
            lpips=LEFT_OUT,
        )
        scores.append(found.inception_score)
    assert scores[0].value == pytest.approx(scores[0].floor, rel=0.1)
    assert scores[0].value > 2
    assert scores[1].value == pytest.approx(1, abs=0.1)


def test_the_same_seed_gives_the_same_figures_and_the_cache_changes_none(
    tmp_path: Path,
) -> None:
    found = [
        measure_fidelity(
            tiny_set(100, seed=2),
            REAL.take(range(200)),
            HELD_OUT.take(range(100)),
            extractor=Corners(),
            classifier=None,
            seed=0,
            quick=True,
            lpips=LEFT_OUT,
            cache=cache,
        )
        for cache in (None, FeatureCache(tmp_path), FeatureCache(tmp_path))
    ]
    assert found[0] == found[1] == found[2]


def test_features_that_are_no_number_end_it_with_extractor_and_image() -> None:
    class Broken(Corners):
        name = "broken"

        def extract(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            features = super().extract(images)
            features[images.mean(axis=(1, 2, 3)) < 40] = np.nan
            return features

    with pytest.raises(InputError, match=r"features broken: image '2-\d+.png'"):
        measure_fidelity(
            tiny_set(60, seed=2),
            REAL,
            HELD_OUT,
            extractor=Broken(),
            classifier=None,
            seed=0,
            quick=True,
            lpips=LEFT_OUT,
        )


def test_an_abort_is_heard() -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        measure_fidelity(
            tiny_set(60, seed=2),
            REAL,
            HELD_OUT,
            extractor=Corners(),
            classifier=None,
            seed=0,
            quick=True,
            lpips=LEFT_OUT,
            check_abort=stop,
        )
