"""The real images of a model, parted as its training parted them. Called by
`datagen models fit-reference`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datagen.errors import InputError
from datagen.generators.model_directory import Model
from datagen.image_set import ImageSet
from datagen.real_images.reading import Reading
from datagen.training.dataset import (
    RealImages,
    read_training_images,
    real_images,
    split_held_out,
)
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
    reading = _read(model, data, data_format)
    real = real_images(reading)
    if held_out is not None:
        return _image_set(model, real, "train"), _image_set(
            model, real_images(_read(model, held_out, data_format)), "held-out"
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
    train, kept_out = split_held_out(
        real,
        held_out=training.num_held_out,
        seed=training.seed,
        groups=reading.images.groups if training.held_out_by_group else None,
    )
    return _image_set(model, train, "train"), _image_set(model, kept_out, "held-out")


def _read(model: Model, folder: Path, data_format: DataFormat) -> Reading:
    training = model.facts.training
    fit = training.fit if training else None
    # What the model says of its images was true before recipes had to say it in one line.
    source = DataSource.model_construct(
        format=data_format,
        path=folder,
        class_names=model.config.class_names,
        image_size=model.config.image_size if fit else None,
        fit=fit or "crop",
        licence=model.facts.licence,
        source=model.facts.source,
    )
    reading = read_training_images(source)
    expected = (*model.config.image_size, model.config.channels)
    if reading.images.image_shape != expected:
        raise InputError(
            f"data {folder}: images of {reading.images.image_shape} (height, width, "
            f"channels); expected {expected}, as model {model.name} makes them"
        )
    return reading


def _image_set(model: Model, real: RealImages, part: str) -> ImageSet:
    names = tuple(f"{part}-{row:06d}" for row in np.arange(len(real)))
    return ImageSet(real.images, real.class_ids, model.config.class_names, names)
