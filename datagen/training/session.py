"""From a model recipe to a model directory: data, training, figures, card. Called by the
command line (`datagen train`)."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen import __version__
from datagen.conditions import ConditionConfig
from datagen.errors import InputError, MachineError, ModelError, TrainingError
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.model_directory import (
    Model,
    find_model,
    load_model,
    save_model,
)
from datagen.generators.model_facts import (
    ModelFacts,
    SourceFact,
    Throughput,
    TrainingFacts,
)
from datagen.image_set import ImageSet
from datagen.training.admission import Admission, Admit, admit_unregistered
from datagen.training.card import model_card
from datagen.training.data_check import DataCheck, check_data
from datagen.training.dataset import (
    RealImages,
    check_split,
    read_training_images,
    real_images,
    split_held_out,
)
from datagen.training.fitting import fit_model
from datagen.training.judge import NUM_SHOWN, Drawn, HeldOutJudge, Judgement
from datagen.training.loop import LATEST_FILE, OnCheckpoint, Report, Trained, train
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest
from datagen.training.pairs import condition_config
from datagen.training.pictures import curves_png, sample_sheet
from datagen.training.privacy.plan import RELEASE_FILE, PrivateTraining, prepare_private
from datagen.training.processes import Processes, launched_processes

_TIMED_BATCHES = 3
_MAX_SHOWN_CLASSES = 100
CHECK_FILE = "data_check.json"
_ENDED = "ended"


def train_model(
    recipe: ModelRecipe,
    *,
    out: Path,
    work: Path,
    data: Path | None = None,
    max_seconds: float | None = None,
    num_images: int | None = None,
    init: str | None = None,
    must_resume: bool = False,
    models_dirs: Sequence[Path] = (),
    device: str = "cpu",
    report: Report = lambda progress, losses: None,
    on_check: Callable[[DataCheck], None] = lambda check: None,
    admit: Admit = admit_unregistered,
    on_checkpoint: OnCheckpoint = lambda folder: None,
) -> Model:
    """Trains, going on from the checkpoint in `work` if there is one, and writes `out`.

    init: the model to start from, found in models_dirs; in place of recipe.init. must_resume: from
    a checkpoint of this very recipe and these images. device: cpu,
    cuda or cuda:N. on_checkpoint: see training/loop.py.
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
    processes = launched_processes(device)
    parent = find_parent(recipe, init, models_dirs)
    recipe = _with(recipe, data=data, num_images=num_images, parent=parent)
    _check_processes(recipe, processes)
    if not processes.is_first:  # the first one speaks for all
        on_check, admit = (lambda check: None), (lambda source, reading: Admission())
    data_parts = _read_parts(recipe, on_check, admit, parent)
    if recipe.is_fitted:
        return _fit(recipe, data_parts, processes, work=work, out=out)
    begun = _Begun(recipe, _config_of(recipe, data_parts.images), data_parts, parent, processes)
    torch.set_num_threads(recipe.schedule.num_threads)
    with _alone_in(work) if processes.is_first else nullcontext():
        if processes.is_first:
            _begin_or_go_on(work, recipe, data_parts, must_resume=must_resume)
        processes.wait()  # what another training left may have been removed
        done = _train(
            begun,
            work=work,
            max_seconds=max_seconds,
            report=report,
            on_checkpoint=on_checkpoint,
        )
        if processes.is_first:
            model = _write(done, work=work, out=out)
            if done.is_whole:
                (work / _ENDED).write_text(model.digest + "\n")
    processes.wait()
    model = load_model(out)
    processes.wait()  # before whoever called moves it
    return model


def _fit(
    recipe: ModelRecipe, data_parts: _DataParts, processes: Processes, *, work: Path, out: Path
) -> Model:
    """A model that is fitted at once. One process does it; the others wait for it."""
    if processes.is_first:
        with _alone_in(work):
            _begin_or_go_on(work, recipe, data_parts, must_resume=False)
            fit_model(recipe, data_parts.images, data_parts.check, data_parts.admission, out=out)
            (work / _ENDED).write_text("fitted\n")
    processes.wait()
    return load_model(out)


@dataclass(frozen=True)
class _Begun:
    """What a training is of. recipe: with its parent and length as they are in this call."""

    recipe: ModelRecipe
    config: ModelConfig
    data_parts: _DataParts
    parent: Model | None
    processes: Processes


