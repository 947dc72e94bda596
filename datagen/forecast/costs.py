"""A finished job as rates that hold for others like it. Called by estimate.py and pilot.py.

Whatever the engine does is in its rows: seconds of every unit, images made, bytes of every object.
What no unit's seconds hold (claims, messages, imports, the loading of the model) is what remains of
the job's own time, and counts as start-up.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from datagen.catalog.attempts import rejections_by_reason
from datagen.catalog.catalog import Catalog
from datagen.catalog.costs import (
    PublishedJob,
    StoredBytes,
    UnitCost,
    stored_bytes,
    unit_costs,
)
from datagen.catalog.rows import FINISH, GENERATE, JUDGE, PACK
from datagen.forecast.refills import Round, expected_rounds
from datagen.plan import Plan
from datagen.recipe import Limits
from datagen.resolve import ResolvedRecipe
from datagen.submission import plan_unit_size

SHEET_IMAGES = 24  # of each class, on its contact sheet
INDEX_ROWS = 8_192

# A claim, a commit and what lies between, on SQLite or PostgreSQL.
_UNIT_S = 0.006
_JUDGED_CLASS_S = 0.001  # the rejections of a class are replaced in a transaction of their own
_FINISH_S_PER_IMAGE = 45e-6
_FINISH_S = 0.25
# A shard's end mark, filled up to whole records: half of one on average.
_SHARD_END_BYTES = 1024 + 5120
_INDEX_FILE_BYTES = 4_500
# Card, Croissant and manifest, and the lines that each shard has in them.
_DOCUMENT_BYTES, _DOCUMENT_BYTES_PER_SHARD = 16_400, 710
# A sample in the tar: two headers, a padded record and text chunks. PNG and raw bytes differ by
# less, and those scale with the picture.
_SAMPLE_BYTES = 2_300
_INDEX_BYTES = 124
_UNITS_READ = 2_000


@dataclass(frozen=True)
class Tried:
    """Attempts of one class that were judged, and those that passed."""

    passed: int
    tried: int

    @property
    def chance(self) -> float:
        """That an attempt passes. Its inverse is an unbiased estimate of the attempts per image,
        and finite where none passed."""
        return (self.passed + 1) / (self.tried + 1)


@dataclass(frozen=True)
class Shape:
    """How large a job is. rounds: of generating and judging."""

    counts: tuple[int, ...]
    num_shards: int
    rounds: tuple[Round, ...]

    @cached_property
    def num_images(self) -> int:
        return sum(self.counts)

    @property
    def num_sheet_images(self) -> int:
        return sum(min(SHEET_IMAGES, count) for count in self.counts)


@dataclass(frozen=True)
class JobCosts:
    """Seconds are of one worker. seconds_per_image: generating, per place of a batch.

    raw_bytes: of a raw image. sheet_bytes: of documents, per image on a contact sheet. tried: by
    class; empty where the job had other filters.
    """

    seconds_per_image: float
    judge_s: float
    pack_s: float
    finish_s: float
    startup_s: float
    raw_bytes: float
    shard_bytes: float
    index_bytes: float
    sheet_bytes: float
    tried: Mapping[str, Tried]

    def chance(self, class_name: str) -> float:
        """That an attempt passes. A class unseen is taken for the mean of the others."""
        if not self.tried:
            return 1.0
        seen = self.tried.get(class_name)
        if seen is None:
            passed = sum(each.passed for each in self.tried.values())
            tried = sum(each.tried for each in self.tried.values())
            seen = Tried(passed, tried)
        return seen.chance

    def seconds(self, shape: Shape, *, workers: int) -> float:
        """From the job's creation to its publication."""
        total = self.startup_s + self.finish_s + shape.num_images * _FINISH_S_PER_IMAGE + _UNIT_S
        for each in shape.rounds:
            turns = _turns(each.num_units, workers)
            total += turns * (each.num_places / each.num_units) * self.seconds_per_image
            total += each.num_judged * self.judge_s + (turns + 1) * _UNIT_S
            total += len(shape.counts) * _JUDGED_CLASS_S if each.num_judged else 0.0
        turns = _turns(shape.num_shards, workers)
        return total + turns * (shape.num_images / shape.num_shards * self.pack_s + _UNIT_S)

    def device_seconds(self, shape: Shape) -> float:
        """Of generating, on all workers together."""
        return sum(each.num_places for each in shape.rounds) * self.seconds_per_image

    def dataset_bytes(self, shape: Shape) -> float:
        num_index_files = math.ceil(shape.num_images / INDEX_ROWS)
        return (
            shape.num_images * (self.shard_bytes + self.index_bytes)
            + shape.num_sheet_images * self.sheet_bytes
            + num_index_files * _INDEX_FILE_BYTES
            + _DOCUMENT_BYTES
            + shape.num_shards * (_SHARD_END_BYTES + _DOCUMENT_BYTES_PER_SHARD)
        )

    def for_images_of(self, raw_bytes: int) -> JobCosts:
        """The same for pictures of another size: what is done with pixels scales with them."""
        scale = raw_bytes / self.raw_bytes
        png_ratio = min(1.0, max(0.0, self.shard_bytes - _SAMPLE_BYTES) / self.raw_bytes)
        return replace(
            self,
            raw_bytes=raw_bytes,
            seconds_per_image=self.seconds_per_image * scale,
            shard_bytes=self.shard_bytes + (raw_bytes - self.raw_bytes) * png_ratio,
            sheet_bytes=self.sheet_bytes * scale,
        )


