"""Tiny pipelines put to each task, as a recipe would, and requests for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from datagen.conditions import Condition, ConditionConfig, Mix, Prompt
from datagen.generators.interface import Images, ModelConfig
from datagen.generators.pipeline.options import PipelineOptions
from datagen.generators.pipeline.sample import PipelineSampler
from datagen.generators.pipeline.spec import PipelineSpec
from datagen.labels import Labels
from tests.generators.tiny_pipelines import SIDE, save_tiny

SPEC = PipelineSpec()
CLASS_NAMES = ("disc", "ring", "bar")
# torch's loops treat what is left after blocks of 32 numbers in another way, so that rows of 8, as
# the tiny networks have, come out alike at any position in batches of four.
BATCH_SIZE = 4
SEEDS, CLASS_IDS = [5, 2**63 - 1, 2**40 + 7], [0, 1, 2]
_EMPTY = ModelConfig("pipeline", (), (0, 0), 0, {})
_PROMPTS = ("a disc", "the ring of gold", "bar")


@dataclass(frozen=True)
class Case:
    """kind: of tiny_pipelines. controlnet: of its CONTROLNETS."""

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    controlnet: str | None = None
    image_size: tuple[int, int] = (SIDE, SIDE)

    def __str__(self) -> str:
        told = (self.options.get(name, "") for name in ("task", "control", "scheduler"))
        return " ".join(part for part in (self.kind, *told) if part).replace(" ", "-")


@contextmanager
def tiny_folders() -> Iterator[None]:
    """Where tiny pipelines are saved, each once, while this is open."""
    with tempfile.TemporaryDirectory() as place:
        _PLACE.append(Path(place))
        yield
        _PLACE.clear()
        tiny.cache_clear()


_PLACE: list[Path] = []


@lru_cache
def tiny(kind: str) -> Path:
    return save_tiny(kind, _PLACE[0] / kind.replace(" ", "-"))


def options_of(case: Case, **changes: Any) -> PipelineOptions:
    given: dict[str, Any] = {"source": str(tiny(case.kind)), "num_inference_steps": 2}
    if case.controlnet is not None:
        given["controlnet"] = str(tiny(case.controlnet))
    return PipelineOptions.model_validate(given | case.options | changes)


def fitted(case: Case, **changes: Any) -> tuple[ModelConfig, PipelineOptions]:
    """As resolve pins and fits them."""
    options = cast(PipelineOptions, SPEC.pin_options(_EMPTY, options_of(case, **changes)))
    config = SPEC.fit(_EMPTY, options, class_names=CLASS_NAMES, image_size=case.image_size)
    return config, options


def loaded(case: Case, *, batch_size: int = BATCH_SIZE, **changes: Any) -> PipelineSampler:
    config, options = fitted(case, **changes)
    return cast(PipelineSampler, SPEC.load(config, None, options, batch_size=batch_size))


def condition_for(
    index: int, config: ModelConfig, *, text: str | None = None, negative: str = ""
) -> Condition:
    """One of many, the same for the same index."""
    rng, size = np.random.default_rng(index), config.image_size
    parts: dict[str, Any] = {}
    wanted = config.condition or ConditionConfig("layout")
    if wanted.kind in ("image", "inpaint"):
        parts["image"] = rng.integers(0, 256, (*size, wanted.channels), np.uint8)
    if wanted.kind == "mask":
        parts["mask"] = rng.integers(0, 4, size).astype(np.uint8)
    if wanted.kind == "inpaint":
        region = np.zeros(size, np.bool_)
        region[4 : 10 + index % 3, 3:12] = True
        parts["region"] = region
    prompt = Prompt(text or _PROMPTS[index % 3], negative=negative)
    return Condition(Labels(CLASS_NAMES[index % 3]), prompt=prompt, **parts)


def mixed(condition: Condition, kind: Any, weight: float, **other: Any) -> Condition:
    end: dict[str, Any] = {"seed": 99, "class_id": 1, "class_name": "ring"}
    if kind == "classes":
        end["prompt"] = Prompt("a ring")
    return replace(condition, mix=Mix(kind, weight, **(end | other)))


def draw(
    sampler: PipelineSampler,
    seeds: Sequence[int] = SEEDS,
    class_ids: Sequence[int] = CLASS_IDS,
    conditions: Sequence[Condition] | None = None,
) -> Images:
    """With the conditions of the classes, where the pipeline takes any."""
    call = sampler.opened.call
    if call.words == "none" and call.picture is None and conditions is None:
        return sampler.sample(seeds, class_ids)
    if conditions is None:
        conditions = [condition_for(i, sampler.config) for i in class_ids]
    return sampler.sample_conditioned(seeds, class_ids, conditions)
