"""The one training loop, for every objective. Called by training/session.py.

A run is a function of its recipe and its data: every draw of step k comes from (seed, k), so that
a resumed run ends with the weights of an undisturbed one. Progress is counted in images. A private
run is no such function: its rows and its noise are drawn unpredictably (training/privacy/).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import TrainingError
from datagen.generators.interface import ModelConfig, Objective, Update
from datagen.generators.weights import from_uint8_nhwc
from datagen.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from datagen.training.dataset import RealImages
from datagen.training.judge import HeldOutJudge
from datagen.training.model_recipe import ModelRecipe, Schedule, model_recipe_digest

LATEST_FILE, BEST_FILE = "checkpoint.safetensors", "best.safetensors"
_EVALUATION_BATCH = 100

Report = Callable[[Progress, dict[str, float]], None]
Draw = Callable[[], NDArray[np.int64]]


@dataclass(frozen=True)
class Trained:
    """The best EMA weights by the held-out part (of a private run, the last), and how it went."""

    weights: dict[str, torch.Tensor]
    progress: Progress


def train(
    recipe: ModelRecipe,
    objective: Objective,
    *,
    config: ModelConfig,
    train_part: RealImages,
    held_out: RealImages,
    folder: Path,
    private_draw: Draw | None = None,
    max_seconds: float | None = None,
    report: Report = lambda progress, losses: None,
) -> Trained:
    """Trains up to schedule.num_images, from the checkpoint in `folder` if there is one.

    private_draw: the rows of each step of a private run. Nothing is judged then: to choose weights
    by real images would tell of them.
    max_seconds: of this call; 0 trains no step. Raises TrainingError if a loss is not finite; the
    checkpoints before it stay.
    """
    torch.set_num_threads(recipe.schedule.num_threads)
    folder.mkdir(parents=True, exist_ok=True)
    digest = model_recipe_digest(recipe)
    progress = _resume(objective, folder, digest)
    some_time = max_seconds is None or max_seconds > 0
    if some_time and progress.images_seen < recipe.schedule.num_images:
        _run(
            recipe,
            objective,
            judge=None
            if private_draw
            else HeldOutJudge(train_part, held_out, config=config, seed=recipe.seed),
            train_part=train_part,
            private_draw=private_draw,
            progress=progress,
            folder=folder,
            max_seconds=max_seconds,
            report=report,
        )
    kept = load_checkpoint(folder / BEST_FILE, recipe_digest=digest)
    if kept is None:
        raise TrainingError(
            f"training {recipe.name} has kept no weights in {folder}: none were evaluated yet; "
            "train longer"
        )
    return Trained(kept.state, progress)


def _resume(objective: Objective, folder: Path, digest: str) -> Progress:
    """Loads the latest checkpoint into the objective; a new Progress if there is none."""
    checkpoint = load_checkpoint(folder / LATEST_FILE, recipe_digest=digest)
    if checkpoint is None:
        return Progress()
    objective.load_state(checkpoint.state)
    progress = checkpoint.progress
    # A run killed between two checkpoints may have kept better weights than the latest one knows.
    best = load_checkpoint(folder / BEST_FILE, recipe_digest=digest)
    if best is not None:
        progress.best_distance = best.progress.best_distance
        progress.best_images_seen = best.progress.best_images_seen
    return progress


def _run(
    recipe: ModelRecipe,
    objective: Objective,
    *,
    judge: HeldOutJudge | None,
    train_part: RealImages,
    private_draw: Draw | None,
    progress: Progress,
    folder: Path,
    max_seconds: float | None,
    report: Report,
) -> None:
    """Steps until the images or the time are used up; evaluates and saves on the way."""
    schedule, digest = recipe.schedule, model_recipe_digest(recipe)
    started, before = time.monotonic(), progress.seconds
    last = False
    while not last:
        losses = _one_step(
            objective, train_part, schedule, progress, seed=recipe.seed, private_draw=private_draw
        )
        seconds = time.monotonic() - started
        progress.seconds = before + seconds
        last = progress.images_seen >= schedule.num_images
        last = last or (max_seconds is not None and seconds >= max_seconds)
        report(progress, losses)
        if last or _passes(progress, schedule, schedule.evaluate_every_images):
            _keep(objective, judge, progress, losses, path=folder / BEST_FILE, digest=digest)
        if last or _passes(progress, schedule, schedule.checkpoint_every_images):
            latest = Checkpoint(progress, objective.state())
            save_checkpoint(folder / LATEST_FILE, latest, recipe_digest=digest)


def _keep(
    objective: Objective,
    judge: HeldOutJudge | None,
    progress: Progress,
    losses: dict[str, float],
    *,
    path: Path,
    digest: str,
) -> None:
    """The average, if it is the best so far by the held-out part; always, if there is no judge."""
    distance = None if judge is None else judge.distance(objective.ema_sampler(_EVALUATION_BATCH))
    judged = {} if distance is None else {"kid": distance}
    progress.history.append({"images": progress.images_seen} | judged | losses)
    best = progress.best_distance
    if distance is None or best is None or distance <= best:
        progress.best_distance = distance
        progress.best_images_seen = progress.images_seen
        kept = Checkpoint(progress, objective.ema_weights())
        save_checkpoint(path, kept, recipe_digest=digest)


def _one_step(
    objective: Objective,
    real: RealImages,
    schedule: Schedule,
    progress: Progress,
    *,
    seed: int,
    private_draw: Draw | None,
) -> dict[str, float]:
    """One update, in place; raises TrainingError if a loss is not finite."""
    step_seed = hashlib.sha256(f"{seed}/{progress.step}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(step_seed[:4], "big"))
    if private_draw is not None:
        rows = private_draw()
    else:
        rows = torch.randint(len(real), (schedule.batch_size,), generator=rng).numpy()
    batch = real.take(rows)
    update = Update(
        step=progress.step,
        images_seen=progress.images_seen,
        learning_rate=learning_rate(schedule, progress.images_seen),
        ema_decay=ema_decay(schedule, progress.images_seen),
        rng=rng,
    )
    losses = objective.step(
        from_uint8_nhwc(batch.images), torch.from_numpy(batch.class_ids), update
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