def assumed_costs(
    seconds_per_image: float, raw_bytes: int, *, png_ratio: float, startup_s: float
) -> JobCosts:
    """Where no job like it was measured yet: what such jobs cost on one core of 2.3 GHz."""
    return JobCosts(
        seconds_per_image=seconds_per_image,
        judge_s=25e-6,
        pack_s=120e-6,
        finish_s=_FINISH_S,
        startup_s=startup_s,
        raw_bytes=raw_bytes,
        shard_bytes=raw_bytes * png_ratio + _SAMPLE_BYTES,
        index_bytes=_INDEX_BYTES,
        # Every pixel is drawn twice each way; the second row and column cost next to nothing.
        sheet_bytes=raw_bytes * png_ratio * 1.3,
        tried={},
    )


def job_shape(resolved: ResolvedRecipe, costs: JobCosts) -> Shape:
    """Of the recipe's job, if its classes pass as often as those measured."""
    classes = resolved.recipe.classes
    plan = Plan(resolved.recipe, unit_size=plan_unit_size(resolved))
    rounds = expected_rounds(
        plan.counts,
        [costs.chance(each.name) for each in classes] if resolved.filters else None,
        resolved.recipe.limits,
        batch_size=resolved.batch_size,
        unit_size=plan.unit_size,
    )
    return Shape(plan.counts, plan.num_shards, tuple(rounds))


def measure_job(catalog: Catalog, job: PublishedJob) -> JobCosts | None:
    """None if its rows do not tell: all of its images were in the cache, say."""
    units = unit_costs(catalog, job.id, limit=_UNITS_READ)
    stored = stored_bytes(catalog, job.id)
    made = [unit for unit in units if unit.kind == GENERATE and unit.num_generated]
    if not made or not {"attempts", "shard", "index", "document"} <= stored.keys():
        return None
    content = json.loads(job.recipe_body)
    counts = {c["name"]: c["count"] for c in content["classes"]}
    tried = _tried(counts, rejections_by_reason(catalog, job.id), job.shortfall)
    shape = _shape(job, content, counts, tried, num_shards=stored["shard"].num_objects)
    costs = JobCosts(
        seconds_per_image=_typical([u.seconds / _places(u, job.batch_size) for u in made]),
        judge_s=_judge_s(units, shape),
        pack_s=_pack_s([unit for unit in units if unit.kind == PACK], stored["shard"]),
        finish_s=max(0.0, _seconds(units, FINISH) - job.num_samples * _FINISH_S_PER_IMAGE),
        startup_s=0.0,
        raw_bytes=stored["attempts"].size_bytes / stored["attempts"].num_samples,
        shard_bytes=_each(stored["shard"], but=_SHARD_END_BYTES),
        index_bytes=_each(stored["index"], but=_INDEX_FILE_BYTES),
        sheet_bytes=_sheet_bytes(stored, shape),
        tried=tried,
    )
    rest_s = job.seconds - costs.seconds(shape, workers=len({unit.owner for unit in units}))
    return replace(costs, startup_s=max(0.0, rest_s))


def _tried(
    counts: Mapping[str, int], rejections: Mapping[str, Mapping[str, int]], shortfall: str | None
) -> dict[str, Tried]:
    missing = json.loads(shortfall) if shortfall else {}
    passed = {name: count - len(missing.get(name, ())) for name, count in counts.items()}
    return {
        name: Tried(num, num + sum(rejections.get(name, {}).values()))
        for name, num in passed.items()
    }


def _shape(
    job: PublishedJob,
    content: Mapping[str, Any],
    counts: Mapping[str, int],
    tried: Mapping[str, Tried],
    *,
    num_shards: int,
) -> Shape:
    sizes = tuple(counts.values())
    chances = [each.chance for each in tried.values()] if content["filters"] else None
    rounds = expected_rounds(
        sizes,
        chances,
        Limits.model_validate(content["limits"]),
        batch_size=job.batch_size,
        unit_size=job.unit_size,
    )
    return Shape(sizes, num_shards, tuple(rounds))


def _places(unit: UnitCost, batch_size: int) -> int:
    return math.ceil(unit.num_generated / batch_size) * batch_size


def _typical(rates: Sequence[float]) -> float:
    """The first unit of a worker holds the loading of the model as well."""
    return statistics.median(rates) if len(rates) > 2 else min(rates)


def _seconds(units: Sequence[UnitCost], kind: str) -> float:
    return sum(unit.seconds for unit in units if unit.kind == kind)


def _judge_s(units: Sequence[UnitCost], shape: Shape) -> float:
    """Of one look at one attempt."""
    num_judged = sum(each.num_judged for each in shape.rounds)
    fixed = len(shape.rounds) * len(shape.counts) * _JUDGED_CLASS_S
    return max(1e-6, (_seconds(units, JUDGE) - fixed) / num_judged) if num_judged else 0.0


def _pack_s(units: Sequence[UnitCost], shards: StoredBytes) -> float:
    """Shards are full but for the last of each split; the first unit holds imports as well."""
    full = sorted(unit.seconds for unit in units)
    without_imports = full[:-1] if len(full) > 1 else full
    share = len(without_imports) / len(full)
    return sum(without_imports) / (shards.num_samples * share)


def _each(stored: StoredBytes, *, but: int) -> float:
    """Bytes of one image, without those of each object itself."""
    return max(0, stored.size_bytes - stored.num_objects * but) / stored.num_samples


def _sheet_bytes(stored: Mapping[str, StoredBytes], shape: Shape) -> float:
    """The manifest is no object of the catalog; its share is small."""
    fixed = _DOCUMENT_BYTES + shape.num_shards * _DOCUMENT_BYTES_PER_SHARD
    return max(0, stored["document"].size_bytes - fixed) / shape.num_sheet_images


def _turns(num_units: int, workers: int) -> int:
    """How many units the busiest worker has."""
    return math.ceil(num_units / workers)
