"""The real images of a model, parted as its training parted them. Called by
`datagen models fit-reference`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datagen.errors import InputError
from datagen.generators.model_directory import Model
from datagen.image_set import ImageSet
from datagen.training.dataset import RealImages, load_real_images, split_held_out
from datagen.training.model_recipe import DataFormat, DataSource


def load_reference_parts(
    model: Model, data: Path, *, data_format: DataFormat, held_out: Path | None
) -> tuple[ImageSet, ImageSet]:
    """Training and held-out images. held_out: a folder of images
    that the model never saw; None for those that its training held out of `data`.

    Raises InputError if `data` is not what the model was trained on, or nothing is held out.
    """
    if len(model.config.class_names) < 2:
        raise InputError(
            f"model {model.name}: trained on no classes of its own; expected a model of at least 2"
        )
    real = _load(model, data, data_format)
    if held_out is not None:
        return _image_set(model, real, "train"), _image_set(
            model, _load(model, held_out, data_format), "held-out"
        )
    training = model.facts.training
    if training is None or training.data_sha256 is None:
        raise InputError(
            f"model {model.name}: it does not say which images its training held out; name a "
            "folder of images that it never saw with --held-out"
        )
    if training.data_sha256 is None:
        raise InputError(
            f"model {model.name}: it was trained privately and does not say which images its "
            "training held out; name a folder of images that it never saw with --held-out"
        )
    if real.digest() != training.data_sha256:
        raise InputError(
            f"data {data}: not the images that model {model.name} was trained on (their sha256 is "
            f"{real.digest()[:12]}, expected {training.data_sha256[:12]}): give those, or name a "
            "folder of images that the model never saw with --held-out"
        )
    train, kept_out = split_held_out(real, held_out=training.num_held_out, seed=training.seed)
    return _image_set(model, train, "train"), _image_set(model, kept_out, "held-out")


def _load(model: Model, folder: Path, data_format: DataFormat) -> RealImages:
    source = DataSource(
        format=data_format,
        path=folder,
        class_names=model.config.class_names,
        licence=model.facts.licence,
        source=model.facts.source,
    )
    real = load_real_images(source)
    expected = (*model.config.image_size, model.config.channels)
    if real.images.shape[1:] != expected:
        raise InputError(
            f"data {folder}: images of {real.images.shape[1:]} (height, width, channels); expected "
            f"{expected}, as model {model.name} makes them"
        )
    return real


def _image_set(model: Model, real: RealImages, part: str) -> ImageSet:
    names = tuple(f"{part}-{row:06d}" for row in np.arange(len(real)))
    return ImageSet(real.images, real.class_ids, model.config.class_names, names)
