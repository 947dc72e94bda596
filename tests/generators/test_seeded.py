from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datagen.generators.noise.sample import NoiseSampler
from datagen.generators.seeded import seeded_normal, seeded_rng, seeded_rngs

SEEDS = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=8)


@given(SEEDS)
def test_a_rekeyed_generator_draws_what_a_new_one_draws(seeds: list[int]) -> None:
    for seed, rng in zip(seeds, seeded_rngs(seeds), strict=True):
        new = seeded_rng(seed)
        # 32-bit draws leave half a word behind: the next key must not see it.
        assert rng.integers(2**32, dtype=np.uint32) == new.integers(2**32, dtype=np.uint32)
        assert np.array_equal(rng.standard_normal(5), new.standard_normal(5))


@given(SEEDS)
def test_rows_of_normal_draws_come_from_their_seeds_alone(seeds: list[int]) -> None:
    rows = seeded_normal(seeds, (3, 5))
    assert rows.dtype == np.float32
    for row, seed in zip(rows, seeds, strict=True):
        assert np.array_equal(row, seeded_normal([seed], (3, 5))[0])


def test_normal_draws_are_standard() -> None:
    draws = seeded_normal(range(1000), (100,)).astype(np.float64)
    assert abs(draws.mean()) < 4 / np.sqrt(draws.size)
    assert abs(draws.var() - 1) < 4 * np.sqrt(2 / draws.size)
    between = np.asarray(np.corrcoef(draws))[np.triu_indices(1000, 1)]
    assert abs(between.mean()) < 1e-3


def test_the_draws_of_a_seed_never_change() -> None:
    """Philox4x64-10 of numpy: another stream would change every image of every data set."""
    assert seeded_rng(2**63 - 1).bit_generator.random_raw(2).tolist() == [
        17078119557474009138,
        3349379938193924205,
    ]


def test_noise_is_uniform_over_bytes_at_any_size() -> None:
    images = NoiseSampler(batch_size=64, image_shape=(13, 17, 3)).sample(range(64), [0] * 64)
    counts = np.bincount(images.ravel(), minlength=256)
    expected = images.size / 256
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert 150 < chi_squared < 380  # 255 degrees of freedom
