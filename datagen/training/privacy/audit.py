"""A lower bound of epsilon, measured: canaries go in or not by a coin, and are guessed from what
the mechanism gives out. Called by dp_sgd.py and release.py, which noise the canaries' sums as they
noise the real ones.

Each canary contributes the largest allowed gradient along a coordinate of its own, which no real
example touches: the strongest canary of Nasr et al. 2021 (arXiv 2101.04535, "gradient attack") and
2023 (arXiv 2302.07956, "Dirac canary"). Coordinates have independent noise, so that one training is
as many independent trials as there are canaries, and the canaries change nothing of the model.
What it audits: scale and independence of the noise, sampling, number of steps. That an example's
gradient is clipped is not audited but asserted, see dp_sgd.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import beta

from datagen.training.privacy.secure import poisson_mask

CONFIDENCE = 0.95
_NUM_THRESHOLDS = 64


@dataclass(frozen=True)
class Audit:
    """epsilon_low: with 95% confidence the mechanism's epsilon is no lower. ceiling: what the
    canaries would show without any noise: claims above it cannot be refuted."""

    epsilon_low: float
    num_canaries: int
    ceiling: float


class Canaries:
    """num canaries, each in with probability 1/2, and what was seen of them: the sum over steps of
    its noised coordinate."""

    def __init__(self, num: int) -> None:
        self.included = torch.from_numpy(poisson_mask(num, rate=0.5))
        self.score = torch.zeros(num, dtype=torch.float64)

    def contribution(self, *, sample_rate: float, norm: float) -> torch.Tensor:
        """(num,) float32: the canaries' part of one step's sum."""
        drawn = torch.from_numpy(poisson_mask(len(self.included), rate=sample_rate))
        return (self.included & drawn).float() * norm

    def observe(self, noised: torch.Tensor) -> None:
        """noised: one step's contribution as the mechanism gave it out."""
        self.score += noised

    def audit(self, *, delta: float) -> Audit:
        return audit(self.score.numpy(), self.included.numpy(), delta=delta)

    def state(self) -> dict[str, torch.Tensor]:
        return {"included": self.included, "score": self.score}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.included, self.score = state["included"], state["score"]


def audit(scores: NDArray[np.float64], included: NDArray[np.bool_], *, delta: float) -> Audit:
    """scores: (N,) float64, higher for canaries that look included. included: (N,) bool.

    The threshold that says "included" is chosen on the even canaries and judged on the odd ones.
    """
    half = [(scores[i::2], included[i::2]) for i in (0, 1)]
    fractions = 0.5 ** np.linspace(0.05, math.log2(len(scores)), _NUM_THRESHOLDS)
    # From both ends: the bound may come from few false alarms or from few misses.
    candidates = np.unique(np.quantile(half[0][0], np.concatenate([fractions, 1 - fractions])))
    threshold = max(candidates, key=lambda t: _bound(*half[0], t, delta=delta))
    odd = half[1][1]
    return Audit(
        epsilon_low=max(0.0, _bound(*half[1], threshold, delta=delta)),
        num_canaries=len(scores),
        ceiling=max(0.0, _bound(odd.astype(np.float64), odd, 0.5, delta=delta)),
    )


def _bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], threshold: float, *, delta: float
) -> float:
    """The larger of ln((TPR - delta) / FPR) and ln((TNR - delta) / FNR), each rate at the worse end
    of its Clopper-Pearson interval; all four hold together with the stated confidence.

    Source: Kairouz et al. 2015 (arXiv 1311.0776), theorem 2.1, as used by Jagielski et al. 2020
    (arXiv 2006.07709), algorithm 1.
    """
    guessed = scores >= threshold
    num_in, num_out = int(included.sum()), int((~included).sum())
    found, alarms = int((guessed & included).sum()), int((guessed & ~included).sum())
    pairs = (
        (_low(found, num_in), _high(alarms, num_out)),
        (_low(num_out - alarms, num_out), _high(num_in - found, num_in)),
    )
    return max(math.log(max(low - delta, 1e-300) / high) for low, high in pairs)


def _low(hits: int, num: int) -> float:
    return float(beta.ppf((1 - CONFIDENCE) / 4, hits, num - hits + 1)) if hits else 0.0


def _high(hits: int, num: int) -> float:
    return float(beta.ppf(1 - (1 - CONFIDENCE) / 4, hits + 1, num - hits)) if hits < num else 1.0
