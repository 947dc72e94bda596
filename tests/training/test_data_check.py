from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.image_set import ImageSet
from datagen.real_images.reading import Reading
from datagen.training.data_check import DataCheck, check_data, check_text
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

SIDE = 16


def reading(
    counts: dict[str, int],
    *,
    groups: tuple[str, ...] | None = None,
    like: dict[int, int] | None = None,
    noise: int = 0,
    broken: tuple[str, ...] = (),
) -> Reading:
    """counts: class -> images. like: row -> the row it is a copy of, up to noise."""
    class_ids = np.repeat(np.arange(len(counts)), list(counts.values()))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (len(class_ids), SIDE, SIDE, 1), dtype=np.uint8)
    for row, original in (like or {}).items():
        images[row] = images[original]
        images[row, 0, 0, 0] += noise
    names = tuple(f"{row:03d}.png" for row in range(len(class_ids)))
    found = ImageSet(images, class_ids, tuple(counts), names, groups=groups)
    return Reading(found, broken, {(SIDE, SIDE): len(images)}, (b"",) * len(images), {})


def suggested(check: DataCheck, text: str) -> bool:
    return any(text in line for line in check.suggestions)


def test_counts_sizes_and_broken_files_are_told() -> None:
    check = check_data(reading({"cat": 300, "dog": 14}, broken=("bad.png",)))
    assert check.counts == {"cat": 300, "dog": 14}
    assert check.imbalance == 21.43
    assert check.sizes == {"16 x 16": 314}
    assert (check.num_broken, check.broken) == (1, ("bad.png",))
    assert suggested(check, "class dog has 14 images: expect copies; use differentiable")
    assert suggested(check, "cat has 21.4 times as many images as dog")
    assert suggested(check, "fewer than 1,000 images in cat")
    text = check_text(check)
    assert "cat 300, dog 14" in text
    assert "1: bad.png" in text
    assert "groups         not known" in text


def test_exact_and_near_duplicates_are_told_apart() -> None:
    exact = check_data(reading({"cat": 5, "dog": 5}, like={3: 1, 9: 1}))
    assert exact.exact_duplicates.names == ("003.png", "009.png")
    assert exact.other_class.names == ("009.png",)
    assert exact.near_duplicates.num == 0
    assert suggested(exact, "1 image equals one of another class")
    near = check_data(reading({"cat": 5, "dog": 5}, like={3: 1}, noise=3))
    assert near.exact_duplicates.num == 0
    assert near.near_duplicates.names == ("003.png",)
    assert suggested(near, "1 image is like another")


def test_even_images_are_no_near_duplicates() -> None:
    found = reading({"cat": 2, "dog": 2})
    for row in range(4):
        found.images.images[row] = 50 * row
    assert check_data(found).near_duplicates.num == 0


def test_groups_and_a_large_one_are_told_without_its_name() -> None:
    groups = ("p1",) * 6 + ("p2", "p3", "p4", "p5")
    check = check_data(reading({"cat": 5, "dog": 5}, groups=groups))
    assert check.groups is not None
    assert (check.groups.num, check.groups.largest, check.groups.num_of_largest) == (5, "p1", 6)
    assert suggested(check, "one group holds 6 of 10 images")
    assert not suggested(check, "p1")


def test_many_small_classes_are_told_in_one_line() -> None:
    check = check_data(reading({f"c{i}": 2 for i in range(8)}))
    assert suggested(check, "8 classes have fewer than 100 images each")
    assert not suggested(check, "class c0")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(tiny_recipe_text("cgan", write_tiny_data(tmp_path / "data", 90)))
    return path


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "train", *arguments])


def test_check_prints_and_trains_nothing(recipe: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run(home, str(recipe), "--check")
    assert done.exit_code == 0, done.output
    assert "left 30, right 30, dark 30" in done.stdout
    content = json.loads(run(home, str(recipe), "--check", "--json").stdout)
    assert content["counts"] == {"left": 30, "right": 30, "dark": 30}
    assert not (home / "training").exists()
    assert not (home / "models").exists()


def test_check_tells_what_would_stop_the_training(recipe: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["data"]["held_out"] = 90
    recipe.write_text(yaml.safe_dump(content))
    done = run(tmp_path / "home", str(recipe), "--check")
    assert done.exit_code == 2
    assert "left 30" in done.output
    assert "data.held_out: 90 of 90" in done.output
