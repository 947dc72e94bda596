"""Models that are fitted to data at once, without steps: sets of conditions, and layouts. Called by
session.py."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from pydantic import BaseModel

from datagen import __version__
from datagen.conditions import ConditionKind
from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.interface import GeneratorSpec, ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.generators.model_facts import ModelFacts, TrainingFacts
from datagen.image_set import ImageSet
from datagen.training.admission import Admission
from datagen.training.card import fitted_card
from datagen.training.data_check import DataCheck
from datagen.training.dataset import RealImages, held_out_rows
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Fitted:
    """network: of config.json, checked by the family's network options. weights: as they ship.
    lines: about what was fitted, for the card."""

    network: dict[str, Any]
    weights: dict[str, torch.Tensor]
    lines: Sequence[str] = ()


class FittingSpec(GeneratorSpec, Protocol):
    """A family whose models are fitted."""

    def fitted(
        self, images: ImageSet, options: BaseModel, *, kind: ConditionKind, seed: int
    ) -> Fitted:
        """images: with what lies beside them, the held-out ones left out. options: network options
        of the model recipe. Raises InputError if they are too few or do not fit."""
        ...


def fit_model(
    recipe: ModelRecipe, images: ImageSet, check: DataCheck, admission: Admission, *, out: Path
) -> Model:
    """images: all of them; groups that are held out never enter the model. Raises InputError."""
    assert recipe.data.condition is not None
    spec = cast(FittingSpec, GENERATORS[recipe.generator])
    if not hasattr(spec, "fitted"):
        raise ModelError(f"generator {recipe.generator}: not fitted; expected one that trains")
    kept = held_out_rows(
        len(images), held_out=recipe.data.held_out, seed=recipe.seed, groups=images.groups
    )
    started = time.monotonic()
    options = spec.network_options.model_validate(recipe.network)
    fitted = spec.fitted(
        images.take(np.flatnonzero(~kept)),
        options,
        kind=recipe.data.condition.kind,
        seed=recipe.seed,
    )
    height, width, channels = images.image_shape
    config = ModelConfig(
        generator=recipe.generator,
        class_names=images.class_names,
        image_size=(height, width),
        channels=channels,
        network=fitted.network,
    )
    real = RealImages(images.images, images.class_ids)
    facts = ModelFacts(
        licence=recipe.data.licence,
        source=recipe.data.source,
        description=recipe.description,
        training=TrainingFacts(
            images_seen=int((~kept).sum()),
            best_images_seen=int((~kept).sum()),
            seconds=round(time.monotonic() - started, 1),
            device=platform.machine(),
            num_train=int((~kept).sum()),
            num_held_out=int(kept.sum()),
            fit=recipe.data.fit if recipe.data.size else None,
            held_out_by_group=images.groups is not None,
            data_sha256=real.digest(),
            recipe_digest=model_recipe_digest(recipe),
            seed=recipe.seed,
            sources=admission.sources,
            generation_depth=admission.depth,
        ),
        code_version=__version__,
    )
    card = fitted_card(
        recipe, config, facts, check=check, pairs_sha256=pairs_digest(images), lines=fitted.lines
    )
    return save_model(out, config, fitted.weights, facts, card=card)


def pairs_digest(images: ImageSet) -> str:
    """sha256 over all that a fitted model follows from, in order: names, groups, classes, images,
    and the label maps, pictures and spacings beside them. TrainingFacts.data_sha256 is of images
    and classes alone: by it, withdrawn images are found whatever lay beside them."""
    parts = (images.images, images.class_ids, images.masks, images.conditions, images.spacing_mm)
    words = (images.class_names, images.names, images.groups, images.mask_names)
    kinds = [None if part is None else [str(part.dtype), *part.shape] for part in parts]
    digest = hashlib.sha256(json.dumps([words, kinds]).encode())
    for part in parts:
        if part is not None:
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
