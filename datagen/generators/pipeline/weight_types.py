"""Weights held in eight bits, and computed with in the pipeline's own type. Called by loading.py.

Weights alone are rounded: a scale that came from a batch's activations would let an image depend on
its neighbours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

# Layers of few weights gain nothing, and first and last ones lose most.
_MIN_WEIGHTS = 64


class Int8Layer(nn.Module):
    """A linear layer or a convolution whose weights are int8, with one scale for each output.

    Source: Krishnamoorthi 2018, arXiv 1806.08342, section 2.2: symmetric, per channel.
    """

    stored: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        scale = largest.clamp_min(1e-12) / 127
        self.register_buffer("stored", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.to(layer.weight.dtype))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        for name in ("in_features", "out_features", "in_channels", "out_channels"):
            if hasattr(layer, name):  # diffusers looks at them
                setattr(self, name, getattr(layer, name))
        self.places: dict[str, Any] | None = None
        if isinstance(layer, nn.Conv2d):
            names = ("stride", "padding", "dilation", "groups")
            self.places = {name: getattr(layer, name) for name in names}

    @property
    def weight(self) -> torch.Tensor:
        """As it is computed with: diffusers looks at its type too."""
        return self.stored.to(self.scale.dtype) * self.scale

    def forward(self, x: torch.Tensor, *args: Any) -> torch.Tensor:
        if self.places is None:
            return functional.linear(x, self.weight, self.bias)
        return functional.conv2d(x, self.weight, self.bias, **self.places)


def hold_as_int8(network: nn.Module) -> None:
    """Every linear layer and convolution of it, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Linear | nn.Conv2d) or child.weight.numel() < _MIN_WEIGHTS:
                continue
            if getattr(child, "padding_mode", "zeros") == "zeros":
                setattr(module, name, Int8Layer(child))


def hold_as_float8(network: Any, dtype: torch.dtype) -> None:
    """Convolutions and linear layers, in place; norms and embeddings stay. network: diffusers'."""
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)


def held_bytes(networks: list[nn.Module]) -> int:
    """Of parameters and buffers, each counted once."""
    tensors = {
        id(tensor): tensor
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    }
    return sum(tensor.nbytes for tensor in tensors.values())
