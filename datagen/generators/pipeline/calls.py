"""The arguments of a pipeline's call that are the same for every image. Called by sample.py."""

from __future__ import annotations

from typing import Any

from datagen.generators.pipeline.options import PIPELINE_ARGUMENTS
from datagen.generators.pipeline.request import OpenedPipeline

Arguments = dict[str, Any]

# Read by words.py and by the sampler.
_ELSEWHERE = ("guidance_scale", "max_sequence_length", "class_labels")


def told_options(opened: OpenedPipeline, image_size: tuple[int, int]) -> Arguments:
    """image_size: (height, width). Options that are None are left to the pipeline."""
    call, options = opened.call, opened.options
    told: Arguments = {
        **call.constants,
        "output_type": call.output,
        call.steps: options.num_inference_steps,
    }
    if call.takes_size:
        told["height"], told["width"] = image_size
    if opened.guidance_scale is not None:
        told[call.scale] = opened.guidance_scale
    for name in PIPELINE_ARGUMENTS:
        if name not in _ELSEWHERE and getattr(options, name) is not None:
            told[name] = getattr(options, name)
    return told
