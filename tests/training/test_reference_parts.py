"""The images that a model's reference is fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from datagen.generators.model_directory import change_facts
from datagen.training.reference_parts import load_reference_parts
from tests.generators.tiny_models import TINY, save_random_model


def test_an_older_model_may_say_more_than_one_line_of_its_images(tmp_path: Path) -> None:
    model = save_random_model(tmp_path / "tiny", TINY["cgan"])
    model = change_facts(model, source="Wards\nof a test\n")
    height, width = model.config.image_size
    for row, name in enumerate(model.config.class_names):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        Image.fromarray(np.full((height, width, 3), row, np.uint8)).save(folder / "0.png")
    train, kept = load_reference_parts(
        model, tmp_path / "images", data_format="auto", held_out=tmp_path / "images"
    )
    assert len(train.images) == len(kept.images) == len(model.config.class_names)
