"""Tensor plumbing that the trained families share: padding, range, loading, EMA, optimizers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from datagen.errors import ModelError
from datagen.generators.interface import Images

Network = TypeVar("Network", bound=nn.Module)

# Bounds what a hostile or mistyped config can make anyone allocate: 1 GB of float32.
MAX_PARAMETERS = 250_000_000


def pad_batch(
    seeds: Sequence[int], class_ids: Sequence[int], batch_size: int
) -> tuple[list[int], list[int]]:
    """Repeats the first request up to batch_size, so that the network sees one shape for ever."""
    if not 0 < len(seeds) <= batch_size or len(class_ids) != len(seeds):
        raise ValueError(f"{len(seeds)} seeds, {len(class_ids)} classes, batch {batch_size}")
    missing = batch_size - len(seeds)
    return list(seeds) + [seeds[0]] * missing, list(class_ids) + [class_ids[0]] * missing


def to_pixels_nhwc(images: torch.Tensor, bits: int) -> Images:
    """(N, C, H, W) float in [-1, 1] => (N, H, W, C) of 8 or 16 bits, rounded; with to_uint8_nhwc
    the only range conversion."""
    if bits == 8:
        return to_uint8_nhwc(images)
    # torch has next to nothing for uint16.
    scaled = images.float().add(1).mul_(32767.5).round_().clamp_(0, 65535).to(torch.int32)
    pixels = scaled.permute(0, 2, 3, 1).cpu().numpy().astype("<u2")
    return np.ascontiguousarray(pixels)


def to_uint8_nhwc(images: torch.Tensor) -> Images:
    """(N, C, H, W) float in [-1, 1] => (N, H, W, C) uint8, rounded."""
    scaled = images.float().add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def from_uint8_nhwc(images: Images, device: str = "cpu") -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, C, H, W) float32 in [-1, 1], converted on the device."""
    on_device = torch.from_numpy(images).to(device)
    return on_device.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def channels_last(network: Network) -> Network:
    """The same network with convolutions in NHWC memory order: about twice as fast on the CPU."""
    # nn.Module.to takes memory_format alone; its annotations forget that form.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def check_num_parameters(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Shapes of the network that `build` makes, found without allocating it.

    Raises ModelError if it holds more than MAX_PARAMETERS.
    """
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in build().state_dict().items()}
    total = sum(int(np.prod(shape, dtype=object)) for shape in shapes.values())
    if total > MAX_PARAMETERS:
        raise ModelError(
            f"network of {total:,} parameters: expected at most {MAX_PARAMETERS:,}; "
            "lower the sizes under network:"
        )
    return shapes


def load_network(build: Callable[[], Network], path: Path, *, device: str = "cpu") -> Network:
    """The network that `build` makes, with the weights of a safetensors file as float32.

    Raises ModelError unless names, shapes and values are exactly what the network needs.
    """
    from safetensors.torch import load_file

    expected = check_num_parameters(build)
    # A copy: load_file maps the file, and the network must outlive it.
    state = {k: v.to(torch.float32, copy=True) for k, v in load_file(path).items()}
    for name in sorted(expected.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else None
        if found != expected.get(name):
            raise ModelError(
                f"{path}: tensor {name}: expected shape {expected.get(name)}, found {found}; "
                "weights and config.json do not belong together: train or copy the model again"
            )
        if not bool(torch.isfinite(state[name]).all()):
            raise ModelError(f"{path}: tensor {name}: not finite; train or copy the model again")
    with torch.device("meta"):
        network = build()
    network.load_state_dict(state, assign=True)
    return channels_last(network.requires_grad_(False).to(device=device))


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
    """Inverse of flatten_optimizer; averages get their parameter's memory order back."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fields: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in take_prefix(state, f"{name}.").items():
        index, field = key.split(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        fields.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": fields})
