"""A small convolutional classifier: cheap to train many times, its hidden layer gives features.

For grey or tiny images an ImageNet network sees little; a network trained on the real classes
sees what a team's own classifier would. Trained by evaluation and references
(labels, features), by training (which weights are best) and by utility (what are data worth).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from datagen.image_set import ImageSet

Images = NDArray[np.uint8]  # (N, H, W, C)
Features = NDArray[np.float64]

EMBEDDING_DIM = 128
_MAX_SIDE_PX = 40  # larger images are halved by strided convolutions first
_INFERENCE_BATCH = 500
_NUM_STATISTICS_IMAGES = 2000
_NUM_IMAGES_SEEN = 60_000
_WARM_UP = 0.2


class SmallClassifier(nn.Module):
    """(N, C, H, W) float32 in [-1, 1] => (N, num_classes) logits; `embed` gives (N, 128).

    image_size: (height, width), at least 4 px each.
    """

    def __init__(self, *, channels: int, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        self.channels, self.image_size, self.num_classes = channels, image_size, num_classes
        self.shrink = nn.ModuleList()
        (height, width), depth = image_size, channels
        while max(height, width) > _MAX_SIDE_PX:
            self.shrink.append(_convolution(depth, 32, stride=2))
            height, width, depth = -(-height // 2), -(-width // 2), 32
        self.conv1 = _convolution(depth, 16, pool=2)
        self.conv2 = _convolution(16, 64, pool=2)
        self.conv3 = _convolution(64, 64)
        self.hidden = nn.Linear(64 * (height // 4) * (width // 4), EMBEDDING_DIM)
        self.head = nn.Linear(EMBEDDING_DIM, num_classes)
        self.dropout = nn.Dropout(0.2)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x = images
        for layer in self.shrink:
            x = F.relu(layer(x))
        for layer in (self.conv1, self.conv2, self.conv3):
            x = F.relu(layer(x))
        x = x.flatten(1)
        return F.relu(self.hidden(self.dropout(x)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.dropout(self.embed(images)))
        return out


def train_classifier(
    images: Images,
    class_ids: NDArray[np.int64],
    *,
    num_classes: int,
    num_epochs: int,
    seed: int,
    batch_size: int = 256,
    learning_rate: float = 5e-3,
) -> SmallClassifier:
    """AdamW, one cycle of the learning rate (Smith and Topin 2017, arXiv 1708.07120).

    images: (N, H, W, C) uint8; class_ids: (N,). Smaller sets take smaller batches, so that an
    epoch has several steps, and a learning rate scaled by the batch size's root.
    """
    num, height, width, channels = images.shape
    batch_size = min(batch_size, max(16, num // 8))
    num_steps = max(1, num // batch_size)
    targets = torch.from_numpy(class_ids.copy())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmallClassifier(
            channels=channels, image_size=(height, width), num_classes=num_classes
        )
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        peak = learning_rate * math.sqrt(batch_size / 256)
        optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _one_cycle(step / (num_epochs * num_steps))
        )
        for _ in range(num_epochs):
            order = torch.randperm(num)
            for step in range(num_steps):
                rows = order[step * batch_size : (step + 1) * batch_size]
                loss = F.cross_entropy(network(to_tensor(images[rows.numpy()])), targets[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
        chosen = torch.randperm(num)[:_NUM_STATISTICS_IMAGES].numpy()
        _settle_statistics(network, images[chosen], batch_size)
    return network.eval()


@torch.inference_mode()
def embed(network: SmallClassifier, images: Images) -> Features:
    """Returns (N, 128) float64."""
    if not len(images):
        return np.empty((0, EMBEDDING_DIM))
    parts = [network.embed(to_tensor(part)) for part in _batches(images)]
    return torch.cat(parts).double().numpy()


def accuracy(network: SmallClassifier, images: Images, class_ids: NDArray[np.int64]) -> float:
    return float((logits_of(network, images).argmax(1) == class_ids).mean())


@torch.inference_mode()
def logits_of(network: SmallClassifier, images: Images) -> NDArray[np.float32]:
    """Returns (N, num_classes) float32."""
    if not len(images):
        return np.empty((0, network.num_classes), np.float32)
    return torch.cat([network(to_tensor(part)) for part in _batches(images)]).numpy()


@dataclass(frozen=True)
class Classifier:
    """A trained network whose logits are divided by temperature: 1 leaves them as trained."""

    network: SmallClassifier
    temperature: float = 1.0

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Returns (N, num_classes) float32, rows sum to 1."""
        return _softmax(logits_of(self.network, images) / self.temperature)

    def embed(self, images: Images) -> NDArray[np.float32]:
        """Returns (N, 128) float32."""
        return embed(self.network, images).astype(np.float32)

    def accuracy(self, images: Images, class_ids: NDArray[np.int64]) -> float:
        return accuracy(self.network, images, class_ids)

    def digest(self) -> str:
        """sha256 of the weights."""
        sha = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            sha.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return sha.hexdigest()


