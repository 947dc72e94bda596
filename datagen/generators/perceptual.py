"""How different two images look: the distance of their features in a network that was trained on
photographs. A loss for objectives; called by latent/train.py and open to the other families.

Source: Johnson et al. 2016 (arXiv 1603.08155), section 3.2, for the loss; Zhang et al. 2018 (arXiv
1801.03924), equation 1, for the distance, with every channel weighed alike: no learned heads.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F

from datagen.errors import TrainingError
from datagen.features.efficientnet import EfficientNetLite0Features, normalise

# Blocks of EfficientNet-Lite0 that are the last of their size: sides of 1/2, 1/4, 1/8, 1/16, 1/32.
_LAST_BLOCKS = (0, 2, 4, 10, 14)
# Below it the deepest features would see a single place. A power of two of the strides above.
_MIN_SIDE_PX = 64
_EPS = 1e-10


class PerceptualLoss(nn.Module):
    """Features of five depths of EfficientNet-Lite0, frozen; weights load once, here (4 MB).

    It holds no state of a training: keep it beside the modules that are stored, not among their
    children. Raises InputError if the package of the weights is not installed.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        super().__init__()
        # A copy: the network of the features is shared by the process, and stays on the CPU.
        network = dict(copy.deepcopy(EfficientNetLite0Features().network).named_children())
        self.stem = nn.Sequential(network["_conv_stem"], network["_bn0"], nn.ReLU6())
        self.blocks = nn.ModuleList(list(network["_blocks"].children())[: _LAST_BLOCKS[-1] + 1])
        self.requires_grad_(False).eval().to(device)

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Stays in evaluation: its batch statistics are those of the photographs."""
        return super().train(False)

    def forward(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """(): 0 for equal images, at most 4: the mean over layers, places and images.

        images, target: (N, C, H, W) float32, about [-1, 1], C is 1 (repeated) or 3, on one device;
        those with a side below 64 px are enlarged. Gradients reach images alone. Computed in
        float32 whatever autocast says. Raises TrainingError if shapes differ or C is another.
        """
        if images.shape != target.shape or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise TrainingError(
                f"perceptual loss: images {tuple(images.shape)} and target {tuple(target.shape)}; "
                "expected two of one shape (N, C, H, W) with 1 or 3 channels"
            )
        with torch.autocast(images.device.type, enabled=False):
            with torch.no_grad():
                wanted = self._features(target.float())
            found = self._features(images.float())
            distances = [(a - b).square().sum(1).mean() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(distances).mean()

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Of each layer (N, C, H, W), of length 1 at each place."""
        pixels = 127.5 * (_enlarged(images).expand(-1, 3, -1, -1) + 1)
        x, features = self.stem(normalise(pixels)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in _LAST_BLOCKS:
                features.append(x * (x.square().sum(1, keepdim=True) + _EPS).rsqrt())
        return features


def _enlarged(images: torch.Tensor) -> torch.Tensor:
    """Bilinear, by the smallest whole factor that brings both sides to 64 px.

    As products of matrices: the gradient of torch's interpolation on GPUs differs between runs.
    """
    height, width = images.shape[2:]
    factor = -(-_MIN_SIDE_PX // min(height, width))
    if factor == 1:
        return images
    rows, columns = (_weights(side, factor, images) for side in (height, width))
    return rows @ images @ columns.T


def _weights(side_px: int, factor: int, like: torch.Tensor) -> torch.Tensor:
    """(factor * side_px, side_px): of each pixel in each enlarged one."""
    identity = F.one_hot(torch.arange(side_px), side_px).to(like)
    return F.interpolate(identity[None], size=factor * side_px, mode="linear", align_corners=False)[
        0
    ].T
