"""What a recipe will cost: units, shards, bytes and time, before anything is made.

Called by `datagen plan`. Nothing here grows with the number of images.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Literal

from datagen.augment import Augmenter
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job, measured_throughput
from datagen.catalog.versions import list_versions
from datagen.embedded import published_job
from datagen.engine import load_sampler
from datagen.filters import FILTERS
from datagen.generators.interface import Images
from datagen.images import encode_png
from datagen.plan import Plan, attempt_seed, augmentation_seed
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.submission import plan_unit_size

Basis = Literal["pilot", "earlier runs", "model card", "unknown"]

PILOT_IMAGES = 8

# Core seconds that an image costs beside its model: scores, judging, augmentation, PNG, tar, rows.
_PATH_S_PER_IMAGE = 350e-6
_TAR_BLOCK_BYTES = 512
_RECORD_BYTES = 1024  # a sample's JSON, padded
_INDEX_BYTES = 200  # a sample's row in the Parquet index
# PNG bytes to raw bytes, where nothing was measured: Fashion-MNIST gives 0.65, noise 1.
_PNG_RATIO = {True: 0.7, False: 1.0}
_TEXT_BYTES = 150  # text chunks of a PNG
_VERSIONS_LOOKED_AT = 20


@dataclass(frozen=True)
class Pilot:
    """A few first attempts, made and judged but not kept. rejected: reason -> images."""

    num_images: int
    seconds_per_image: float
    png_bytes: float
    rejected: dict[str, int] = field(default_factory=dict)

    @property
    def attempts_per_image(self) -> float:
        """Cautious where all were rejected: as if the next one passed."""
        passed = self.num_images - sum(self.rejected.values())
        return self.num_images / passed if passed else self.num_images + 1


@dataclass(frozen=True)
class Forecast:
    """counts: class name -> split -> images. dataset_bytes: of the published version.

    cache_bytes: of the raw attempts kept beside it. seconds: None if nobody measured the model.
    published: the version that exists already, as NAME@V.
    """

    counts: dict[str, dict[str, int]]
    num_images: int
    units: int
    shards: int
    dataset_bytes: int
    cache_bytes: int
    bytes_basis: Basis
    seconds: float | None
    seconds_per_image: float | None
    seconds_basis: Basis
    workers: int
    published: str | None
    pilot: Pilot | None


def forecast(
    resolved: ResolvedRecipe,
    *,
    workers: int,
    catalog: Catalog | None,
    pilot: Pilot | None = None,
) -> Forecast:
    """catalog: None if there is none yet."""
    plan = Plan(resolved.recipe, unit_size=plan_unit_size(resolved))
    attempts = plan.num_samples * (pilot.attempts_per_image if pilot else 1.0)
    seconds_per_image, seconds_basis = _seconds_per_image(resolved, catalog, pilot)
    sample_bytes, bytes_basis = _sample_bytes(resolved, catalog, pilot)
    job = published_job(catalog, resolved) if catalog else None
    seconds = None
    if seconds_per_image is not None:
        busy_s = attempts * seconds_per_image + plan.num_samples * _PATH_S_PER_IMAGE
        seconds = busy_s / min(workers, max(plan.num_generate_units, plan.num_shards))
    return Forecast(
        counts={name: plan.counts_by_split(i) for i, name in enumerate(plan.class_names)},
        num_images=plan.num_samples,
        units=plan.num_generate_units,
        shards=plan.num_shards,
        dataset_bytes=round(plan.num_samples * sample_bytes),
        cache_bytes=round(attempts * _raw_bytes(resolved)),
        bytes_basis=bytes_basis,
        seconds=seconds,
        seconds_per_image=seconds_per_image,
        seconds_basis=seconds_basis,
        workers=workers,
        published=f"{job.name}@{job.version}" if job else None,
        pilot=pilot,
    )


def run_pilot(resolved: ResolvedRecipe, settings: Settings) -> Pilot:
    """Makes a few images, spread over the classes, and keeps none."""
    sampler = load_sampler(resolved, settings)
    classes = resolved.recipe.classes
    names = [classes[i * len(classes) // PILOT_IMAGES].name for i in range(PILOT_IMAGES)]
    ordinals = [names[:i].count(name) for i, name in enumerate(names)]
    seeds = [
        attempt_seed(resolved.seed, name, ordinal, 0)
        for name, ordinal in zip(names, ordinals, strict=True)
    ]
    ids = dict(zip((c.name for c in classes), resolved.class_ids, strict=True))
    class_ids = [ids[name] for name in names]
    elapsed_s = []
    for _ in range(2):  # the first call also builds kernels
        started = time.perf_counter()
        images = sampler.sample(seeds, class_ids)
        elapsed_s.append(time.perf_counter() - started)
    # A network runs at its one batch shape: a few images take as long as a full batch.
    num_made = sampler.batch_size if resolved.spec.needs_weights else PILOT_IMAGES
    return Pilot(
        num_images=PILOT_IMAGES,
        seconds_per_image=min(elapsed_s) / num_made,
        png_bytes=_mean_png_bytes(resolved, images, names, ordinals),
        rejected=_rejected(resolved, images, names),
    )


def _rejected(resolved: ResolvedRecipe, images: Images, names: list[str]) -> dict[str, int]:
    """Judged as the engine does: class by class, in ordinal order."""
    scores = {name: FILTERS[name].score(images) for name in resolved.filters}
    rejected: dict[str, int] = {}
    for class_name in dict.fromkeys(names):
        judges = {name: FILTERS[name].judge(o) for name, o in resolved.filters.items()}
        for row in (i for i, name in enumerate(names) if name == class_name):
            reasons = (judge.reject(scores[name][row]) for name, judge in judges.items())
            reason = next(filter(None, reasons), None)
            if reason is not None:
                rejected[reason] = rejected.get(reason, 0) + 1
                continue
            for name, judge in judges.items():
                judge.accept(scores[name][row])
    return rejected


def _mean_png_bytes(
    resolved: ResolvedRecipe, images: Images, names: list[str], ordinals: list[int]
) -> float:
    augmenter = Augmenter(
        resolved.recipe.augmentations,
        image_size=resolved.config.image_size,
        channels=resolved.config.channels,
    )
    num_bytes = 0
    for image, name, ordinal in zip(images, names, ordinals, strict=True):
        seed = augmentation_seed(resolved.seed, name, ordinal, 0)
        num_bytes += len(encode_png(augmenter.apply(image, seed=seed).image)) + _TEXT_BYTES
    return num_bytes / len(images)


def _seconds_per_image(
    resolved: ResolvedRecipe, catalog: Catalog | None, pilot: Pilot | None
) -> tuple[float | None, Basis]:
    """On one worker."""
    if pilot is not None:
        return pilot.seconds_per_image, "pilot"
    measured = measured_throughput(catalog, resolved.model.digest) if catalog else None
    if measured is not None:
        return measured, "earlier runs"
    facts = resolved.model.facts.throughput
    if facts is None:
        return None, "unknown"
    num_calls = resolved.spec.num_network_calls(resolved.options)
    return facts.seconds_per_image * num_calls / max(1, facts.num_network_calls), "model card"


def _sample_bytes(
    resolved: ResolvedRecipe, catalog: Catalog | None, pilot: Pilot | None
) -> tuple[float, Basis]:
    """Of one sample in a published version."""
    if pilot is not None:
        return _packed_bytes(pilot.png_bytes), "pilot"
    earlier = _earlier_sample_bytes(resolved, catalog) if catalog else None
    if earlier is not None:
        return earlier, "earlier runs"
    ratio = _PNG_RATIO[resolved.spec.needs_weights]
    return _packed_bytes(_raw_bytes(resolved) * ratio + _TEXT_BYTES), "unknown"


def _packed_bytes(png_bytes: float) -> float:
    """In the tar, each member has a header and is padded: half a block on average."""
    return png_bytes + 2.5 * _TAR_BLOCK_BYTES + _RECORD_BYTES + _INDEX_BYTES


def _earlier_sample_bytes(resolved: ResolvedRecipe, catalog: Catalog) -> float | None:
    """Of the newest version that the same model made."""
    versions = sorted(list_versions(catalog), key=lambda v: v.published_at, reverse=True)
    for version in versions[:_VERSIONS_LOOKED_AT]:
        job = get_job(catalog, version.job_id)
        if job is None or version.num_samples == 0:
            continue
        content = json.loads(job.recipe_body)
        size = tuple(content["image_size"])
        if (content["generator"]["model_digest"], size) == (
            resolved.model.digest,
            resolved.recipe.image_size,
        ):
            return version.size_bytes / version.num_samples
    return None


def _raw_bytes(resolved: ResolvedRecipe) -> int:
    height, width = resolved.config.image_size
    return height * width * resolved.config.channels
