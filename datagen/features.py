"""Image features from a small classifier trained on a reference set, and distances between them.

For grey or tiny images an ImageNet network sees little; a small network trained on the real
classes sees what a team's own classifier would. Called by training (which model is best, on the
held-out part) and by benchmarks/utility.py (which trains the same network on synthetic images).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

Features = NDArray[np.float64]


class SmallClassifier(nn.Module):
    """(N, C, H, W) float32 in [-1, 1] => (N, num_classes) logits; `embed` gives (N, 128)."""

    def __init__(self, *, channels: int, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        height, width = image_size
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1)
        self.hidden = nn.Linear(128 * (height // 4) * (width // 4), 128)
        self.head = nn.Linear(128, num_classes)
        self.dropout = nn.Dropout(0.4)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(images)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.conv3(x)).flatten(1)
        return F.relu(self.hidden(self.dropout(x)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.dropout(self.embed(images)))
        return out


def train_classifier(
    images: NDArray[np.uint8],
    class_ids: NDArray[np.int64],
    *,
    num_classes: int,
    num_epochs: int,
    seed: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> SmallClassifier:
    """Adam with a cosine schedule. images: (N, H, W, C) uint8; class_ids: (N,)."""
    num, height, width, channels = images.shape
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = SmallClassifier(
            channels=channels, image_size=(height, width), num_classes=num_classes
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        steps_per_epoch = max(1, num // batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, num_epochs * steps_per_epoch
        )
        targets = torch.from_numpy(class_ids)
        for _ in range(num_epochs):
            order = torch.randperm(num)
            for step in range(steps_per_epoch):
                rows = order[step * batch_size : (step + 1) * batch_size]
                logits = network(_to_tensor(images[rows.numpy()]))
                loss = F.cross_entropy(logits, targets[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


@torch.inference_mode()
def embed(network: SmallClassifier, images: NDArray[np.uint8]) -> Features:
    """Returns (N, 128) float64."""
    parts = [network.embed(_to_tensor(images[i : i + 500])) for i in range(0, len(images), 500)]
    return torch.cat(parts).double().numpy()


@torch.inference_mode()
def accuracy(
    network: SmallClassifier, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
) -> float:
    predicted = [
        network(_to_tensor(images[i : i + 500])).argmax(1) for i in range(0, len(images), 500)
    ]
    return float((torch.cat(predicted).numpy() == class_ids).mean())


def kernel_distance(a: Features, b: Features) -> float:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3 between (N, d) and (M, d) features.

    Source: Binkowski et al. 2018 (KID, arXiv 1801.01401), section 4.
    """
    dim = a.shape[1]
    k_aa, k_bb, k_ab = ((x @ y.T / dim + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    within = (k_aa.sum() - np.trace(k_aa)) / (n * (n - 1)) + (k_bb.sum() - np.trace(k_bb)) / (
        m * (m - 1)
    )
    return float(within - 2 * k_ab.mean())


def _to_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) float32 in [-1, 1], channels last."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
    return tensor.float().div_(127.5).sub_(1)
