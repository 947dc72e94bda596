"""The one training loop, for every objective. Called by training/session.py.

A run is a function of its recipe and its data: every draw of step k comes from (seed, k), so that
a resumed run ends with the weights of an undisturbed one. Progress is counted in images. A private
run is no such function: its rows and its noise are drawn unpredictably (training/privacy/).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.conditions import ConditionConfig
from datagen.errors import TrainingError
from datagen.generators.interface import Objective, Update
from datagen.generators.weights import from_uint8_nhwc
from datagen.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from datagen.training.dataset import RealImages
from datagen.training.judge import HeldOutJudge, Judgement
from datagen.training.memory import is_out_of_memory, too_large
from datagen.training.model_recipe import ModelRecipe, Schedule, model_recipe_digest
from datagen.training.pairs import planes_of
from datagen.training.pictures import save_grid
from datagen.training.processes import Processes
from datagen.training.sampling import RowSampler

LATEST_FILE, BEST_FILE = "checkpoint.safetensors", "best.safetensors"
GRIDS_FOLDER = "grids"
_EVALUATION_BATCH = 100
_LOSS_MEMORY = 0.99

Report = Callable[[Progress, dict[str, float]], None]
OnCheckpoint = Callable[[Path], None]
Draw = Callable[[], NDArray[np.int64]]


@dataclass(frozen=True)
class Trained:
    """The best EMA weights by the held-out part (of a private run, the last), and how it went."""

    weights: dict[str, torch.Tensor]
    progress: Progress


@dataclass(frozen=True)
class _Run:
    """What one call of train works with. judge: of the first process; None in a private run."""

    recipe: ModelRecipe
    digest: str
    objective: Objective
    train_part: RealImages
    sampler: RowSampler
    judge: HeldOutJudge | None
    images_unjudged: int
    private_draw: Draw | None
    processes: Processes
    folder: Path
    report: Report
    on_checkpoint: OnCheckpoint
    condition: ConditionConfig | None


def train(
    recipe: ModelRecipe,
    objective: Objective,
    *,
    train_part: RealImages,
    judge: HeldOutJudge | None,
    folder: Path,
    condition: ConditionConfig | None = None,
    images_unjudged: int = 0,
    private_draw: Draw | None = None,
    processes: Processes | None = None,
    max_seconds: float | None = None,
    report: Report = lambda progress, losses: None,
    on_checkpoint: OnCheckpoint = lambda folder: None,
) -> Trained:
    """Trains up to schedule.num_images, from the checkpoint in `folder` if there is one.

    judge: None in processes but the first, and in a private run: to choose weights by real images
    would tell of them. condition: that the objective's model takes. images_unjudged: before which
    the weights can not draw. private_draw: the rows of each step of such a run.
    max_seconds: of this call; 0 trains no step. on_checkpoint: called with the folder after each
    checkpoint; what it or `report` raises ends the training, which goes on from there later. An
    interruption that `report` raises (no Exception) ends it after one more checkpoint.
    Raises TrainingError if a loss is not finite, or memory or disk is full; the checkpoints before
    it stay.
    """
    torch.set_num_threads(recipe.schedule.num_threads)
    folder.mkdir(parents=True, exist_ok=True)
    processes = processes or Processes(1, 0, "cpu")
    digest = model_recipe_digest(recipe)
    progress = _resume(objective, folder, digest)
    some_time = max_seconds is None or max_seconds > 0
    if some_time and not progress.stopped and progress.images_seen < recipe.schedule.num_images:
        run = _Run(
            recipe=recipe,
            digest=digest,
            objective=objective,
            train_part=train_part,
            sampler=RowSampler(train_part.class_ids, balanced=recipe.schedule.class_balanced),
            judge=judge,
            images_unjudged=images_unjudged,
            private_draw=private_draw,
            processes=processes,
            folder=folder,
            report=report,
            on_checkpoint=on_checkpoint,
            condition=condition,
        )
        _steps(run, progress, max_seconds=max_seconds)
    kept = load_checkpoint(folder / BEST_FILE, recipe_digest=digest)
    if kept is None:
        why = progress.stopped or "none were evaluated yet; train longer"
        raise TrainingError(f"training {recipe.name} has kept no weights in {folder}: {why}")
    progress.best_distance = kept.progress.best_distance
    progress.best_images_seen = kept.progress.best_images_seen
    return Trained(kept.state, progress)


def _resume(objective: Objective, folder: Path, digest: str) -> Progress:
    """Loads the latest checkpoint into the objective; a new Progress if there is none."""
    checkpoint = load_checkpoint(folder / LATEST_FILE, recipe_digest=digest)
    if checkpoint is None:
        return Progress()
    objective.load_state(checkpoint.state)
    # Better weights that were kept after it are found, and kept, once more.
    return checkpoint.progress


def _steps(run: _Run, progress: Progress, *, max_seconds: float | None) -> None:
    """Steps until the images or the time are used up; evaluates and saves on the way."""
    schedule, processes = run.recipe.schedule, run.processes
    started, before = time.monotonic(), progress.seconds
    last = False
    while not last:
        losses = _one_step(run, progress)
        seconds = time.monotonic() - started
        progress.seconds = before + seconds
        last = progress.images_seen >= schedule.num_images
        if max_seconds is not None:
            last = processes.agree(last or seconds >= max_seconds)
        due = last or _passes(progress, schedule, schedule.evaluate_every_images)
        due = due and progress.images_seen > run.images_unjudged
        if processes.is_first:
            _report(run, progress, losses, is_judged=due)
        if due:
            if processes.is_first:
                _keep(run, progress)
            last = processes.agree(last or bool(progress.stopped))
        if last or _passes(progress, schedule, schedule.checkpoint_every_images):
            if processes.is_first:
                _save(run, progress)
            processes.wait()


def _report(run: _Run, progress: Progress, losses: dict[str, float], *, is_judged: bool) -> None:
    """is_judged: the weights of this step are, next. A checkpoint of before would skip that."""
    try:
        run.report(progress, losses)
    except Exception:
        raise
    except BaseException:
        if not is_judged:
            _save(run, progress)
        raise


def _save(run: _Run, progress: Progress) -> None:
    latest = Checkpoint(progress, run.objective.state())
    save_checkpoint(run.folder / LATEST_FILE, latest, recipe_digest=run.digest)
    run.on_checkpoint(run.folder)


def _keep(run: _Run, progress: Progress) -> None:
    """The average, if it is the best so far by the held-out part; always, if there is no judge."""
    judgement = None
    if run.judge is not None:
        judgement = _judged(run.judge, run.objective)
        grid = run.folder / GRIDS_FOLDER / f"{progress.images_seen:012d}.png"
        save_grid(grid, judgement.shown)
    progress.history.append(_figures(progress, judgement, run.recipe.schedule))
    best = progress.best_distance
    is_better = judgement is None or best is None or judgement.kid <= best
    copying = _copying(judgement, run.recipe.schedule)
    if is_better and not copying:
        progress.best_distance = None if judgement is None else judgement.kid
        progress.best_images_seen = progress.images_seen
        progress.num_worse = 0
        kept = Checkpoint(progress, run.objective.ema_weights())
        save_checkpoint(run.folder / BEST_FILE, kept, recipe_digest=run.digest)
    else:
        progress.num_worse += 1
    progress.stopped = copying or _stagnation(progress, run.recipe.schedule)


def _judged(judge: HeldOutJudge, objective: Objective) -> Judgement:
    """In smaller batches if memory is full. Raises TrainingError if not one image fits."""
    size = _EVALUATION_BATCH
    while True:
        try:
            return judge.judge(objective.ema_sampler(size))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if size == 1:
            raise TrainingError(
                "out of memory while judging the weights, on one image at a time; the last "
                "checkpoint is kept: lower data.image_size or the sizes under network"
            )
        size //= 2


def _figures(
    progress: Progress, judgement: Judgement | None, schedule: Schedule
) -> dict[str, float]:
    """One row of the history."""
    return {
        "images": progress.images_seen,
        "learning_rate": learning_rate(schedule, progress.images_seen),
        **({} if judgement is None else judgement.figures()),
        **progress.recent_losses,
    }


def _copying(judgement: Judgement | None, schedule: Schedule) -> str:
    share = None if judgement is None else judgement.copy_share
    most = schedule.max_copy_share
    if share is None or most is None or share <= most:
        return ""
    return (
        f"{share:.0%} of the samples single out one training image, above "
        f"schedule.max_copy_share {most:.0%}"
    )


def _stagnation(progress: Progress, schedule: Schedule) -> str:
    patience = schedule.stop_after_evaluations
    if patience is None or progress.num_worse < patience:
        return ""
    return f"{patience} evaluations in a row found no better weights"


def _one_step(run: _Run, progress: Progress) -> dict[str, float]:
    """One update, in place; raises TrainingError if a loss is not finite or memory is full."""
    schedule, processes = run.recipe.schedule, run.processes
    rng = _step_rng(f"{run.recipe.seed}/{progress.step}")
    if run.private_draw is not None:
        rows = run.private_draw()
    else:
        rows = run.sampler.draw(schedule.batch_size, rng)[processes.rank :: processes.num]
    batch = run.train_part.take(rows)
    images = from_uint8_nhwc(batch.images, processes.device)
    class_ids = torch.from_numpy(batch.class_ids).to(processes.device)
    update = Update(
        step=progress.step,
        images_seen=progress.images_seen,
        learning_rate=learning_rate(schedule, progress.images_seen),
        ema_decay=ema_decay(schedule, progress.images_seen),
        rng=rng,
        max_grad_norm=schedule.max_grad_norm,
    )
    if processes.num > 1:
        own_rng = _step_rng(f"{run.recipe.seed}/{progress.step}/{processes.rank}")
        update = replace(
            update, rng=own_rng, num_processes=processes.num, average=processes.average
        )
    if run.condition is not None:
        planes = planes_of(batch, run.condition, step_rng=update.rng, device=processes.device)
        update = replace(update, condition=planes)
    try:
        losses = run.objective.step(images, class_ids, update)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Alone: the other processes do not try with this one, and an exchange would wait for them.
        alone = replace(update, num_processes=1, average=None)
        raise too_large(
            schedule.batch_size,
            progress.step + 1,
            lambda size: run.objective.step(images[:size], class_ids[:size], _first(alone, size)),
            num_processes=processes.num,
        ) from None
    progress.step += 1
    progress.images_seen += schedule.batch_size
    _note_losses(progress, losses)
    return losses


def _first(update: Update, num: int) -> Update:
    """Of so many images of the step."""
    planes = update.condition
    return update if planes is None else replace(update, condition=planes[:num])


def _step_rng(name: str) -> torch.Generator:
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))


def _note_losses(progress: Progress, losses: dict[str, float]) -> None:
    """Raises TrainingError if one is not finite."""
    for name, value in losses.items():
        if not np.isfinite(value):
            raise TrainingError(
                f"loss {name} is not finite at step {progress.step}; the last checkpoint is kept: "
                "lower schedule.learning_rate"
            )
        before = progress.recent_losses.get(name, value)
        progress.recent_losses[name] = before + (1 - _LOSS_MEMORY) * (value - before)


def learning_rate(schedule: Schedule, images_seen: int) -> float:
    """Warm-up, then schedule.decay; see Schedule for the sources."""
    warm = min(1.0, (images_seen + schedule.batch_size) / max(1, schedule.warmup_images))
    rate = schedule.learning_rate * warm
    if schedule.decay == "inverse_sqrt":
        rate /= max(1.0, images_seen / schedule.decay_after_images) ** 0.5
    elif schedule.decay == "cosine":
        done = min(1.0, images_seen / schedule.num_images)
        rate *= 0.5 * (1 + math.cos(math.pi * done))
    return float(rate)


def ema_decay(schedule: Schedule, images_seen: int) -> float:
    """Half-life in images, short at first (Karras et al. 2022, arXiv 2206.00364, appendix F.2)."""
    halflife = min(schedule.ema_halflife_images, images_seen * schedule.ema_rampup)
    return float(0.5 ** (schedule.batch_size / max(halflife, 1e-8)))


def _passes(progress: Progress, schedule: Schedule, every: int) -> bool:
    """Whether the step just made crossed a multiple of `every` images."""
    before = progress.images_seen - schedule.batch_size
    return progress.images_seen // every > before // every
