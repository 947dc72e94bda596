"""A small convolutional classifier, cheap enough to train a hundred times on two cores.

Fashion-MNIST, 60,000 images, 1,200 steps of 128: 90.1% in 12 s on one core at width 16, 91.1% at
width 32. Called through training.Trainer.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from datagen.evaluation.utility.augmentation import augment
from datagen.evaluation.utility.training import Examples, Probabilities, StoppedError, Task

_BATCH, _TEST_BATCH = 128, 500
_WARM_UP = 0.2
_WEIGHT_DECAY = 5e-4
# Initial weights are drawn from torch's global generator, which threads share.
_INITIALISING = threading.Lock()


@dataclass(frozen=True)
class SmallNetworkTrainer:
    """AdamW, one warm-up and a cosine. width: channels of the first layer."""

    num_classes: int
    width: int = 16
    learning_rate: float = 3e-3
    name: str = "small CNN"
    runs_policies: bool = True

    def predict(self, task: Task, test: NDArray[np.uint8], stop: threading.Event) -> Probabilities:
        height, width, channels = test.shape[1:]
        network = _network(
            channels, (height, width), self.num_classes, width=self.width, seed=task.seed
        )
        rng = torch.Generator().manual_seed(task.seed)
        num_steps = task.num_steps
        if task.pretraining is not None:
            first = Task(task.pretraining, task.seed, num_steps // 2, task.policy)
            self._fit(network, first, rng, stop)
            num_steps -= num_steps // 2
        self._fit(network, _with_steps(task, num_steps), rng, stop)
        return _probabilities(network, test)

    def _fit(
        self, network: nn.Module, task: Task, rng: torch.Generator, stop: threading.Event
    ) -> None:
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=_WEIGHT_DECAY, fused=True
        )
        draws = [_Draws(task.examples, rng)]
        if task.second is not None:
            draws.append(_Draws(task.second, rng))
        network.train()
        for step in range(task.num_steps):
            if stop.is_set():
                raise StoppedError
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * _pace(step / task.num_steps)
            parts = [each.take(_BATCH // len(draws)) for each in draws]
            images = torch.cat([images for images, _ in parts])
            targets = torch.cat([targets for _, targets in parts])
            loss = F.cross_entropy(network(augment(images, task.policy, rng)), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        network.eval()


def _with_steps(task: Task, num_steps: int) -> Task:
    return Task(task.examples, task.seed, num_steps, task.policy, second=task.second)


def _pace(done: float) -> float:
    if done < _WARM_UP:
        return 0.05 + 0.95 * done / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP))) + 1e-3


class _Draws:
    """Batches without replacement, epoch after epoch."""

    def __init__(self, examples: Examples, rng: torch.Generator) -> None:
        self.images = torch.from_numpy(examples.images)
        self.class_ids = torch.from_numpy(examples.class_ids)
        self.rng = rng
        self.order = torch.empty(0, dtype=torch.long)

    def take(self, num: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(num, C, H, W) float32 in [-1, 1] and (num,) int64."""
        while len(self.order) < num:
            more = torch.randperm(len(self.images), generator=self.rng)
            self.order = torch.cat([self.order, more])
        rows, self.order = self.order[:num], self.order[num:]
        return _to_float(self.images[rows]), self.class_ids[rows]


def _network(
    channels: int, image_size: tuple[int, int], num_classes: int, *, width: int, seed: int
) -> nn.Module:
    height, breadth = image_size
    cells = math.ceil(height / 4) * math.ceil(breadth / 4)
    with _INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(channels, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False),
            *(nn.BatchNorm2d(2 * width), nn.ReLU()),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1, bias=False),
            *(nn.BatchNorm2d(2 * width), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(2 * width * cells, num_classes)),
        )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _to_float(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) float32 in [-1, 1], channels last."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.inference_mode()
def _probabilities(network: nn.Module, test: NDArray[np.uint8]) -> Probabilities:
    parts = [
        network(_to_float(torch.from_numpy(test[i : i + _TEST_BATCH]))).softmax(1)
        for i in range(0, len(test), _TEST_BATCH)
    ]
    probabilities: Probabilities = torch.cat(parts).numpy()
    return probabilities
