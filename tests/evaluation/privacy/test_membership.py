from __future__ import annotations

import numpy as np

from datagen.evaluation.privacy.intervals import newcombe, wilson
from datagen.evaluation.privacy.membership import attack_scores, membership


def directions(num: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(num, 16)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_members_of_a_model_that_repeats_them_are_recognised() -> None:
    members, strangers, reference = (directions(300, seed) for seed in (1, 2, 3))
    scores = [attack_scores(each, members, reference) for each in (members, strangers)]
    found = membership(scores[0], scores[1], seed=1)
    assert found.low is not None
    assert found.low > 0.9


def test_a_model_that_knows_no_one_leaves_the_attacker_at_chance() -> None:
    members, strangers, reference, synthetic = (directions(1000, seed) for seed in range(4))
    scores = [attack_scores(each, synthetic, reference) for each in (members, strangers)]
    found = membership(scores[0], scores[1], seed=1)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.01 <= found.high


def test_few_non_members_withhold_the_figure() -> None:
    found = membership(np.zeros(500), np.zeros(50), seed=1)
    assert found.withheld is not None
    assert "needs 200" in found.withheld


def test_the_gate_opens_for_a_thousand_clean_images() -> None:
    """Newcombe 1998, table II, (a) 56/70 - 48/80: 0.0524 to 0.3339."""
    excess = newcombe(wilson(0, 1000), wilson(1, 1000))
    assert excess.high is not None
    assert excess.high < 0.005
    published = newcombe(wilson(56, 70), wilson(48, 80))
    assert np.allclose([published.low, published.high], [0.0524, 0.3339], atol=1e-4)
