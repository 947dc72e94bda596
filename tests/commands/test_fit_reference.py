from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from datagen.cli import main
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import REFERENCE_FILE, load_model
from datagen.image_set import ImageSet
from datagen.references.reference import save_reference
from tests.generators.tiny_models import save_random_model
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, drawn, tiny_reference

NETWORK = {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1}


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "models", *arguments])


def write(images: ImageSet, folder: Path) -> Path:
    for row, (image, class_id) in enumerate(zip(images.images, images.class_ids, strict=True)):
        (folder / CLASS_NAMES[class_id]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / CLASS_NAMES[class_id] / f"{row:04d}.png")
    return folder


@pytest.fixture
def model(home: Path) -> Path:
    config = ModelConfig("cgan", CLASS_NAMES, (SIDE_PX, SIDE_PX), 1, NETWORK)
    return save_random_model(home / "models" / "tiny", config).path


@pytest.mark.slow
def test_a_reference_is_fitted_and_shown(home: Path, model: Path, tmp_path: Path) -> None:
    digest = load_model(model).digest
    data = write(drawn(20, seed=1), tmp_path / "real")
    held_out = write(drawn(12, seed=2), tmp_path / "held-out")
    fit = ["fit-reference", "tiny", "--data", str(data), "--held-out", str(held_out)]
    done = run(home, *fit)
    assert done.exit_code == 0, done.output
    assert "label_agreement rejects" in done.output
    assert load_model(model).digest == digest
    assert (model / REFERENCE_FILE).exists()
    refused = run(home, *fit)
    assert refused.exit_code == 2
    assert "--replace" in refused.output


def test_show_tells_the_figures_of_a_reference(home: Path, model: Path) -> None:
    assert "none: `datagen models fit-reference`" in run(home, "show", "tiny").output
    save_reference(tiny_reference(), model / REFERENCE_FILE)
    shown: dict[str, Any] = json.loads(run(home, "show", "tiny", "--json").output)["reference"]
    assert shown["digest"] == tiny_reference().digest
    assert (shown["num_train"], shown["num_measured"], shown["licence"]) == (150, 90, "MIT")
    assert shown["label_thresholds"].keys() == set(CLASS_NAMES)
    assert shown["wrong_labels_rejected"] >= 0.9
    assert tiny_reference().digest[:12] in run(home, "show", "tiny").output


def test_what_cannot_be_fitted_is_told(home: Path, model: Path, tmp_path: Path) -> None:
    data = write(drawn(2, seed=1), tmp_path / "real")
    silent = run(home, "fit-reference", "tiny", "--data", str(data))
    assert silent.exit_code == 2
    assert "does not say which images its training held out" in silent.output
    few = run(home, "fit-reference", "tiny", "--data", str(data), "--held-out", str(data))
    assert "2 held-out images; expected at least 4" in few.output
    any_class = run(home, "fit-reference", "noise", "--data", str(data))
    assert "trained on no classes of its own" in any_class.output


def test_other_images_than_those_of_the_training_are_refused(tmp_path: Path, home: Path) -> None:
    shipped = run(home, "show", "fashion-mnist-cgan", "--json")
    names = json.loads(shipped.output)["class_names"]
    rng = np.random.default_rng(1)
    for name in names:
        (tmp_path / "real" / name).mkdir(parents=True)
        pixels = rng.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "real" / name / "a.png")
    fit = ["fit-reference", "fashion-mnist-cgan", "--data", str(tmp_path / "real"), "--replace"]
    refused = run(home, *fit)
    assert refused.exit_code == 2
    assert "not the images that model fashion-mnist-cgan was trained on" in refused.output
