"""Tensor plumbing that the trained families share: padding, range, EMA, flat optimizer state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from datagen.generators.interface import Images


def pad_batch(
    seeds: Sequence[int], class_ids: Sequence[int], batch_size: int
) -> tuple[list[int], list[int]]:
    """Repeats the first request up to batch_size, so that the network sees one shape for ever."""
    if not 0 < len(seeds) <= batch_size:
        raise ValueError(f"{len(seeds)} seeds for a batch of {batch_size}")
    missing = batch_size - len(seeds)
    return list(seeds) + [seeds[0]] * missing, list(class_ids) + [class_ids[0]] * missing


def to_uint8_nhwc(images: torch.Tensor) -> Images:
    """(N, C, H, W) float in [-1, 1] => (N, H, W, C) uint8, rounded; the only range conversion."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8_nhwc(images: Images) -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(ema.parameters()), list(network.parameters()), 1 - decay)


def take_prefix(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def flatten_optimizer(name: str, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Adam's state as flat tensors `name.{parameter index}.{field}`."""
    return {
        f"{name}.{index}.{field}": value
        for index, fields in optimizer.state_dict()["state"].items()
        for field, value in fields.items()
    }


def load_optimizer(
    name: str, optimizer: torch.optim.Optimizer, state: dict[str, torch.Tensor]
) -> None:
    fields: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in take_prefix(state, f"{name}.").items():
        index, field = key.split(".")
        fields.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": fields})
