from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from datagen.cli import main
from datagen.embedded import run_recipe
from datagen.images import decode_png, encode_png
from datagen.resolve import resolve
from datagen.settings import load_settings
from datagen.watermark import MAX_CHANGE, THRESHOLD, detect, detect_together, embed
from tests.recipes import noise_recipe
from tests.schema import lay_tables

Image = NDArray[np.uint8]


def photograph(side: int, *, grey: bool = False) -> Image:
    image = load_sample_image("flower.jpg")[100:356, 200:456]
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return small[:, :, 1:2].copy() if grey else small


def jpeg(image: Image, quality: int = 80) -> Image:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED).reshape(image.shape)


def brighter(image: Image) -> Image:
    return np.clip(image.astype(int) + 8, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("side", [64, 100, 256])
@pytest.mark.parametrize("change", [lambda i: decode_png(encode_png(i)), jpeg, brighter])
def test_the_mark_survives(side: int, grey: bool, change: Callable[[Image], Image]) -> None:
    image = photograph(side, grey=grey)
    assert not detect(change(image)).present
    assert detect(change(embed(image))).present


@pytest.mark.parametrize("shape", [(64, 64, 1), (70, 33, 3), (28, 28, 1), (8, 8, 3)])
def test_no_pixel_moves_far_and_channels_move_alike(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(10, 245, shape, np.uint8)
    change = embed(image).astype(int) - image
    assert 0 < np.abs(change).max() <= MAX_CHANGE
    assert (change == change[:, :, :1]).all()
    assert not change[shape[0] // 8 * 8 :].any()


def test_extremes_stay_in_range() -> None:
    for level in (0, 255):
        even = np.full((64, 64, 1), level, np.uint8)
        assert np.abs(embed(even).astype(int) - level).max() <= MAX_CHANGE
        assert detect(even).score == 0


def test_another_key_finds_nothing() -> None:
    marked = embed(photograph(128), key="ours")
    assert detect(marked, key="ours").score > 3 * THRESHOLD
    scores = [detect(marked, key=f"theirs {number}").score for number in range(300)]
    assert max(scores) < THRESHOLD
    assert abs(np.mean(scores)) < 0.3
    assert 0.8 < np.std(scores) < 1.2


def test_small_images_are_found_together() -> None:
    """And images that are alike are no proof: the key decides, not how often it is asked."""
    images = [np.roll(photograph(28), shift, axis=1) for shift in range(12)]
    assert detect_together([embed(image) for image in images]).score > 2 * THRESHOLD
    for given in (images, images[:1] * 12):
        scores = [detect_together(given, key=str(number)).score for number in range(200)]
        assert max(scores) < THRESHOLD
        assert 0.8 < np.std(scores) < 1.2
    assert detect_together([]).score == 0


def test_the_same_image_is_marked_alike() -> None:
    image = photograph(64)
    assert (embed(image) == embed(image)).all()
    assert (embed(image) != embed(image, key="other")).any()


def test_what_is_smaller_than_a_block_stays() -> None:
    image = photograph(64)[:7]
    assert (embed(image) == image).all()
    assert not detect(image).present


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["watermark", "check", *(str(each) for each in arguments)])


def test_the_command_tells_marked_files_from_others(tmp_path: Path) -> None:
    image = photograph(64)
    (tmp_path / "marked.png").write_bytes(encode_png(embed(image, key="k")))
    (tmp_path / "plain.png").write_bytes(encode_png(image))
    files = [tmp_path / "marked.png", tmp_path / "plain.png"]
    result = check(*files, "--key", "k", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [each["present"] for each in content["files"]] == [True, False]
    both = detect_together([embed(image, key="k"), image], key="k")
    assert (content["score"], content["present"]) == (both.score, both.present)
    told = check(*files, "--key", "k").stdout.splitlines()
    assert [line.split()[-2:] for line in told[-4:-2]] == [
        [f"{content['files'][0]['score']:.2f}", "found"],
        ["not", "found"],
    ]
    assert told[-2].startswith("all together")


@pytest.mark.parametrize("content", [None, b"no image"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    result = check(path)
    assert result.exit_code == 2
    assert "x.png" in result.stderr


def test_a_recipe_marks_its_images_and_nothing_else(tmp_path: Path) -> None:
    shipped = {name: pulled(tmp_path / name, name == "marked") for name in ("marked", "plain")}
    assert shipped["marked"].keys() == shipped["plain"].keys()
    for name, image in shipped["plain"].items():
        assert (shipped["marked"][name] == embed(image)).all()


def pulled(folder: Path, is_marked: bool) -> dict[str, Image]:
    """The images of a small noise set, flipped now and then."""
    settings = load_settings({}, home=folder / "home")
    settings.home.mkdir(parents=True)
    lay_tables(settings.database_url)
    changes = {
        "image_size": [32, 40],
        "classes": [{"name": "cat", "count": 6}],
        "augmentations": [{"transform": "HorizontalFlip"}],
        "output": {"watermark": is_marked} if is_marked else {},
    }
    run_recipe(resolve(noise_recipe(changes), [settings.models_dir]), settings)
    arguments = ["pull", "small", str(folder / "out"), "--format", "imagefolder"]
    result = CliRunner().invoke(main, [*arguments, "--home", str(settings.home)])
    assert result.exit_code == 0, result.output
    return {p.name: decode_png(p.read_bytes()) for p in sorted((folder / "out").rglob("cat*.png"))}
