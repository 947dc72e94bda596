"""The detector on small invented pictures; its figures on real ones are of benchmarks/."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.errors import InputError, ModelError
from datagen.references.copy_detector import BATCH, CopyDetector

Images = NDArray[np.uint8]


def pictures(num: int, *, seed: int, size: int = 28, channels: int = 1) -> Images:
    """Smooth random pictures, no two alike."""
    import cv2

    rng = np.random.default_rng(seed)
    grids = rng.uniform(0, 255, (num, 7, 7, channels)).astype(np.float32)
    grown = [cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) for grid in grids]
    return np.clip(np.stack(grown), 0, 255).astype(np.uint8).reshape(num, size, size, channels)


@pytest.fixture(scope="module")
def train() -> Images:
    return pictures(96, seed=1)


@pytest.fixture(scope="module")
def held_out() -> Images:
    return pictures(128, seed=2)


@pytest.fixture(scope="module")
def detector(train: Images, held_out: Images) -> CopyDetector:
    return CopyDetector.fit(train, seed=3, num_lessons=96).calibrate(held_out[:96], 0.01)


@pytest.fixture(scope="module")
def stored(train: Images, held_out: Images) -> CopyDetector:
    return CopyDetector.fit(train, seed=3, num_lessons=96, is_compact=True).calibrate(
        held_out[:96], 0.01
    )


def share_found(detector: CopyDetector, copies: Images, rows: NDArray[np.int64]) -> float:
    found = detector.search(copies)
    assert detector.threshold is not None
    return float(((found.original == rows) & (found.score > detector.threshold)).mean())


def test_copies_are_named_with_their_originals(detector: CopyDetector, train: Images) -> None:
    rows = np.arange(0, 96, 3)
    assert share_found(detector, train[rows][:, :, ::-1], rows) == 1
    shifted = np.roll(train[rows], 2, axis=2)
    shifted[:, :, :2] = 0
    assert share_found(detector, shifted, rows) >= 0.9
    blended = (0.75 * train[rows] + 0.25 * train[rows - 1]).astype(np.uint8)
    assert share_found(detector, blended, rows) >= 0.9


def test_other_real_images_are_not_called_copies(detector: CopyDetector, held_out: Images) -> None:
    assert detector.threshold is not None
    assert (detector.search(held_out[96:]).score > detector.threshold).mean() <= 0.1


def test_an_image_scores_the_same_whatever_its_neighbours(
    detector: CopyDetector, train: Images, held_out: Images
) -> None:
    together = detector.search(np.concatenate([held_out[:BATCH], train[:5]]))
    alone = detector.search(train[2:3])
    assert alone.score[0] == pytest.approx(together.score[BATCH + 2], abs=1e-3)
    assert alone.original[0] == together.original[BATCH + 2] == 2


def test_the_disguise_is_told(detector: CopyDetector, train: Images) -> None:
    assert set(detector.search(train[:5]).disguise) == {"as it is"}
    assert set(detector.search(train[:5, :, ::-1]).disguise) == {"mirrored"}


def test_the_stored_form_finds_the_same(stored: CopyDetector, train: Images) -> None:
    again = CopyDetector.from_state(stored.state())
    assert again.threshold == stored.threshold
    mine, theirs = stored.search(train[:20]), again.search(train[:20])
    assert np.array_equal(mine.original, theirs.original)
    assert np.allclose(mine.score, theirs.score, atol=1e-3)
    assert share_found(again, train[:20], np.arange(20)) == 1


@pytest.mark.parametrize("name", ["codes.basis", "verifier.head.0.weight", "wide.projection"])
def test_a_damaged_state_is_refused(stored: CopyDetector, name: str) -> None:
    state = stored.state()
    for damaged in (None, state[name][:-1], np.full_like(state[name], np.nan)):
        broken = {key: value for key, value in state.items() if key != name}
        if damaged is not None:
            broken[name] = damaged
        with pytest.raises(ModelError, match=name):
            CopyDetector.from_state(broken)


@pytest.mark.slow
def test_equal_seeds_give_equal_scores(train: Images, held_out: Images) -> None:
    scores = [
        CopyDetector.fit(train[:32], seed=4, num_lessons=32).search(held_out[:8]).score
        for _ in range(2)
    ]
    assert np.array_equal(scores[0], scores[1])


@pytest.mark.soak
@pytest.mark.slow
def test_large_colour_images_are_searched_too() -> None:
    train = pictures(24, seed=5, size=96, channels=3)
    detector = CopyDetector.fit(train, seed=6)
    assert (detector.search(train[:10, :, ::-1]).original == np.arange(10)).all()


def test_too_few_originals_are_refused(train: Images) -> None:
    with pytest.raises(InputError, match="at least 20"):
        CopyDetector.fit(train[:5], seed=1)


def test_an_abort_ends_the_search(detector: CopyDetector, train: Images) -> None:
    def abort() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.search(train[:1], check_abort=abort)
