from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datagen.filters.duplicate import (
    MAX_CELLS,
    NUM_BITS,
    DuplicateFilter,
    DuplicateJudge,
    DuplicateOptions,
    projection_weights,
)
from datagen.filters.interface import Score

RULE = DuplicateFilter()
GOLDEN = "a82a0a01fe794fe8c1245d3dc0abf535917f774e3e9e3c42d275b821ba6afebb"
GOLDEN_WIDE = "fbef60ede3bee41eda3c26ef34514b2545430a06cfc0661a3067e201af32e301"


def scores_of(images: NDArray[np.uint8]) -> list[Score]:
    return RULE.score(images, ["cat"] * len(images), None)


def hash_of(image: NDArray[np.uint8]) -> int:
    return int(str(scores_of(image[None])[0]), 16)


def distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    return (hash_of(a) ^ hash_of(b)).bit_count()


def text(bits: int) -> str:
    return f"{bits:0{NUM_BITS // 4}x}"


def garment(seed: int, channels: int = 1, side: int = 28) -> NDArray[np.uint8]:
    """A shaded random shape with a hard outline on black, levels 0 and 80 to 200."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(5, 5, channels))
    grid = np.linspace(0, 4, side)
    low = np.minimum(grid.astype(int), 3)
    part = (grid - low)[:, None, None]
    rows = coarse[low] * (1 - part) + coarse[low + 1] * part
    part = (grid - low)[None, :, None]
    field = rows[:, low] * (1 - part) + rows[:, low + 1] * part
    return np.where(field > 0, 80 + np.clip(field, 0, 2) * 60, 0).astype(np.uint8)


# --- the hash -------------------------------------------------------------------------------------


def test_the_hash_never_changes() -> None:
    """Stored scores are compared with new ones: another hash needs another filter name."""
    row = np.arange(28, dtype=np.int64)
    image = ((row[:, None] * 7 + row[None, :] ** 2) % 256).astype(np.uint8)[..., None]
    wide = np.tile(image, (1, 2, 3))
    assert scores_of(image[None]) == [GOLDEN]
    assert scores_of(wide[None]) == [GOLDEN_WIDE]


def test_even_images_are_all_the_same() -> None:
    for level in (0, 9, 255):
        assert hash_of(np.full((28, 28, 1), level, np.uint8)) == 0
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 250
    assert hash_of(red) == 0


def test_level_and_contrast_do_not_count() -> None:
    image = garment(1)
    assert distance(image, image + np.uint8(40)) == 0
    assert distance(image // 2 * 2, image // 2) == 0


def test_faint_noise_is_near_and_other_images_are_far() -> None:
    rng = np.random.default_rng(3)
    near, far = [], []
    for seed in range(40):
        image = garment(seed)
        noise = rng.integers(-2, 3, image.shape)
        near.append(distance(image, np.clip(image + noise, 0, 255).astype(np.uint8)))
        far.append(distance(image, garment(seed + 1000)))
    limit = DuplicateOptions().max_distance
    assert np.median(near) <= limit
    assert max(near) <= 2 * limit
    assert min(far) > 10 * limit


def test_mirrored_moved_and_recoloured_images_are_others() -> None:
    image = garment(5, channels=3)
    assert distance(image, image[:, ::-1]) > 30
    assert distance(image, np.roll(image, 2, axis=0)) > 30
    assert distance(image, image[..., ::-1]) > 30


def test_a_large_image_is_seen_through_block_means() -> None:
    small = garment(6, channels=3, side=MAX_CELLS)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    assert hash_of(large) == hash_of(small)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 32, 3), (32, 32, 3)])
def test_projections_are_exact_and_blind_to_an_even_change(shape: tuple[int, int, int]) -> None:
    weights = projection_weights(*shape)
    columns = weights.transpose(1, 0, 2).reshape(*shape, NUM_BITS)
    assert np.array_equal(weights, np.rint(weights))
    assert not columns.sum(axis=(0, 1)).any()
    assert np.abs(columns).sum(axis=(0, 1, 2)).max() * 255 < 2**24


def test_bits_are_worth_their_place() -> None:
    """Over unlike images each bit is set about half of the time, and none repeats another."""
    batch = np.stack([garment(seed) for seed in range(400)])
    packed = [bytes.fromhex(str(score)) for score in scores_of(batch)]
    bits = np.unpackbits(np.frombuffer(b"".join(packed), np.uint8)).reshape(400, NUM_BITS)
    shares = bits.mean(axis=0)
    assert shares.min() > 0.2
    assert shares.max() < 0.8
    correlation = np.abs(np.corrcoef(bits.T.astype(float)) - np.eye(NUM_BITS))
    assert correlation.max() < 0.9


# --- the judge ------------------------------------------------------------------------------------


def decisions(hashes: list[int], max_distance: int) -> list[bool]:
    judge = DuplicateJudge(max_distance)
    refused = []
    for bits in hashes:
        refused.append(judge.reject(text(bits)) == "duplicate")
        if not refused[-1]:
            judge.accept(text(bits))
    return refused


def brute_force(hashes: list[int], max_distance: int) -> list[bool]:
    chosen: list[int] = []
    refused = []
    for bits in hashes:
        refused.append(any((bits ^ other).bit_count() <= max_distance for other in chosen))
        if not refused[-1]:
            chosen.append(bits)
    return refused


@settings(deadline=None)
@given(st.integers(0, 16), st.integers(1, 8), st.integers(0, 60), st.randoms(use_true_random=False))
def test_the_judge_agrees_with_brute_force(
    max_distance: int, num_bases: int, num: int, rng: random.Random
) -> None:
    """Hashes crowd around a few, at distances on both sides of the threshold."""
    bases = [rng.getrandbits(NUM_BITS) for _ in range(num_bases)]
    hashes = []
    for _ in range(num):
        bits = rng.choice(bases)
        for place in rng.sample(range(NUM_BITS), rng.randint(0, max_distance + 3)):
            bits ^= 1 << place
        hashes.append(bits)
    assert decisions(hashes, max_distance) == brute_force(hashes, max_distance)


@pytest.mark.parametrize("max_distance", [0, 1, 6, 16])
def test_bits_that_differ_in_as_many_bands_as_they_can(max_distance: int) -> None:
    """The worst case of the bands: one left untouched is found, none left untouched is too far."""
    width = NUM_BITS / (max_distance + 1)
    places = [round(width * band + width / 2) for band in range(max_distance + 1)]
    base = random.Random(1).getrandbits(NUM_BITS)
    for untouched in range(max_distance + 1):
        near = base
        for band, place in enumerate(places):
            if band != untouched:
                near ^= 1 << place
        assert decisions([base, near], max_distance) == [False, True]
    far = base
    for place in places:
        far ^= 1 << place
    assert decisions([base, far], max_distance) == [False, False]


def test_nothing_is_lost_while_the_index_grows() -> None:
    rng = random.Random(4)
    hashes = [rng.getrandbits(NUM_BITS) for _ in range(5000)]
    judge = DuplicateJudge(6)
    for bits in hashes:
        judge.accept(text(bits))
    for bits in hashes:
        for place in rng.sample(range(NUM_BITS), 6):
            bits ^= 1 << place
        assert judge.reject(text(bits)) == "duplicate"
    assert not any(judge.reject(text(rng.getrandbits(NUM_BITS))) for _ in range(1000))


def test_hashes_that_crowd_one_band_are_compared_at_once() -> None:
    """More than the judge follows one by one, and more than it compares in one go."""
    rng = random.Random(5)
    shared = rng.getrandbits(40)
    hashes = [rng.getrandbits(NUM_BITS) >> 40 << 40 | shared for _ in range(33_000)]
    judge = DuplicateJudge(6)
    for bits in hashes:
        judge.accept(text(bits))
    for bits in (hashes[0], hashes[17], hashes[32_767], hashes[32_768], hashes[-1]):
        near = bits
        for place in rng.sample(range(NUM_BITS), 6):
            near ^= 1 << place
        assert judge.reject(text(near)) == "duplicate"
        assert judge.reject(text(near ^ rng.getrandbits(NUM_BITS) >> 40 << 40)) is None


def test_zero_takes_equal_hashes_alone() -> None:
    image = garment(8)
    changed = image.copy()
    changed[10:12, 10:12] += 60
    scores = scores_of(np.stack([image, image, changed]))
    judge = RULE.judge(DuplicateOptions(max_distance=0), "cat", None)
    judge.accept(scores[0])
    assert [judge.reject(score) for score in scores] == ["duplicate", "duplicate", None]
