from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datagen.errors import InputError, ModelError, TrainingError
from datagen.images import decode_png
from datagen.training.loop import BEST_FILE, LATEST_FILE
from datagen.training.model_recipe import ModelRecipe, load_model_recipe, model_recipe_digest
from datagen.training.reference_parts import load_reference_parts
from datagen.training.session import train_model
from tests.training.tiny_data import (
    CLASS_NAMES,
    tiny_images,
    tiny_recipe,
    tiny_recipe_text,
    write_idx,
    write_tiny_data,
)

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "data")


@pytest.fixture
def recipe(data: Path) -> ModelRecipe:
    return tiny_recipe("cgan", data, num_images=32)


@pytest.mark.parametrize("generator", ["cgan", "edm"])
def test_training_writes_a_model_that_samples(generator: str, data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(generator, data, num_images=32)
    recipe = recipe.model_copy(update={"weights_dtype": "float16"})
    steps = []
    model = train_model(
        recipe,
        out=tmp_path / "models" / recipe.name,
        work=tmp_path / "work",
        report=lambda progress, losses: steps.append(progress.images_seen),
    )
    assert steps == [8, 16, 24, 32]
    assert model.config.class_names == CLASS_NAMES
    assert (model.config.image_size, model.config.channels) == ((8, 8), 1)
    sampler = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=3)
    assert sampler.sample([1, 2, 3], [0, 1, 2]).shape == (3, 8, 8, 1)
    facts = model.facts
    assert (facts.licence, facts.source, facts.description) == ("MIT", "made up", "A test.")
    assert facts.training is not None
    assert facts.training.images_seen == 32
    assert (facts.training.num_train, facts.training.num_held_out) == (180, 60)
    assert facts.training.recipe_digest == model_recipe_digest(recipe)
    assert facts.throughput is not None
    assert facts.throughput.num_network_calls == {"cgan": 1, "edm": 18}[generator]


def test_the_card_says_where_it_comes_from_and_what_it_is_not_for(
    recipe: ModelRecipe, tmp_path: Path
) -> None:
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    card = (model.path / "README.md").read_text()
    for text in ("MIT", "made up", "left, right, dark", "32 in", "KID", "Not for clinical use"):
        assert text in card
    assert "{" not in card
    sheet = decode_png((model.path / "samples.png").read_bytes())
    rows, columns = len(CLASS_NAMES), 10
    assert sheet.shape[0] > rows * 8 * 7
    assert sheet.shape[1] > columns * 8 * 7


def test_a_table_of_groups_is_fitted_checked_and_parted_by_group(tmp_path: Path) -> None:
    """And parted the same way again for the model's reference."""
    images, labels = tiny_images(60)
    rows = ["path,label,group"]
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).resize((12, 9)).save(tmp_path / f"{row}.png")
        rows.append(f"{row}.png,{CLASS_NAMES[label]},p{row // 6}")
    (tmp_path / "images.csv").write_text("\n".join(rows))
    recipe = tiny_recipe("cgan", tmp_path / "images.csv", num_images=8)
    source = {"format": "auto", "class_names": (), "image_size": 8, "held_out": 14}
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=source)})
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert model.config.class_names == ("dark", "left", "right")
    training = model.facts.training
    assert training is not None
    assert (training.num_train, training.num_held_out) == (42, 18)
    check = json.loads((tmp_path / "work" / "data_check.json").read_text())
    assert check["counts"] == {"dark": 20, "left": 20, "right": 20}
    card = (model.path / "README.md").read_text()
    for text in ("their middle was cut out", "in whole groups", "patients: 10", "expect copies"):
        assert text in card
    train, kept = load_reference_parts(
        model, tmp_path / "images.csv", data_format="auto", held_out=None
    )
    assert (len(train), len(kept)) == (42, 18)


def test_the_same_recipe_gives_the_same_weights_in_another_place(
    recipe: ModelRecipe, tmp_path: Path
) -> None:
    a = train_model(recipe, out=tmp_path / "a", work=tmp_path / "work-a")
    b = train_model(recipe, out=tmp_path / "b", work=tmp_path / "work-b")
    files = [(m.path / "model.safetensors").read_bytes() for m in (a, b)]
    assert files[0] == files[1]
    assert (a.path / "samples.png").read_bytes() == (b.path / "samples.png").read_bytes()


