"""How fast: each model alone and the whole path, in turn, in one process.

Called by `datagen bench`. The whole path is a run from an empty catalog entry to a published
version: generate, judge, pack, finish, in a directory and SQLite of its own. The model alone makes
as many images, from seeds of the same kind, at the same batch shape, with the same loaded weights.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import PUBLISHED, Job
from datagen.catalog.schema import migrate
from datagen.catalog.units import is_active, unit_totals
from datagen.engine import Worker, load_sampler
from datagen.errors import InputError, JobError, NotFoundError
from datagen.generators import GENERATORS
from datagen.generators.interface import Images, Sampler, makes_images
from datagen.generators.model_directory import Model, load_model, model_names
from datagen.plan import attempt_seed
from datagen.recipe import Recipe, suggest
from datagen.resolve import ResolvedRecipe, resolve_recipe
from datagen.settings import Settings, load_settings
from datagen.stages.job import JobWork
from datagen.store import Store, open_store
from datagen.submission import open_or_create_job

Report = Callable[[str, int, int], None]

_NOISE_SIZE = (28, 28)
_NUM_CLASSES = 10
# Without --images: about so many seconds of the model alone, within these bounds. What a version
# costs whatever its size, some 75 ms of one core, weighs 75 us an image at 1,000 images.
_MODEL_S = 10.0
_MIN_IMAGES, _MAX_IMAGES = 1_000, 10_000
_FILTERS = [{"filter": "blank"}, {"filter": "duplicate"}]
# Those of recipes/fashion-quickstart.yaml.
_AUGMENTATIONS = [
    {"transform": "HorizontalFlip", "p": 0.5},
    {"transform": "Affine", "p": 0.3, "params": {"rotate": [-8, 8]}},
]


@dataclass(frozen=True)
class Measurement:
    """Medians over the rounds. images_per_s, overhead_core_us: of delivered images.

    overhead_core_us: CPU time of the whole path outside the model, an image. num_attempts: images
    that the model made for the delivered ones, rejected ones included.
    """

    generator: str
    model: str
    num_images: int
    num_attempts: int
    images_per_s: float
    model_images_per_s: float
    ratio: float
    overhead_core_us: float
    recipe: dict[str, Any]


@dataclass(frozen=True)
class _Round:
    seconds: float
    model_seconds: float
    overhead_s: float
    num_attempts: int


class Bench:
    """A home of its own, thrown away at the end, and the models of the user's."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """folder: an empty one."""
        if settings.models_dir.is_dir():
            (folder / "models").symlink_to(settings.models_dir)
        own = load_settings({}, home=folder)
        self.settings = replace(
            own, device=settings.device, threads_per_worker=settings.threads_per_worker
        )
        self.store = open_store(self.settings.store_url)
        self.catalog = Catalog(self.settings.database_url, self.settings.tenant)
        migrate(self.catalog)

    def measure(
        self,
        model: Model,
        *,
        num_images: int | None,
        rounds: int,
        augment: bool,
        report: Report,
    ) -> Measurement:
        """num_images: None chooses as many as take some seconds."""
        warm_up = max(_NUM_CLASSES, model.spec.batch_size)
        first = self._resolve(model, num_images=warm_up, seed=0, augment=augment)
        sampler = _TimedSampler(
            load_sampler(first, self.settings), one_thread=self.settings.threads_per_worker == 1
        )
        self._run(first, sampler)  # imports, kernels, first pages
        if num_images is None:
            num_images = _affordable(first, sampler)
        measured = []
        for turn in range(rounds):
            resolved = self._resolve(model, num_images=num_images, seed=1 + turn, augment=augment)
            report(f"{model.name}: model alone", 2 * turn, 2 * rounds)
            model_s = _sample_alone(resolved, sampler, num_images)
            report(f"{model.name}: whole path", 2 * turn + 1, 2 * rounds)
            measured.append(replace(self._run(resolved, sampler), model_seconds=model_s))
        seconds = statistics.median(each.seconds for each in measured)
        model_seconds = statistics.median(each.model_seconds for each in measured)
        overhead_s = statistics.median(each.overhead_s for each in measured)
        return Measurement(
            generator=model.config.generator,
            model=model.name,
            num_images=num_images,
            num_attempts=round(statistics.median(each.num_attempts for each in measured)),
            images_per_s=num_images / seconds,
            model_images_per_s=num_images / model_seconds,
            ratio=model_seconds / seconds,
            overhead_core_us=overhead_s / num_images * 1e6,
            recipe=resolved.recipe.to_json(),
        )

    def _resolve(
        self, model: Model, *, num_images: int, seed: int, augment: bool
    ) -> ResolvedRecipe:
        names = model.config.class_names or tuple(f"class-{i}" for i in range(_NUM_CLASSES))
        recipe = Recipe.model_validate(
            {
                "version": 1,
                "name": "bench",
                "seed": seed,
                "image_size": model.config.image_size if model.weights else _NOISE_SIZE,
                "classes": [
                    {"name": name, "count": (num_images + i) // len(names)}
                    for i, name in enumerate(names)
                    if num_images + i >= len(names)
                ],
                "generator": {"model": model.name},
                "filters": _FILTERS if model.weights else [],
                "augmentations": _AUGMENTATIONS if augment else [],
            }
        )
        return resolve_recipe(recipe, [self.settings.models_dir])

    def _run(self, resolved: ResolvedRecipe, sampler: _TimedSampler) -> _Round:
        """From a recipe to a published version."""
        before_s = sampler.core_seconds
        started, core_started = time.perf_counter(), time.process_time()
        job = open_or_create_job(self.catalog, resolved, self.settings)
        worker = _BenchWorker(self.catalog, self.store, self.settings, sampler=sampler)
        while is_active(self.catalog, job.id):
            worker.step(job.id)
        seconds = time.perf_counter() - started
        core_s = time.process_time() - core_started
        ended = get_job(self.catalog, job.id)
        if ended is None or ended.state != PUBLISHED:
            raise JobError(f"the benchmark's own run failed: {ended.error if ended else 'gone'}")
        return _Round(
            seconds=seconds,
            model_seconds=0.0,
            overhead_s=core_s - (sampler.core_seconds - before_s),
            num_attempts=int(unit_totals(self.catalog, job.id)["images_generated"]),
        )


class _TimedSampler:
    """Counts the CPU time that a sampler takes."""

    def __init__(self, sampler: Sampler, *, one_thread: bool) -> None:
        """one_thread: all of the model's work is on the caller's thread, so that others that run
        meanwhile are not taken for the model."""
        self.batch_size = sampler.batch_size
        self.core_seconds = 0.0
        self._sampler = sampler
        self._clock = time.thread_time if one_thread else time.process_time

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        started = self._clock()
        images = self._sampler.sample(seeds, class_ids)
        self.core_seconds += self._clock() - started
        return images


class _BenchWorker(Worker):
    """Works with a sampler that is loaded already."""

    def __init__(
        self, catalog: Catalog, store: Store, settings: Settings, *, sampler: _TimedSampler
    ) -> None:
        super().__init__(catalog, store, settings, owner="bench")
        self._sampler = sampler

    def _job_work(self, job: Job) -> JobWork:
        if job.id not in self._work:
            work = super()._job_work(job)
            self._work[job.id] = replace(work, load_sampler=lambda: self._sampler)
        return self._work[job.id]


def run_bench(
    settings: Settings,
    *,
    models: Sequence[Model],
    num_images: int | None,
    rounds: int,
    augment: bool,
    report: Report,
) -> list[Measurement]:
    with tempfile.TemporaryDirectory(prefix="datagen-bench-") as folder:
        bench = Bench(Path(folder), settings)
        try:
            return [
                bench.measure(
                    model, num_images=num_images, rounds=rounds, augment=augment, report=report
                )
                for model in models
            ]
        finally:
            bench.catalog.close()


def choose_models(names: Sequence[str], models_dir: Path) -> list[Model]:
    """names: of generators or models; of a generator the first model. Empty: every generator that
    has one. Raises NotFoundError."""
    known = {name: load_model(path) for name, path in model_names([models_dir]).items()}
    for name in names:
        if name in known and not _runs_alone(known[name]):
            raise InputError(
                f"model {name}: it draws conditions, or needs some; expected a model that makes "
                "images of a class alone"
            )
    known = {name: model for name, model in known.items() if _runs_alone(model)}
    first_of: dict[str, Model] = {}
    for model in known.values():
        first_of.setdefault(model.config.generator, model)
    if not names:
        return [first_of[generator] for generator in GENERATORS if generator in first_of]
    choices = {**known, **first_of}
    for name in names:
        if name in GENERATORS and name not in first_of:
            raise NotFoundError(
                f"there is no model of generator {name}; train one, or add one with "
                "`datagen models add DIR`"
            )
        if name not in choices:
            raise NotFoundError(f"no generator or model {name!r}{suggest(name, choices)}")
    return [choices[name] for name in names]


def _runs_alone(model: Model) -> bool:
    """Whether it makes images of nothing but seeds and classes: no family that reads words."""
    reads_words = hasattr(model.spec, "needs_prompt")
    return model.config.condition is None and makes_images(model.spec) and not reads_words


def machine(settings: Settings) -> dict[str, Any]:
    from datagen.training.session import cpu_name

    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": settings.threads_per_worker,
        "device": settings.device,
        "load": os.getloadavg()[0],
    }


def _affordable(resolved: ResolvedRecipe, sampler: _TimedSampler) -> int:
    """As many images as the model makes in _MODEL_S, in whole batches."""
    seconds = _sample_alone(resolved, sampler, sampler.batch_size)
    batches = round(_MODEL_S / seconds)
    return max(_MIN_IMAGES, min(_MAX_IMAGES, batches * sampler.batch_size))


def _sample_alone(resolved: ResolvedRecipe, sampler: _TimedSampler, num_images: int) -> float:
    """Seconds for as many images, class by class as the engine makes them."""
    classes, ids = resolved.recipe.classes, resolved.class_ids
    per_class = -(-num_images // len(classes))
    places = [divmod(place, per_class) for place in range(num_images)]
    seconds = 0.0
    for first in range(0, num_images, sampler.batch_size):
        batch = places[first : first + sampler.batch_size]
        seeds = [attempt_seed(resolved.seed, classes[c].name, ordinal, 0) for c, ordinal in batch]
        started = time.perf_counter()
        sampler.sample(seeds, [ids[c] for c, _ in batch])
        seconds += time.perf_counter() - started
    return seconds
