"""A model with its weights in half precision, and what that changes in its images, measured.

Called by `datagen models export --half`.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError, ModelError
from datagen.generators.interface import ConditionedSampler, ModelConfig, Sampler, makes_images
from datagen.generators.model_directory import (
    CARD_FILE,
    CURVES_FILE,
    REFERENCE_FILE,
    SHEET_FILE,
    Model,
    load_model,
    save_model,
)
from datagen.generators.model_facts import HalfPrecision
from datagen.generators.random_conditions import random_condition

if TYPE_CHECKING:
    import torch

NUM_IMAGES = 100

_CARD = """
## Half precision

The weights are those of the model of digest `{parent}`, stored as float16. Of {num} images of
equal seeds, {share:.2%} of the pixels differ from that model's: by {mean:.3g} grey levels of 255 on
average over all pixels, and by {largest} at most.
"""


def write_half(model: Model, folder: Path) -> Model:
    """Writes the model directory `folder`. Its parent is the model; all else that is known of it
    stays, the reference for filters included.

    Raises InputError if the weights are in half precision already, or draw no images; ModelError if
    they do not fit into it, or the folder exists.
    """
    from safetensors.torch import load_file, save_file

    if model.weights is None:
        raise InputError(f"model {model.name}: generator {model.config.generator} has no weights")
    if not makes_images(model.spec):
        raise InputError(
            f"model {model.name}: generator {model.config.generator} draws conditions; half "
            "precision is measured on images: export it without --half"
        )
    if not model.config.class_names:
        raise InputError(
            f"model {model.name}: its images need prompts, and half precision is measured on "
            "images of classes: export it without --half"
        )
    weights = load_file(model.weights)
    half = _halved(weights, model)
    with tempfile.TemporaryDirectory() as place:
        halved_file = Path(place, "model.safetensors")
        save_file(half, halved_file)
        measured = compare(_sampler(model, model.weights), _sampler(model, halved_file), model)
    card = _file(model, CARD_FILE) or b""
    written = save_model(
        folder,
        model.config,
        half,
        model.facts.model_copy(update={"parent": model.digest, "half_precision": measured}),
        card=card.decode() + _card_section(measured, model.digest),
        sheet_png=_file(model, SHEET_FILE),
        curves_png=_file(model, CURVES_FILE),
    )
    if model.reference is not None:
        shutil.copyfile(model.reference, written.path / REFERENCE_FILE)
    return load_model(written.path)


def compare(
    before: Sampler, after: Sampler, model: Model, *, num_images: int = NUM_IMAGES
) -> HalfPrecision:
    """Images of seeds 0, 1, ... and of the classes in turn, drawn with both."""
    class_ids = [i % len(model.config.class_names) for i in range(num_images)]
    differences = _differences(before, after, class_ids, model.config)
    return HalfPrecision(
        num_images=num_images,
        mean_difference=float(differences.mean()),
        max_difference=int(differences.max()),
        share_of_pixels=float(np.mean(differences > 0)),
    )


def _differences(
    before: Sampler, after: Sampler, class_ids: list[int], config: ModelConfig
) -> NDArray[np.int16]:
    """(N, H, W, C) absolute, in grey levels."""
    size = min(before.batch_size, after.batch_size)
    parts = []
    for first in range(0, len(class_ids), size):
        wanted = class_ids[first : first + size]
        seeds = list(range(first, first + len(wanted)))
        pair = [_draw(sampler, seeds, wanted, config) for sampler in (before, after)]
        parts.append(np.abs(pair[0] - pair[1]))
    return np.concatenate(parts)


def _draw(
    sampler: Sampler, seeds: list[int], class_ids: list[int], config: ModelConfig
) -> NDArray[np.int16]:
    if config.condition is None:
        return sampler.sample(seeds, class_ids).astype(np.int16)
    conditions = [random_condition(config, seed) for seed in seeds]
    conditioned = cast(ConditionedSampler, sampler)
    return conditioned.sample_conditioned(seeds, class_ids, conditions).astype(np.int16)


def _halved(weights: dict[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    import torch

    floating = [name for name, tensor in weights.items() if tensor.is_floating_point()]
    if all(weights[name].dtype in (torch.float16, torch.bfloat16) for name in floating):
        raise InputError(
            f"model {model.name}: its weights are in half precision already; export it without "
            "--half"
        )
    half = {name: t.half() if name in floating else t for name, t in weights.items()}
    for name in floating:
        if not torch.isfinite(half[name]).all():
            raise ModelError(
                f"model {model.name}: {name} has values beyond half precision, which ends at "
                "65504; export it without --half"
            )
    return half


def _sampler(model: Model, weights: Path) -> Sampler:
    spec = model.spec
    return spec.load(model.config, weights, spec.options(), batch_size=spec.batch_size)


def _file(model: Model, name: str) -> bytes | None:
    path = model.path / name
    return path.read_bytes() if path.exists() else None


def _card_section(measured: HalfPrecision, parent: str) -> str:
    return _CARD.format(
        parent=parent,
        num=measured.num_images,
        share=measured.share_of_pixels,
        mean=measured.mean_difference,
        largest=measured.max_difference,
    )
