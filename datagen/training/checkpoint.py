"""Checkpoints: one safetensors file, replaced atomically. Called by training/loop.py."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.errors import MachineError, TrainingError

if TYPE_CHECKING:
    import torch


@dataclass
class Progress:
    """Where a training is. best_distance: of the best EMA so far, on the held-out part.
    recent_losses: averages over about the last hundred steps. num_worse: evaluations since the
    best. stopped: why it ended before its time, if it did."""

    step: int = 0
    images_seen: int = 0
    seconds: float = 0.0
    best_distance: float | None = None
    best_images_seen: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    recent_losses: dict[str, float] = field(default_factory=dict)
    num_worse: int = 0
    stopped: str = ""


@dataclass(frozen=True)
class Checkpoint:
    progress: Progress
    state: dict[str, torch.Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, recipe_digest: str) -> None:
    """Raises MachineError if it cannot be written whole; the one before it stays then."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_suffix(".tmp")
    tensors = {k: v.detach().contiguous().clone() for k, v in checkpoint.state.items()}
    metadata = {
        "progress": json.dumps(asdict(checkpoint.progress)),
        "recipe": recipe_digest,
        "sha256": _digest_of(tensors),
    }
    try:
        save_file(tensors, temporary, metadata=metadata)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise MachineError(
            f"checkpoint {path} cannot be written ({error}); the one before it is kept: make room, "
            "and give the same command again"
        ) from None


def load_checkpoint(path: Path, *, recipe_digest: str) -> Checkpoint | None:
    """Returns None if there is none.

    Raises TrainingError if it is damaged or belongs to another recipe.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        progress = Progress(**json.loads(metadata["progress"]))
        found = _digest_of(state)
        if metadata.get("sha256", found) != found:
            raise ValueError("its numbers are not those that were written")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"checkpoint {path} is damaged ({error}); remove the folder {path.parent} to train anew"
        ) from None
    if metadata.get("recipe") != recipe_digest:
        raise TrainingError(
            f"checkpoint {path} was made by another model recipe; "
            "remove it, or train into another folder"
        )
    return Checkpoint(progress, state)


def _digest_of(tensors: dict[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
