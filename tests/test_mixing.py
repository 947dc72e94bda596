"""Mixes: drawn from the attempt's seed alone, and slerp between two latents."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from datagen.conditions import Mix
from datagen.mixing import draw_mix, slerp
from datagen.prompt_schema import MixRequest

NAMES = ["cat", "dog", "fox", "owl"]
IDS = [3, 1, 7, 5]


def draw(seed: int, **request: Any) -> Mix:
    return draw_mix(MixRequest.model_validate(request), seed, "cat", NAMES, IDS)


def test_a_mix_follows_from_the_seed() -> None:
    assert draw(5, between="classes") == draw(5, between="classes")
    assert draw(5, between="seeds") != draw(6, between="seeds")


def test_the_weight_is_uniform_in_its_range() -> None:
    weights = np.array([draw(k, between="seeds", weight=[0.3, 0.7]).weight for k in range(2000)])
    assert weights.min() >= 0.3
    assert weights.max() <= 0.7
    assert np.histogram(weights, 4, (0.3, 0.7))[0].min() > 430  # 500 each, 3.6 deviations
    assert draw(1, between="seeds", weight=[0.25, 0.25]).weight == 0.25


def test_the_other_end_of_seeds_is_of_the_same_class() -> None:
    mixes = [draw(k, between="seeds") for k in range(100)]
    assert {(m.class_name, m.class_id, m.kind) for m in mixes} == {("cat", 3, "seeds")}
    assert len({m.seed for m in mixes}) == 100
    assert all(0 <= m.seed < 2**63 and m.seed != k for k, m in enumerate(mixes))


def test_the_other_class_is_any_other_with_equal_chance() -> None:
    counts = Counter(
        (m.class_name, m.class_id) for m in (draw(k, between="classes") for k in range(900))
    )
    assert set(counts) == {("dog", 1), ("fox", 7), ("owl", 5)}
    assert min(counts.values()) > 250  # 300 each, 3.5 deviations


def test_the_other_class_is_one_of_those_allowed() -> None:
    mixes = [
        draw(k, between="classes", classes={"cat": ["fox"], "dog": ["cat"]}) for k in range(50)
    ]
    assert {m.class_name for m in mixes} == {"fox"}


def test_slerp_ends_where_its_ends_are() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32)
    assert np.array_equal(slerp(a, b, 0), a)
    assert np.array_equal(slerp(a, b, 1), b)
    assert slerp(a, b, 0.3).dtype == np.float32
    assert np.allclose(slerp(a, b, 0.3), slerp(b, a, 0.7), atol=1e-6)


def test_slerp_of_noise_keeps_the_norm_of_noise() -> None:
    a, b = np.random.default_rng(1).standard_normal((2, 4, 64, 64)).astype(np.float32)
    norms = [np.linalg.norm(slerp(a, b, w)) / np.linalg.norm(a) for w in np.linspace(0, 1, 21)]
    assert max(norms) < 1.02
    assert min(norms) > 0.98
    assert np.linalg.norm((a + b) / 2) / np.linalg.norm(a) < 0.75, "a straight line would not"


def test_slerp_is_a_rotation_of_unit_vectors() -> None:
    found = slerp(np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1 / 3)
    assert np.allclose(found, [np.cos(np.pi / 6), np.sin(np.pi / 6)])


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
def test_slerp_of_parallel_ends_is_straight(factor: float) -> None:
    a = np.array([3.0, -4.0])
    assert np.allclose(slerp(a, factor * a, 0.25), 0.75 * a + 0.25 * factor * a)


def test_slerp_of_two_shapes_is_a_bug() -> None:
    with pytest.raises(ValueError, match="shapes"):
        slerp(np.zeros(3), np.zeros(4), 0.5)
