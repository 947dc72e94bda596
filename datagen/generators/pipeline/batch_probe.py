"""How many images per network call suit a device: tried, from one image on, in doubling shapes.

Called once by resolve's caller; the answer is stored with the job, and no image's bits depend on
the probe itself. Out of memory is an answer like another.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from datagen.conditions import Condition, Prompt
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.pipeline.loading import load_pipeline
from datagen.generators.pipeline.option_checks import class_ids_of
from datagen.generators.pipeline.request import OpenedPipeline
from datagen.generators.pipeline.sample import PipelineSampler
from datagen.labels import Labels

MAX_BATCH, MAX_BATCH_CPU = 64, 8
# Larger shapes than this share of the best are not worth their memory.
_NEAR_BEST = 0.95
_MAX_SECONDS, _MAX_SECONDS_CPU = 60.0, 10.0
_STEPS = 2

# Draws one full batch at a shape.
Draw = Callable[[int], None]


def probe_pipeline(opened: OpenedPipeline, config: ModelConfig, *, device: str) -> int:
    """Loads the pipeline and draws with a few steps at each shape. config: fitted.

    Raises ModelError if not even one image fits.
    """
    # Compiling each shape would take minutes.
    changes = {"num_inference_steps": _few_steps(opened), "compile": False}
    quick = replace(opened, options=opened.options.model_copy(update=changes))
    pipe = load_pipeline(quick, device=device)
    numbers = class_ids_of(quick, config.class_names)

    def draw(batch_size: int) -> None:
        sampler = PipelineSampler(pipe, quick, config, batch_size=batch_size, class_numbers=numbers)
        draw_probe(sampler, config)
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    on_gpu = device.startswith("cuda")
    try:
        return probe_batch_size(
            draw,
            max_batch=MAX_BATCH if on_gpu else MAX_BATCH_CPU,
            max_seconds=_MAX_SECONDS if on_gpu else _MAX_SECONDS_CPU,
        )
    finally:
        _release()


def _few_steps(opened: OpenedPipeline) -> int:
    """Of a picture, strength leaves a part of the steps."""
    strength = opened.options.strength or opened.call.strength or 1.0
    return min(opened.options.num_inference_steps, math.ceil(_STEPS / strength))


def probe_batch_size(
    draw: Draw, *, max_batch: int, max_seconds: float, clock: Callable[[], float] = time.monotonic
) -> int:
    """The smallest shape that gives nearly the most images a second.

    draw: makes one batch; it may run out of memory. max_seconds: after which no larger shape is
    tried. Raises ModelError if one image runs out of memory.
    """
    rates: dict[int, float] = {}
    started, batch_size = clock(), 1
    while batch_size <= max_batch:
        seconds = _seconds_of(draw, batch_size, clock)
        if seconds is None:
            break
        rates[batch_size] = batch_size / max(seconds, 1e-9)
        # The next shape takes about twice as long, and is drawn twice.
        if clock() - started + 4 * seconds > max_seconds:
            break
        batch_size *= 2
    if not rates:
        raise ModelError(
            "the pipeline runs out of memory at one image: set a smaller image_size, dtype: "
            "float16, vae_tiling: true or, on a GPU, cpu_offload: model"
        )
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= _NEAR_BEST * best)


def _seconds_of(draw: Draw, batch_size: int, clock: Callable[[], float]) -> float | None:
    """Of the second call, the first of a shape being slower; None if it does not fit."""
    try:
        draw(batch_size)
        started = clock()
        draw(batch_size)
        return clock() - started
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    _release()
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    """torch says it in several ways: of a GPU, of its allocator on the CPU, of cuDNN."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(
        part in text
        for part in ("out of memory", "can't allocate memory", "cannot allocate", "alloc_failed")
    )


def _release() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def draw_probe(sampler: PipelineSampler, config: ModelConfig) -> Any:
    """A full batch of made-up requests."""
    seeds = list(range(sampler.batch_size))
    call = sampler.opened.call
    if call.words == "none" and call.picture is None:
        return sampler.sample(seeds, [0] * len(seeds))
    return sampler.sample_conditioned(seeds, [0] * len(seeds), [_made_up(config) for _ in seeds])


def _made_up(config: ModelConfig) -> Condition:
    height, width = config.image_size
    grey = np.full((height, width, 3), 127, np.uint8)
    region = np.zeros((height, width), np.bool_)
    region[: height // 2] = True
    return Condition(
        Labels(config.class_names[0]), image=grey, region=region, prompt=Prompt("a photo")
    )
