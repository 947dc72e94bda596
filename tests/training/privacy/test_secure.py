from __future__ import annotations

import numpy as np
import torch
from scipy.stats import kstest

from datagen.training.privacy.secure import poisson_mask, secure_normal


def test_noise_is_normal_and_of_the_asked_scale() -> None:
    noise = secure_normal((200, 101), std=3.0)
    assert noise.shape == (200, 101)
    assert noise.dtype == torch.float32
    assert kstest(noise.flatten().numpy() / 3.0, "norm").pvalue > 1e-6


def test_no_seed_repeats_noise_or_samples() -> None:
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        found.append((secure_normal((8,), std=1.0), poisson_mask(200, rate=0.5)))
    assert not torch.equal(found[0][0], found[1][0])
    assert not np.array_equal(found[0][1], found[1][1])


def test_a_poisson_sample_has_no_fixed_size() -> None:
    sizes = [int(poisson_mask(1000, rate=0.1).sum()) for _ in range(50)]
    assert len(set(sizes)) > 5
    assert 80 < np.mean(sizes) < 120
    assert poisson_mask(50, rate=1.0).all()
