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


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, with one scale for each output.

    Source: Krishnamoorthi 2018, arXiv 1806.08342, section 2.2: symmetric, per channel.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        self.register_buffer("weight", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: torch.Tensor, *args: Any) -> torch.Tensor:
        weight = self.weight.to(self.scale.dtype) * self.scale
        return functional.linear(x, weight, self.bias)


def hold_as_int8(network: nn.Module) -> None:
    """Every linear layer of it, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child.weight.numel() >= _MIN_WEIGHTS:
                setattr(module, name, Int8Linear(child))


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