def fit_classifier(
    real: ImageSet, *, seed: int, num_epochs: int | None = None, calibration_share: float = 0.1
) -> Classifier:
    """Trains on all but a share of the images, of each class, and calibrates on that share.

    num_epochs: None for about 60,000 images seen, in 2 to 30 epochs. A share of 0 trains on
    everything and leaves the temperature at 1.
    """
    rng = np.random.default_rng(seed)
    is_kept_out = np.zeros(len(real), dtype=bool)
    for class_id in range(real.num_classes):
        rows = rng.permutation(real.rows_of(class_id))
        is_kept_out[rows[: int(len(rows) * calibration_share)]] = True
    rest, kept_out = np.flatnonzero(~is_kept_out), np.flatnonzero(is_kept_out)
    network = train_classifier(
        real.images[rest],
        real.class_ids[rest],
        num_classes=real.num_classes,
        num_epochs=num_epochs or min(30, max(2, round(_NUM_IMAGES_SEEN / len(rest)))),
        seed=seed,
    )
    if not len(kept_out):
        return Classifier(network)
    logits = logits_of(network, real.images[kept_out])
    return Classifier(network, fit_temperature(logits, real.class_ids[kept_out]))


def fit_temperature(logits: NDArray[np.float32], class_ids: NDArray[np.int64]) -> float:
    """What to divide (N, K) logits by, so that their probabilities come true most often.

    Minimises the negative log-likelihood, which has one minimum in 1 / temperature, by golden
    section between 0.05 and 20. Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(0.05), math.log(20)
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _log_loss(logits, class_ids, left) < _log_loss(logits, class_ids, right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def to_tensor(images: Images) -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) float32 in [-1, 1], channels last."""
    pixels = np.ascontiguousarray(images, dtype=np.float32)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).div_(127.5).sub_(1)


def _convolution(depth_in: int, depth_out: int, *, stride: int = 1, pool: int = 1) -> nn.Sequential:
    """Pooling comes before the normalisation: a quarter of the work there."""
    return nn.Sequential(
        nn.Conv2d(depth_in, depth_out, 3, stride=stride, padding=1, bias=False),
        nn.MaxPool2d(pool) if pool > 1 else nn.Identity(),
        nn.BatchNorm2d(depth_out),
    )


def _one_cycle(progress: float) -> float:
    """progress: 0 to 1 => share of the peak: linearly up from a tenth, then a half cosine down."""
    if progress < _WARM_UP:
        return 0.1 + 0.9 * progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


@torch.no_grad()
def _settle_statistics(network: SmallClassifier, images: Images, batch_size: int) -> None:
    """Batch normalisation's means over the final weights: a short training has no settled ones."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches that follow
    for first in range(0, len(images), batch_size):
        network(to_tensor(images[first : first + batch_size]))


def _batches(images: Images) -> list[Images]:
    return [images[i : i + _INFERENCE_BATCH] for i in range(0, len(images), _INFERENCE_BATCH)]


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers: NDArray[np.float32] = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def _log_loss(
    logits: NDArray[np.float32], class_ids: NDArray[np.int64], log_temperature: float
) -> float:
    scaled = logits.astype(np.float64) / math.exp(log_temperature)
    scaled -= scaled.max(axis=1, keepdims=True)
    own = scaled[np.arange(len(class_ids)), class_ids]
    return float((np.log(np.exp(scaled).sum(axis=1)) - own).mean())