@dataclass(frozen=True)
class _Done:
    """A training at its end. judge: of the first process; None after private training."""

    begun: _Begun
    trained: Trained
    judge: HeldOutJudge | None
    private: PrivateTraining | None

    @property
    def is_whole(self) -> bool:
        """Nothing is left to train."""
        progress, schedule = self.trained.progress, self.begun.recipe.schedule
        return bool(progress.stopped) or progress.images_seen >= schedule.num_images


def _train(
    begun: _Begun,
    *,
    work: Path,
    max_seconds: float | None,
    report: Report,
    on_checkpoint: OnCheckpoint,
) -> _Done:
    recipe, config, data_parts = begun.recipe, begun.config, begun.data_parts
    private = judge = None
    if recipe.privacy is not None:
        private = prepare_private(recipe, config, data_parts.train_part, folder=work)
    elif begun.processes.is_first:
        judge = HeldOutJudge(
            data_parts.train_part, data_parts.held_out, config=config, seed=recipe.seed
        )
    trained = train(
        recipe,
        private.objective if private else _objective_of(begun),
        train_part=data_parts.train_part,
        judge=judge,
        condition=config.condition,
        images_unjudged=_images_unjudged(recipe),
        folder=work,
        private_draw=private.draw if private else None,
        processes=begun.processes,
        max_seconds=max_seconds,
        report=report,
        on_checkpoint=on_checkpoint,
    )
    return _Done(begun, trained, judge, private)


def _images_unjudged(recipe: ModelRecipe) -> int:
    """Raises TrainingError if the training would end before its weights can draw."""
    spec = GENERATORS[recipe.generator]
    options = spec.objective_options.model_validate(recipe.objective)
    num = spec.images_before_samples(options)
    if recipe.schedule.num_images <= num:
        raise TrainingError(
            f"schedule.num_images {recipe.schedule.num_images:,}: generator {spec.name} draws "
            f"nothing before {num:,} images with these options of its objective; raise it, or "
            "lower them"
        )
    return num


@dataclass(frozen=True)
class _DataParts:
    """images: all, in the order of training, as real. held_out: never trained on. admission: as
    which sources, those of the model to start from included."""

    images: ImageSet
    real: RealImages
    train_part: RealImages
    held_out: RealImages
    check: DataCheck
    admission: Admission


def _read_parts(
    recipe: ModelRecipe, on_check: Callable[[DataCheck], None], admit: Admit, parent: Model | None
) -> _DataParts:
    """The check comes before the split: it may say why there is none."""
    reading = read_training_images(recipe.data)
    check = check_data(reading)
    on_check(check)
    real = real_images(reading)
    train_part, held_out = split_held_out(
        real, held_out=recipe.data.held_out, seed=recipe.seed, groups=reading.images.groups
    )
    check_split(train_part, held_out, reading.images.class_names)
    admission = admit(recipe.data, reading).after(parent)
    return _DataParts(reading.images, real, train_part, held_out, check, admission)


def find_parent(recipe: ModelRecipe, init: str | None, models_dirs: Sequence[Path]) -> Model | None:
    """The model to start from: init, else recipe.init; its name, or its folder.

    Raises InputError if it can not be one, or is missing where there must be one.
    """
    spec, name = GENERATORS[recipe.generator], recipe.init if init is None else init
    if name is None:
        if spec.needs_init:
            raise InputError(
                f"init: generator {spec.name} starts from a trained model of generator "
                f"{' or '.join(spec.init_generators)}: name it in the model recipe, or with --init"
            )
        return None
    if recipe.privacy is not None:
        raise InputError(f"init {name!r}: a private training starts from no model; leave it out")
    model = load_model(Path(name)) if os.sep in name else find_model(name, models_dirs)
    if model.config.generator not in spec.init_generators:
        raise InputError(
            f"init {name!r}: a model of generator {model.config.generator}; generator {spec.name} "
            f"starts from one of {', '.join(spec.init_generators)}: name another model"
        )
    return model


def _check_processes(recipe: ModelRecipe, processes: Processes) -> None:
    if processes.num == 1:
        return
    if recipe.privacy is not None:
        raise TrainingError("privacy: a private training is of one process; launch it as one")
    if recipe.schedule.batch_size % processes.num:
        raise TrainingError(
            f"schedule.batch_size {recipe.schedule.batch_size}: expected a multiple of the "
            f"{processes.num} processes that train together"
        )


