"""Tells a copy from a look-alike: a small network that sees an image, the original that was laid
over it, and what the two leave of each other.

Called by copy_detector.py. Noise leaves noise, a crop leaves nothing, another garment leaves
structure. What the next best original leaves is shown too, because garments, like chests, resemble
each other: a copy agrees with one original much better than with any other (the ratio test of Lowe
2004, section 7.1). The weights are learned from disguised training images, with their original in
the search and without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

NUM_LAYERS = 5  # of a picture: image, original, rest, where the original is, rest of the next best
PLAN = ((NUM_LAYERS, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2))  # channels in, out, stride
HIDDEN, DROPOUT = 64, 0.2
REST_GAIN = 4.0
GAINS = (0.2, 3.0)
BATCH, LEARNING_RATE, WEIGHT_DECAY = 128, 2e-3, 1e-2
NUM_EPOCHS, MIN_STEPS = 10, 40


class Network(nn.Module):
    """(N, NUM_LAYERS, S, S) => (N,) log odds. Normalisation is only there while learning: it is
    folded into the convolutions."""

    def __init__(self, *, is_learning: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in PLAN:
            norm = nn.BatchNorm2d(after) if is_learning else nn.Identity()
            layers += [nn.Conv2d(before, after, 3, stride, 1), norm, nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(2 * PLAN[-1][1], HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = self.features(pictures.contiguous(memory_format=torch.channels_last))
        pooled = torch.cat([seen.mean((2, 3)), seen.amax((2, 3))], 1)
        odds: torch.Tensor = self.head(pooled)
        return odds.squeeze(1)


@dataclass(frozen=True)
class Verifier:
    """network: in evaluation mode, without normalisation."""

    network: Network

    def score(self, pictures: torch.Tensor) -> NDArray[np.float64]:
        """(N, NUM_LAYERS, S, S) => (N,) log odds: the mean of the picture and its mirror image."""
        pictures = pictures.float()
        odds: torch.Tensor = (self.network(pictures) + self.network(pictures.flip(3))) / 2
        score: NDArray[np.float64] = odds.double().numpy()
        return score

    def tensors(self) -> dict[str, torch.Tensor]:
        return {f"verifier.{name}": each for name, each in self.network.state_dict().items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Verifier:
        network = Network()
        state = {name: tensors[f"verifier.{name}"] for name in network.state_dict()}
        network.load_state_dict(state)
        return cls(_frozen(network))


def shapes() -> dict[str, tuple[int, ...]]:
    """Of the tensors that are stored."""
    with torch.device("meta"):
        return {f"verifier.{name}": tuple(e.shape) for name, e in Network().state_dict().items()}


def draw_pictures(
    copies: torch.Tensor, originals: torch.Tensor, inside: torch.Tensor
) -> torch.Tensor:
    """copies: (B, 1, S, S). originals, inside: (B, 2, S, S), the best and the next best as the copy
    shows them, and 1 where they lie. Returns (B, NUM_LAYERS, S, S) float16."""
    count = inside.sum((2, 3), keepdim=True).clamp(min=1)
    shift_copy = copies - (copies * inside).sum((2, 3), keepdim=True) / count
    shift = originals - (originals * inside).sum((2, 3), keepdim=True) / count
    cross, power = (
        (shift * each * inside).sum((2, 3), keepdim=True) for each in (shift_copy, shift)
    )
    fitted = shift * (cross / power.clamp(min=1e-4)).clamp(*GAINS)
    rest = REST_GAIN * (shift_copy - fitted) * inside
    as_shown = (copies - shift_copy + fitted)[:, :1] * inside[:, :1]
    return torch.cat([copies, as_shown, rest[:, :1], inside[:, :1], rest[:, 1:]], 1).half()


def learn_verifier(
    copies: torch.Tensor, others: torch.Tensor, generator: torch.Generator
) -> Verifier:
    """Pictures of both kinds, which count the same."""
    pictures = torch.cat([copies, others])
    is_copy = torch.cat([torch.ones(len(copies)), torch.zeros(len(others))])
    share = len(copies) / len(pictures)
    weight = torch.where(is_copy > 0, 0.5 / max(share, 1e-6), 0.5 / max(1 - share, 1e-6))
    num_steps = max(NUM_EPOCHS * len(pictures) // BATCH, MIN_STEPS)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        network = Network(is_learning=True).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, LEARNING_RATE, total_steps=num_steps
        )
        for step in range(num_steps):
            rows = torch.randint(len(pictures), (min(BATCH, len(pictures)),))
            batch = pictures[rows].float()
            odds = network(batch if step % 2 else batch.flip(3))
            loss = F.binary_cross_entropy_with_logits(odds, is_copy[rows], weight[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return Verifier(_frozen(_folded(network)))


def _folded(network: Network) -> Network:
    network.eval()
    plain = Network()
    for place in range(0, 3 * len(PLAN), 3):
        convolution, norm = network.features[place], network.features[place + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        plain.features[place] = fuse_conv_bn_eval(convolution, norm)
    plain.head.load_state_dict(network.head.state_dict())
    return plain


def _frozen(network: Network) -> Network:
    return network.eval().requires_grad_(False)
