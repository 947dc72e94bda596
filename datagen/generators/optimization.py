"""What the objectives share of one step: precision, one descent, a start from another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from datagen.errors import ModelError
from datagen.generators.interface import Update


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """precision: float32 or bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def descend(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    update: Update,
    *,
    max_grad_norm: float | None = None,
) -> torch.Tensor | None:
    """One step down the loss, gradients clipped to update.max_grad_norm, else to max_grad_norm.

    Returns their norm before clipping, () float32; None if they were not clipped.
    """
    optimizer.param_groups[0]["lr"] = update.learning_rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [p for p in optimizer.param_groups[0]["params"] if p.grad is not None]
    if update.average is not None:
        update.average([p.grad for p in parameters if p.grad is not None])
    limit = update.max_grad_norm or max_grad_norm
    norm = None if limit is None else torch.nn.utils.clip_grad_norm_(parameters, limit)
    optimizer.step()
    return norm


def transferred(
    own: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    *,
    class_rows: Sequence[int | None],
    class_tensors: Sequence[str],
) -> dict[str, torch.Tensor]:
    """weights, with the rows of class_tensors in the order of the own classes; a new class starts
    as the mean of the others'. class_rows: one of each row of the own tensors.

    Raises ModelError if a name or shape differs otherwise.
    """
    state = {}
    for name in sorted(own.keys() | weights.keys()):
        if name not in own or name not in weights:
            where = "this training" if name in own else "the model to start from"
            raise ModelError(f"init: only {where} has a tensor {name}; {_REMEDY}")
        value = weights[name].float()
        if name in class_tensors:
            mean = value.mean(0)
            value = torch.stack([mean if row is None else value[row] for row in class_rows])
        if value.shape != own[name].shape:
            raise ModelError(
                f"init: tensor {name} is {tuple(value.shape)} in the model to start from, expected "
                f"{tuple(own[name].shape)}; {_REMEDY}"
            )
        state[name] = value
    return state


_REMEDY = "give the model recipe that model's network and image size"