def _objective_of(begun: _Begun) -> Objective:
    recipe, config, parent = begun.recipe, begun.config, begun.parent
    spec = GENERATORS[recipe.generator]
    options = spec.objective_options.model_validate(recipe.objective)
    objective = spec.objective(config, options, seed=recipe.seed, device=begun.processes.device)
    if parent is not None and parent.config.condition != config.condition:
        raise InputError(
            f"init {parent.name!r}: it takes {_condition_text(parent.config.condition)}, and this "
            f"training has {_condition_text(config.condition)}; expected the same: name another "
            "model, or give data.condition the kind and the names of that one"
        )
    if parent is not None and parent.weights is not None:
        from safetensors.torch import load_file

        names = list(parent.config.class_names)
        rows = [names.index(name) if name in names else None for name in config.class_names]
        objective.init_from(load_file(parent.weights), rows)
    return objective


def _condition_text(condition: ConditionConfig | None) -> str:
    if condition is None:
        return "no condition"
    names = f" ({', '.join(condition.names)})" if condition.names else ""
    return f"a condition of kind {condition.kind}{names}"


def _with(
    recipe: ModelRecipe, *, data: Path | None, num_images: int | None, parent: Model | None
) -> ModelRecipe:
    """parent: by its digest, so that a checkpoint belongs to it; it gives the network if the recipe
    names none."""
    schedule, source = recipe.schedule, recipe.data
    if parent is not None:
        network = recipe.network or parent.config.network
        recipe = recipe.model_copy(update={"init": parent.digest, "network": network})
    if num_images is not None:
        schedule = schedule.model_copy(update={"num_images": num_images})
    if data is not None:
        source = source.model_copy(update={"path": data})
    return recipe.model_copy(update={"schedule": schedule, "data": source})


def _config_of(recipe: ModelRecipe, images: ImageSet) -> ModelConfig:
    """network holds every default, so that a later default never changes a trained model, and what
    the family reads elsewhere (lora: the digest of its pipeline)."""
    spec = GENERATORS[recipe.generator]
    network = spec.network_options.model_validate(recipe.network)
    height, width, channels = images.image_shape
    config = ModelConfig(
        generator=recipe.generator,
        class_names=images.class_names,
        image_size=(height, width),
        channels=channels,
        network=network.model_dump(mode="json"),
        condition=condition_config(recipe.data.condition, images),
    )
    return spec.fit(
        config, spec.options(), class_names=config.class_names, image_size=config.image_size
    )


@contextmanager
def _alone_in(work: Path) -> Iterator[None]:
    """Two trainings in one folder would overwrite each other's checkpoints."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        file = open(work / "lock", "wb")  # noqa: SIM115  closed by the block below
    except OSError as error:
        raise MachineError(
            f"{work} cannot be written ({error.strerror}); choose another home"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another training runs in {work}; wait for it, or choose another folder"
            ) from None
        yield


def _begin_or_go_on(
    work: Path, recipe: ModelRecipe, data_parts: _DataParts, *, must_resume: bool
) -> None:
    """A checkpoint goes on with the images it began with, wherever they lie now. One of a training
    that has ended, and whose model is written, gives way to that of another recipe or images; but
    not to or from a private one, which spends the budget of its images once."""
    notes = {"data.sha256": data_parts.real.digest(), "recipe.sha256": model_recipe_digest(recipe)}
    known = {name: _line(work / name) for name in notes}
    is_private = recipe.privacy is not None or (work / RELEASE_FILE).exists()
    if must_resume and (known != notes or not (work / LATEST_FILE).exists()):
        raise TrainingError(
            f"--resume: {work} holds no checkpoint of this model recipe and these images; leave "
            "--resume out to begin one"
        )
    if (work / _ENDED).exists() and known != notes and not is_private:
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
    elif known["data.sha256"] not in (None, notes["data.sha256"]):
        raise TrainingError(
            f"the training in {work} began with other images; give it those, "
            "or choose another folder"
        )
    try:
        for name, digest in notes.items():
            (work / name).write_text(digest + "\n")
        (work / CHECK_FILE).write_text(data_parts.check.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise MachineError(
            f"{work} cannot be written ({error.strerror}); make room, or choose another home"
        ) from None


def _line(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def _write(done: _Done, *, work: Path, out: Path) -> Model:
    """Measures the weights as they will be shipped, through the sampler that will load them."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    begun, private = done.begun, done.private
    recipe, config, device = begun.recipe, begun.config, begun.processes.device
    weights = {
        name: tensor.to(getattr(torch, recipe.weights_dtype)).contiguous()
        for name, tensor in done.trained.weights.items()
    }
    spec = GENERATORS[recipe.generator]
    options = spec.options()
    shipped = work / "shipped.safetensors"
    try:
        save_file(weights, shipped)
    except (OSError, SafetensorError) as error:
        raise MachineError(
            f"{shipped} cannot be written ({error}); the last checkpoint is kept: make room, and "
            "give the same command again"
        ) from None
    sampler = spec.load(config, shipped, options, batch_size=spec.batch_size, device=device)
    judgement = done.judge.judge(sampler) if done.judge else None
    drawn = Drawn(begun.data_parts.held_out, config)
    facts = ModelFacts(
        licence=recipe.data.licence,
        source=recipe.data.source,
        description=recipe.description,
        training=_training_facts(done, judgement),
        throughput=Throughput(
            seconds_per_image=_seconds_per_image(sampler, drawn),
            num_network_calls=spec.num_network_calls(options),
            device=device_name(device),
        ),
        privacy=private.facts(done.trained.progress.step) if private else None,
        parent=begun.parent.digest if begun.parent else None,
        code_version=__version__,
    )
    curves = curves_png(done.trained.progress.history)
    num_parameters = sum(tensor.numel() for tensor in weights.values())
    return save_model(
        out,
        config,
        weights,
        facts,
        card=model_card(
            recipe,
            config,
            facts,
            num_parameters=num_parameters,
            check=begun.data_parts.check,
            has_curves=curves is not None,
        ),
        sheet_png=sample_sheet(_shown(config, sampler, drawn)),
        curves_png=curves,
    )