def test_an_existing_model_is_refused_before_training(recipe: ModelRecipe, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(ModelError, match="exists"):
        train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_num_images_and_data_replace_those_of_the_recipe(
    recipe: ModelRecipe, data: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    os.rename(data, elsewhere)
    model = train_model(
        recipe, out=tmp_path / "m", work=tmp_path / "work", data=elsewhere, num_images=8
    )
    assert model.facts.training is not None
    assert model.facts.training.images_seen == 8


def test_no_time_writes_the_best_weights_so_far(recipe: ModelRecipe, tmp_path: Path) -> None:
    first = train_model(recipe, out=tmp_path / "a", work=tmp_path / "work")
    longer = recipe.model_copy(
        update={"schedule": recipe.schedule.model_copy(update={"num_images": 10**9})}
    )
    steps = []
    second = train_model(
        longer,
        out=tmp_path / "b",
        work=tmp_path / "work",
        max_seconds=0,
        report=lambda progress, losses: steps.append(progress.step),
    )
    assert steps == []
    files = [(m.path / "model.safetensors").read_bytes() for m in (first, second)]
    assert files[0] == files[1]


def test_once_it_has_ended_another_training_may_begin_in_its_place(
    recipe: ModelRecipe, data: Path, tmp_path: Path
) -> None:
    train_model(recipe, out=tmp_path / "a", work=tmp_path / "work")
    write_idx(data / "train-images-idx3-ubyte.gz", tiny_images(240, seed=1)[0])
    again = train_model(recipe, out=tmp_path / "b", work=tmp_path / "work")
    alone = train_model(recipe, out=tmp_path / "c", work=tmp_path / "fresh")
    assert again.digest == alone.digest


def test_a_training_does_not_go_on_with_other_images(
    recipe: ModelRecipe, data: Path, tmp_path: Path
) -> None:
    def interrupt(progress: object, losses: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(recipe, out=tmp_path / "a", work=tmp_path / "work", report=interrupt)
    write_idx(data / "train-images-idx3-ubyte.gz", tiny_images(240, seed=1)[0])
    with pytest.raises(TrainingError, match="began with other images"):
        train_model(recipe, out=tmp_path / "b", work=tmp_path / "work")


_PROGRAM = """
import sys
from pathlib import Path
from datagen.training.model_recipe import load_model_recipe
from datagen.training.session import train_model
recipe, work, out = map(Path, sys.argv[1:])
train_model(load_model_recipe(recipe), out=out, work=work)
"""


def start(recipe: Path, work: Path, out: Path) -> subprocess.Popen[bytes]:
    arguments = [str(recipe), str(work), str(out)]
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, *arguments], cwd=ROOT)


def wait_for(path: Path, process: subprocess.Popen[bytes], *, newer_than: float = 0) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.stat().st_mtime <= newer_than:
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(data: Path, tmp_path: Path) -> None:
    """Real SIGKILLs, at whatever moment they strike."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_recipe_text("cgan", data, num_images=1600, evaluate_every_images=160))
    train_model(load_model_recipe(recipe), out=tmp_path / "a", work=tmp_path / "work-a")
    killed = tmp_path / "work-b"
    newest = 0.0
    for _ in range(3):
        process = start(recipe, killed, tmp_path / "b")
        wait_for(killed / LATEST_FILE, process, newer_than=newest)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        newest = (killed / LATEST_FILE).stat().st_mtime
    assert start(recipe, killed, tmp_path / "b").wait() == 0
    files = [(tmp_path / m / "model.safetensors").read_bytes() for m in ("a", "b")]
    assert files[0] == files[1]
    assert states_are_equal(tmp_path / "work-a", killed)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("a", "b", "data", "recipe.yaml", "work-a", "work-b")
    ]


def states_are_equal(a: Path, b: Path) -> bool:
    from safetensors.torch import load_file

    states = [load_file(folder / LATEST_FILE) for folder in (a, b)]
    return states[0].keys() == states[1].keys() and all(
        np.array_equal(states[0][name].numpy(), states[1][name].numpy()) for name in states[0]
    )


@pytest.mark.slow
def test_two_trainings_do_not_share_a_folder(data: Path, tmp_path: Path) -> None:
    text = tiny_recipe_text("cgan", data, num_images=10**9)
    (tmp_path / "recipe.yaml").write_text(text)
    process = start(tmp_path / "recipe.yaml", tmp_path / "work", tmp_path / "a")
    try:
        wait_for(tmp_path / "work" / BEST_FILE, process)
        with pytest.raises(TrainingError, match="another training runs"):
            train_model(tiny_recipe("cgan", data), out=tmp_path / "b", work=tmp_path / "work")
    finally:
        process.kill()
        process.wait()


def test_config_json_is_plain_json(recipe: ModelRecipe, tmp_path: Path) -> None:
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    content = json.loads((model.path / "config.json").read_text())
    assert content["generator"] == "cgan"
    assert content["network"] == {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1}
    assert content["training"]["seed"] == 3


def test_a_latent_model_is_not_trained_for_less_than_its_autoencoder(
    data: Path, tmp_path: Path
) -> None:
    recipe = tiny_recipe("edm", data, num_images=64)
    recipe = recipe.model_copy(update={"generator": "latent-edm", "network": {}, "objective": {}})
    with pytest.raises(TrainingError, match=r"num_images 64: generator latent-edm draws nothing"):
        train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert not (tmp_path / "m").exists()


def test_a_training_that_must_resume_does_not_begin_another(
    recipe: ModelRecipe, tmp_path: Path
) -> None:
    place = {"work": tmp_path / "work", "must_resume": True}
    with pytest.raises(TrainingError, match="--resume"):
        train_model(recipe, out=tmp_path / "a", **place)
    train_model(recipe, out=tmp_path / "a", work=tmp_path / "work")
    train_model(recipe, out=tmp_path / "b", **place)
    other = recipe.model_copy(update={"seed": 9})
    before = (tmp_path / "work" / LATEST_FILE).read_bytes()
    with pytest.raises(TrainingError, match="no checkpoint of this model recipe"):
        train_model(other, out=tmp_path / "c", **place)
    assert (tmp_path / "work" / LATEST_FILE).read_bytes() == before


def test_a_class_that_is_held_out_whole_is_refused(tmp_path: Path) -> None:
    images, labels = tiny_images(60)
    labels[0], labels[1:] = 2, labels[1:] % 2
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    recipe = tiny_recipe("cgan", tmp_path / "data.npz", num_images=8)
    source = recipe.data.model_copy(update={"format": "npz", "held_out": 58})
    recipe = recipe.model_copy(update={"data": source})
    with pytest.raises(InputError, match="which leaves none to train on"):
        train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")


def test_a_home_that_cannot_be_written_is_named(recipe: ModelRecipe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="file/work cannot be written"):
        train_model(recipe, out=tmp_path / "m", work=tmp_path / "file" / "work")
