"""How sure it is that a query is a copy: evidence from its registered candidates, weighed.

Called by copy_detector.py. The best candidate counts against the others, because garments, like
chests, resemble each other: a copy agrees with one original much better than with any other
(the ratio test of Lowe 2004, section 7.1). The weights are learned from
disguised training images, with their original in the search and without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from datagen.references.copy_registration import NUM_TRAITS, Fit

Evidence = NDArray[np.float64]  # (N, NUM_EVIDENCE)
NUM_EVIDENCE = 3 * (NUM_TRAITS + 2)
HIDDEN = 64
NUM_STEPS = 600
WEIGHT_DECAY = 1.0
SMOOTH_WEIGHT = 0.3


@dataclass(frozen=True)
class Weights:
    """Of the network that turns evidence into log odds."""

    mean: torch.Tensor
    deviation: torch.Tensor
    inner: torch.Tensor
    hidden: torch.Tensor
    outer: torch.Tensor
    offset: torch.Tensor

    def score(self, evidence: Evidence) -> NDArray[np.float64]:
        """(N, NUM_EVIDENCE) => (N,) log odds."""
        z = (torch.from_numpy(evidence).float() - self.mean) / self.deviation
        odds = _odds(z, (self.inner, self.hidden, self.outer, self.offset))
        return odds.double().numpy()

    def tensors(self) -> dict[str, torch.Tensor]:
        return {f"weights.{each.name}": getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Weights:
        return cls(*(tensors[f"weights.{each.name}"] for each in fields(cls)))


def agreement(fit: Fit) -> torch.Tensor:
    """(B, K), by which candidates are ranked."""
    return fit.detail + SMOOTH_WEIGHT * fit.smooth


def gather_evidence(rows: torch.Tensor, traits: torch.Tensor) -> torch.Tensor:
    """rows: (B, K), best first. traits: (B, K, NUM_TRAITS + 2), of registration, then likeness in
    place and in the narrow look. Returns (B, NUM_EVIDENCE): the best candidate, the best other and
    the mean of the others."""
    other = (rows != rows[:, :1]).float().unsqueeze(2)
    runner_up = traits[torch.arange(len(rows)), other.squeeze(2).argmax(1)]
    mean = (traits * other).sum(1) / other.sum(1).clamp(min=1)
    return torch.cat([traits[:, 0], runner_up, mean], 1)


def learn_weights(copies: Evidence, others: Evidence, generator: torch.Generator) -> Weights:
    """A network of one hidden layer on standardised evidence; both kinds count the same."""
    evidence = torch.from_numpy(np.concatenate([copies, others])).float()
    target = torch.cat([torch.ones(len(copies)), torch.zeros(len(others))])
    balance = torch.where(target > 0, 0.5 / len(copies), 0.5 / len(others))
    mean, deviation = evidence.mean(0), evidence.std(0) + 1e-6
    inner = torch.randn(NUM_EVIDENCE, HIDDEN, generator=generator) / NUM_EVIDENCE**0.5
    outer = torch.randn(HIDDEN, generator=generator) / HIDDEN**0.5
    learned = [inner, torch.zeros(HIDDEN), outer, torch.zeros(())]
    for each in learned:
        each.requires_grad_()
    optimizer = torch.optim.AdamW(learned, lr=1e-2, weight_decay=WEIGHT_DECAY)
    z = (evidence - mean) / deviation
    with torch.enable_grad():
        for _ in range(NUM_STEPS):
            odds = _odds(z, learned)
            loss = balance * F.binary_cross_entropy_with_logits(odds, target, reduction="none")
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    inner, hidden, outer, offset = (each.detach() for each in learned)
    return Weights(mean, deviation, inner, hidden, outer, offset)


def _odds(z: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    inner, hidden, outer, offset = weights
    return torch.tanh(z @ inner + hidden) @ outer + offset


def threshold_at(scores: NDArray[np.float64], fpr: float) -> float:
    """Above it lies a share fpr of images like those that were scored.

    With enough of them the conformal quantile (Vovk et al. 2005, section 2.2); else the tail's
    tenth is continued as an exponential (its mean excess; Pickands 1975 with shape 0).
    """
    ordered = np.sort(scores)
    rank = int(np.ceil((len(ordered) + 1) * (1 - fpr)))
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    tail = ordered[-max(len(ordered) // 10, 2) :]
    share = (len(tail) - 1) / len(ordered)
    return float(tail[0] + (tail[1:] - tail[0]).mean() * np.log(max(share / fpr, 1)))
