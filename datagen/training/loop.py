"""The one training loop, for every objective. Called by `datagen train`.

A run is a function of its recipe and its data: every draw of step k comes from (seed, k), so that
a resumed run ends with the weights of an undisturbed one. Progress is counted in images.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import TrainingError
from datagen.features import embed, kernel_distance, train_classifier
from datagen.generators.interface import ModelConfig, Objective
from datagen.generators.weights import from_uint8_nhwc
from datagen.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from datagen.training.dataset import RealImages
from datagen.training.model_recipe import ModelRecipe, Schedule

_EVALUATION_PER_CLASS = 200
_EVALUATION_BATCH = 100


@dataclass(frozen=True)
class Trained:
    """The best EMA weights by the held-out part, and how the run went."""

    weights: dict[str, torch.Tensor]
    progress: Progress


def model_recipe_digest(recipe: ModelRecipe) -> str:
    """Of all that shapes the weights at a given step: not of how long to train, nor of where the
    data lie, so that a run may be prolonged."""
    content = recipe.model_dump(mode="json")
    del content["schedule"]["num_images"], content["data"]["path"], content["description"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def train(
    recipe: ModelRecipe,
    objective: Objective,
    *,
    config: ModelConfig,
    train_part: RealImages,
    held_out: RealImages,
    folder: Path,
    max_seconds: float | None = None,
    report: Callable[[Progress, dict[str, float]], None] = lambda progress, losses: None,
) -> Trained:
    """Trains up to schedule.num_images, from the checkpoint in `folder` if there is one."""
    torch.set_num_threads(recipe.schedule.num_threads)
    digest = model_recipe_digest(recipe)
    latest, best = folder / "checkpoint.safetensors", folder / "best.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_checkpoint(latest, recipe_digest=digest)
    progress = Progress()
    if checkpoint is not None:
        objective.load_state(checkpoint.state)
        progress = checkpoint.progress
    judge = HeldOutJudge(train_part, held_out, config=config, seed=recipe.seed)
    schedule = recipe.schedule
    started, before = time.monotonic(), progress.seconds
    stop = False
    while progress.images_seen < schedule.num_images and not stop:
        losses = _one_step(objective, train_part, schedule, progress, seed=recipe.seed)
        progress.seconds = before + time.monotonic() - started
        stop = max_seconds is not None and progress.seconds - before >= max_seconds
        last = stop or progress.images_seen >= schedule.num_images
        report(progress, losses)
        if last or _passes(progress, schedule, schedule.evaluate_every_images):
            distance = judge.distance(objective)
            progress.history.append({"images": progress.images_seen, "kid": distance} | losses)
            if progress.best_distance is None or distance <= progress.best_distance:
                progress.best_distance = distance
                progress.best_images_seen = progress.images_seen
                save_checkpoint(
                    best, Checkpoint(progress, objective.ema_weights()), recipe_digest=digest
                )
        if last or _passes(progress, schedule, schedule.checkpoint_every_images):
            save_checkpoint(latest, Checkpoint(progress, objective.state()), recipe_digest=digest)
    kept = load_checkpoint(best, recipe_digest=digest)
    if kept is None:
        raise TrainingError(f"training {recipe.name} kept no weights: no step was made")
    return Trained(kept.state, progress)


def _one_step(
    objective: Objective,
    real: RealImages,
    schedule: Schedule,
    progress: Progress,
    *,
    seed: int,
) -> dict[str, float]:
    """One update, in place; raises TrainingError if a loss is not finite."""
    step_seed = hashlib.sha256(f"{seed}/{progress.step}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(step_seed[:4], "big"))
    rows = torch.randint(len(real), (schedule.batch_size,), generator=rng).numpy()
    batch = real.take(rows)
    losses = objective.step(
        from_uint8_nhwc(batch.images),
        torch.from_numpy(batch.class_ids),
        step=progress.step,
        learning_rate=learning_rate(schedule, progress.images_seen),
        ema_decay=ema_decay(schedule, progress.images_seen),
        rng=rng,
    )
    progress.step += 1
    progress.images_seen += schedule.batch_size
    bad = [name for name, value in losses.items() if not np.isfinite(value)]
    if bad:
        raise TrainingError(
            f"loss {bad[0]} is not finite at step {progress.step}; the last checkpoint is kept: "
            "lower schedule.learning_rate"
        )
    return losses


def learning_rate(schedule: Schedule, images_seen: int) -> float:
    """Warm-up, constant, then inverse square root (arXiv 2312.02696, equation 67)."""
    warm = min(1.0, (images_seen + schedule.batch_size) / max(1, schedule.warmup_images))
    decay = max(1.0, images_seen / schedule.decay_after_images)
    return float(schedule.learning_rate * warm / decay**0.5)


def ema_decay(schedule: Schedule, images_seen: int) -> float:
    """Half-life in images, short at first (Karras et al. 2022, arXiv 2206.00364, appendix F.2)."""
    halflife = min(schedule.ema_halflife_images, images_seen * schedule.ema_rampup)
    return float(0.5 ** (schedule.batch_size / max(halflife, 1e-8)))


def _passes(progress: Progress, schedule: Schedule, every: int) -> bool:
    """Whether the step just made crossed a multiple of `every` images."""
    before = progress.images_seen - schedule.batch_size
    return progress.images_seen // every > before // every


class HeldOutJudge:
    """Mean over classes of KID between samples and held-out images, on features of a small
    classifier trained on the training part."""

    def __init__(
        self, train_part: RealImages, held_out: RealImages, *, config: ModelConfig, seed: int
    ) -> None:
        self.num_classes = len(config.class_names)
        self.network = train_classifier(
            train_part.images[:20_000],
            train_part.class_ids[:20_000],
            num_classes=self.num_classes,
            num_epochs=4,
            seed=seed,
        )
        features = embed(self.network, held_out.images)
        self.features = [features[held_out.class_ids == c] for c in range(self.num_classes)]

    def distance(self, objective: Objective) -> float:
        sampler = objective.ema_sampler(_EVALUATION_BATCH)
        return float(np.mean([self._class_distance(sampler.sample, c) for c in self._classes()]))

    def _classes(self) -> list[int]:
        return [c for c in range(self.num_classes) if len(self.features[c]) > 1]

    def _class_distance(
        self, sample: Callable[[list[int], list[int]], NDArray[np.uint8]], class_id: int
    ) -> float:
        images = np.concatenate(
            [
                sample(
                    list(range(first, first + _EVALUATION_BATCH)), [class_id] * _EVALUATION_BATCH
                )
                for first in range(0, _EVALUATION_PER_CLASS, _EVALUATION_BATCH)
            ]
        )
        return kernel_distance(embed(self.network, images), self.features[class_id])