def _training_facts(done: _Done, judgement: Judgement | None) -> TrainingFacts:
    """judgement: None after private training, whose facts hold nothing that was read off the images
    but how many there are."""
    begun, progress, judge = done.begun, done.trained.progress, done.judge
    recipe, data_parts = begun.recipe, begun.data_parts
    warnings = []
    if judgement is not None:
        names = begun.config.class_names
        warnings = judgement.diversity.warnings(names, generator=recipe.generator)
    return TrainingFacts(
        images_seen=progress.images_seen,
        best_images_seen=progress.best_images_seen,
        seconds=round(progress.seconds, 1),
        device=_trained_on(begun.processes, recipe.schedule.num_threads),
        kid_held_out=judgement.kid if judgement else None,
        figures=judgement.figures() if judgement else {},
        warnings=tuple(warnings),
        stopped=progress.stopped,
        sources=_source_facts(data_parts.admission, is_private=judge is None),
        generation_depth=data_parts.admission.depth,
        kid_real=judge.floor() if judge else None,
        num_train=len(data_parts.train_part),
        num_held_out=len(data_parts.held_out),
        fit=recipe.data.fit if recipe.data.size else None,
        held_out_by_group=data_parts.images.groups is not None,
        data_sha256=data_parts.real.without_pairs().digest() if judge else None,
        recipe_digest=model_recipe_digest(recipe),
        seed=recipe.seed,
    )


def _seconds_per_image(sampler: Sampler, drawn: Drawn) -> float:
    """On one thread; the fastest of a few batches, since other work only ever slows one down."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = sampler.batch_size
    times = []
    for batch in range(1 + _TIMED_BATCHES):
        seeds = list(range(batch * size, (batch + 1) * size))
        started = time.perf_counter()
        drawn.batch(sampler, seeds, [0] * size)
        times.append(time.perf_counter() - started)
    torch.set_num_threads(num_threads)
    return min(times[1:]) / size


def _shown(config: ModelConfig, sampler: Sampler, drawn: Drawn) -> list[NDArray[np.uint8]]:
    num = min(len(config.class_names), _MAX_SHOWN_CLASSES)
    rows = []
    for class_id in range(num):
        samples = drawn.samples(sampler, class_id, NUM_SHOWN)
        rows += drawn.shown(class_id, samples, with_real=False)
    return rows


def _source_facts(admission: Admission, *, is_private: bool) -> tuple[SourceFact, ...]:
    if not is_private:
        return admission.sources
    return tuple(fact.model_copy(update={"sha256": None}) for fact in admission.sources)


def _trained_on(processes: Processes, num_threads: int) -> str:
    name = device_name(processes.device)
    if processes.device == "cpu":
        name += f", {num_threads} thread{'' if num_threads == 1 else 's'}"
    return name if processes.num == 1 else f"{processes.num} x {name}"


def device_name(device: str) -> str:
    """Such as "AMD EPYC 7B13" or "NVIDIA H100 80GB HBM3"."""
    return cpu_name() if device == "cpu" else torch.cuda.get_device_name(device)


def cpu_name() -> str:
    """The processor's model, such as "AMD EPYC 7B13"."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.machine()
