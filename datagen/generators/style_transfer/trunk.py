"""The first layers of VGG16, and what Gatys et al. read off them."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from datagen.errors import InputError
from datagen.features.lpips_weights import REMEDY, read_arrays, weights_file

# relu1_1, relu2_1, relu3_1 and relu4_1: section 2.2 of the paper, without its fifth layer, whose
# Gram matrix says little of images of 128 px.
STYLE_LAYERS = (0, 2, 4, 7)
CONTENT_LAYER = 7
_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512)
_POOL_BEFORE = (2, 4, 7)
# What the trunk's weights expect of colours in [-1, 1]: LPIPS 0.1.
_UNSOUND = (OSError, pickle.UnpicklingError, KeyError, TypeError, ValueError, RuntimeError)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

Features = dict[int, torch.Tensor]


class VggTrunk(nn.Module):
    """(N, 3, H, W) float32 in [-1, 1] => the style layers, frozen. H and W are 8 or more."""

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(into, out, 3, padding=1) for into, out in itertools.pairwise(_CHANNELS)
        )
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> Features:
        x = (images - self.shift) / self.scale
        x = x.contiguous(memory_format=torch.channels_last)
        found = {}
        for number, convolution in enumerate(self.convolutions):
            if number in _POOL_BEFORE:
                x = F.max_pool2d(x, 2)
            x = F.relu(convolution(x))
            if number in STYLE_LAYERS:
                found[number] = x
        return found


def load_trunk(path: Path | None = None) -> VggTrunk:
    """path: of the weights; None for those of the installed package. Raises InputError."""
    path = path or weights_file("vgg16")
    if path is None:
        raise InputError(f"the weights of VGG16 are not installed; {REMEDY}")
    trunk = VggTrunk()
    try:
        tree = read_arrays(path)["VGG16_0"]
        state = {}
        for number in range(len(trunk.convolutions)):
            layer = tree[f"Conv_{number}"]
            kernel = np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1), np.float32)
            state[f"convolutions.{number}.weight"] = torch.from_numpy(kernel)
            state[f"convolutions.{number}.bias"] = torch.from_numpy(
                np.ascontiguousarray(layer["bias"], np.float32)
            )
        trunk.load_state_dict(state | {"shift": trunk.shift, "scale": trunk.scale})
    except _UNSOUND as error:
        raise InputError(f"VGG16 weights {path}: {error}; {REMEDY}") from error
    trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return trunk.requires_grad_(False).eval()


def gram(features: torch.Tensor) -> torch.Tensor:
    """(1, C, H, W) => (C, C): equation 3, over the number of places."""
    flat = features.flatten(2)[0]
    return flat @ flat.T / flat.shape[1]


def gram_distance(trunk: VggTrunk, image: torch.Tensor, style: torch.Tensor) -> float:
    """0 for equal textures: the mean over the style layers of the Frobenius distance of the Gram
    matrices, relative to the style's. image, style: (1, 3, H, W) float32 in [-1, 1]."""
    with torch.no_grad():
        found, wanted = trunk(image), trunk(style)
    distances = []
    for layer in STYLE_LAYERS:
        target = gram(wanted[layer])
        distances.append(float((gram(found[layer]) - target).norm() / target.norm()))
    return float(np.mean(distances))
