"""From a model recipe to a model directory: data, training, figures, card. Called by the
command line (`datagen train`)."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from datagen.errors import ModelError, TrainingError
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.model_directory import (
    Model,
    ModelFacts,
    Throughput,
    TrainingFacts,
    save_model,
)
from datagen.image_set import ImageSet
from datagen.images import contact_sheet, encode_png
from datagen.training.card import model_card
from datagen.training.data_check import DataCheck, check_data
from datagen.training.dataset import (
    RealImages,
    read_training_images,
    real_images,
    split_held_out,
)
from datagen.training.judge import HeldOutJudge, sample_class
from datagen.training.loop import Report, Trained, train
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest
from datagen.training.privacy.plan import PrivateTraining, prepare_private

_SHEET_COLUMNS, _SHEET_SIDE_PX, _SHEET_MAX_PIXELS = 10, 56, 4_000_000
_TIMED_BATCHES = 3
CHECK_FILE = "data_check.json"


def train_model(
    recipe: ModelRecipe,
    *,
    out: Path,
    work: Path,
    data: Path | None = None,
    max_seconds: float | None = None,
    num_images: int | None = None,
    report: Report = lambda progress, losses: None,
    on_check: Callable[[DataCheck], None] = lambda check: None,
) -> Model:
    """Trains, going on from the checkpoint in `work` if there is one, and writes `out`.

    data: in place of data.path. max_seconds: of training in this call; 0 writes the best weights so
    far. num_images: in place of schedule.num_images. report: called after each step.
    on_check: called with what is known of the images before they are trained on; it is kept in
    `work` as data_check.json.
    Raises InputError for bad data, ModelError if `out` exists, TrainingError if training fails.
    """
    if os.path.lexists(out):
        raise ModelError(
            f"model {out} exists, and a model never changes; remove it, or choose another place"
        )
    recipe = _with(recipe, data=data, num_images=num_images)
    data_parts = _read_parts(recipe, on_check)
    train_part, held_out = data_parts.train_part, data_parts.held_out
    config = _config_of(recipe, data_parts.images)
    with _alone_in(work):
        _check_same_data(work, data_parts.real)
        (work / CHECK_FILE).write_text(data_parts.check.model_dump_json(indent=2) + "\n")
        private = None
        if recipe.privacy is not None:
            private = prepare_private(recipe, config, train_part, folder=work)
        trained = train(
            recipe,
            private.objective if private else _objective_of(recipe, config),
            config=config,
            train_part=train_part,
            held_out=held_out,
            folder=work,
            private_draw=private.draw if private else None,
            max_seconds=max_seconds,
            report=report,
        )
        judge = None
        if private is None:
            judge = HeldOutJudge(train_part, held_out, config=config, seed=recipe.seed)
        return _write(recipe, config, trained, judge, private, data_parts, work=work, out=out)


@dataclass(frozen=True)
class _DataParts:
    """images: all, in the order of training, as real. held_out: never trained on."""

    images: ImageSet
    real: RealImages
    train_part: RealImages
    held_out: RealImages
    check: DataCheck


def _read_parts(recipe: ModelRecipe, on_check: Callable[[DataCheck], None]) -> _DataParts:
    """The check comes before the split: it may say why there is none."""
    reading = read_training_images(recipe.data)
    check = check_data(reading)
    on_check(check)
    real = real_images(reading)
    train_part, held_out = split_held_out(
        real, held_out=recipe.data.held_out, seed=recipe.seed, groups=reading.images.groups
    )
    return _DataParts(reading.images, real, train_part, held_out, check)


def _objective_of(recipe: ModelRecipe, config: ModelConfig) -> Objective:
    spec = GENERATORS[recipe.generator]
    options = spec.objective_options.model_validate(recipe.objective)
    return spec.objective(config, options, seed=recipe.seed)


def _with(recipe: ModelRecipe, *, data: Path | None, num_images: int | None) -> ModelRecipe:
    schedule, source = recipe.schedule, recipe.data
    if num_images is not None:
        schedule = schedule.model_copy(update={"num_images": num_images})
    if data is not None:
        source = source.model_copy(update={"path": data})
    return recipe.model_copy(update={"schedule": schedule, "data": source})


def _config_of(recipe: ModelRecipe, images: ImageSet) -> ModelConfig:
    """network holds every default, so that a later default never changes a trained model."""
    network = GENERATORS[recipe.generator].network_options.model_validate(recipe.network)
    height, width, channels = images.image_shape
    return ModelConfig(
        generator=recipe.generator,
        class_names=images.class_names,
        image_size=(height, width),
        channels=channels,
        network=network.model_dump(mode="json"),
    )


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Two trainings in one folder would overwrite each other's checkpoints."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another training runs in {work}; wait for it, or choose another folder"
            ) from None
        yield


def _check_same_data(work: Path, real: RealImages) -> None:
    """A checkpoint goes on with the images it began with, wherever they lie now."""
    note, digest = work / "data.sha256", real.digest()
    if not note.exists():
        note.write_text(digest + "\n")
    elif note.read_text().strip() != digest:
        raise TrainingError(
            f"the training in {work} began with other images; give it those, "
            "or choose another folder"
        )


def _write(
    recipe: ModelRecipe,
    config: ModelConfig,
    trained: Trained,
    judge: HeldOutJudge | None,
    private: PrivateTraining | None,
    data_parts: _DataParts,
    *,
    work: Path,
    out: Path,
) -> Model:
    """Measures the weights as they will be shipped, through the sampler that will load them."""
    from safetensors.torch import save_file

    weights = {
        name: tensor.to(getattr(torch, recipe.weights_dtype)).contiguous()
        for name, tensor in trained.weights.items()
    }
    spec = GENERATORS[recipe.generator]
    options = spec.options()
    shipped = work / "shipped.safetensors"
    save_file(weights, shipped)
    sampler = spec.load(config, shipped, options, batch_size=spec.batch_size)
    facts = ModelFacts(
        licence=recipe.data.licence,
        source=recipe.data.source,
        description=recipe.description,
        training=_training_facts(recipe, trained, judge, data_parts, sampler),
        throughput=Throughput(
            seconds_per_image=_seconds_per_image(sampler),
            num_network_calls=spec.num_network_calls(options),
            device=cpu_name(),
        ),
        privacy=private.facts(trained.progress.step) if private else None,
    )
    num_parameters = sum(tensor.numel() for tensor in weights.values())
    return save_model(
        out,
        config,
        weights,
        facts,
        card=model_card(
            recipe, config, facts, num_parameters=num_parameters, check=data_parts.check
        ),
        sheet_png=_sheet(config, sampler),
    )


def _training_facts(
    recipe: ModelRecipe,
    trained: Trained,
    judge: HeldOutJudge | None,
    data_parts: _DataParts,
    sampler: Sampler,
) -> TrainingFacts:
    """judge: None after private training, whose facts hold nothing that was read off the images but
    how many there are."""
    progress = trained.progress
    threads = recipe.schedule.num_threads
    return TrainingFacts(
        images_seen=progress.images_seen,
        best_images_seen=progress.best_images_seen,
        seconds=round(progress.seconds, 1),
        device=f"{cpu_name()}, {threads} thread{'' if threads == 1 else 's'}",
        kid_held_out=judge.distance(sampler) if judge else None,
        kid_real=judge.floor() if judge else None,
        num_train=len(data_parts.train_part),
        num_held_out=len(data_parts.held_out),
        fit=recipe.data.fit if recipe.data.size else None,
        held_out_by_group=data_parts.images.groups is not None,
        data_sha256=data_parts.real.digest() if judge else None,
        recipe_digest=model_recipe_digest(recipe),
        seed=recipe.seed,
    )


def _seconds_per_image(sampler: Sampler) -> float:
    """On one thread; the fastest of a few batches, since other work only ever slows one down."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = sampler.batch_size
    times = []
    for batch in range(1 + _TIMED_BATCHES):
        seeds = list(range(batch * size, (batch + 1) * size))
        started = time.perf_counter()
        sampler.sample(seeds, [0] * size)
        times.append(time.perf_counter() - started)
    torch.set_num_threads(num_threads)
    return min(times[1:]) / size


def _sheet(config: ModelConfig, sampler: Sampler) -> bytes:
    """A PNG of a row of samples for each class, or for as many of the first as a page holds."""
    height, width = config.image_size
    scale = max(1, _SHEET_SIDE_PX // max(height, width))
    num_rows = max(1, _SHEET_MAX_PIXELS // (_SHEET_COLUMNS * height * width * scale**2))
    images = [
        image
        for class_id in range(min(len(config.class_names), num_rows))
        for image in sample_class(sampler, class_id, _SHEET_COLUMNS)
    ]
    return encode_png(contact_sheet(images, columns=_SHEET_COLUMNS, scale=scale))


def cpu_name() -> str:
    """The processor's model, such as "AMD EPYC 7B13"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.machine()
