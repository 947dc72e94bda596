"""Images of 16 bits, from the recipe to every layout that readers get."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as PillowImage
from pyarrow import parquet

from datagen.augment import Augmenter
from datagen.augment.transforms import TRANSFORMS
from datagen.conditions import Condition, ConditionConfig
from datagen.errors import RecipeError
from datagen.evaluation.published import load_published
from datagen.formats import FORMATS, dicom, nifti
from datagen.formats.version import VersionReader
from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmNetwork, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.images import decode_png, sha256_hex, to_8_bits, to_16_bits
from datagen.labels import Labels
from datagen.manifest import Manifest
from datagen.recipe import AugmentationRequest
from datagen.records import Finding, ShardChecker
from datagen.remake import remake_sample
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.stages.job import Place, draw_images
from datagen.verify import verify_version
from datagen.versions import version_prefix
from tests.generators.tiny_models import TINY, save_random_model
from tests.published import Home, copied_home, flip_byte, open_home, publish
from tests.recipes import noise_recipe

SCENES: dict[str, Any] = {
    "name": "deep",
    "image_size": [32, 40],
    "classes": [{"name": "star", "count": 8, "attributes": {"modality": "CT"}}],
    "generator": {"model": "procedural", "channels": 1, "background": ["gradient"]},
    "filters": [{"filter": "blank"}],
    "augmentations": [
        {"transform": "Affine", "p": 0.5, "params": {"rotate": [-20, 20], "fill": 255}}
    ],
    "splits": {"ratios": {"train": 0.75, "val": 0.25}},
    "output": {"shard_size": 5, "bits": 16},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deep") / "home"
    publish(load_settings({}, home=folder), SCENES)
    return folder


@pytest.fixture
def damaged(published: Path, tmp_path: Path) -> Iterator[Home]:
    with copied_home(published, tmp_path / "damaged") as home:
        yield home


def reader_of(home: Home) -> VersionReader:
    version = home.version("deep")
    prefix = version_prefix("local", version.name, version.version)
    manifest = Manifest.from_bytes((home.folder("deep") / "manifest.json").read_bytes())
    return VersionReader(home.store, prefix, manifest)


def shallow() -> dict[str, Any]:
    return SCENES | {"output": {"shard_size": 5}}


def test_what_is_stored_is_what_was_drawn(published: Path) -> None:
    with open_home(published) as home:
        resolved = resolve(noise_recipe(SCENES), [home.settings.models_dir])
        coarse = resolve(noise_recipe(shallow()), [home.settings.models_dir])
        assert resolved.context({}) != coarse.context({})
        num_plain = 0
        for sample in reader_of(home).iter_samples():
            read = PillowImage.open(io.BytesIO(sample.png))
            assert read.mode == "I;16"
            pixels = decode_png(sample.png)
            np.testing.assert_array_equal(np.asarray(read), pixels[..., 0])
            place = Place("star", sample.record["ordinal"], sample.record["split"])
            raw, shown = (
                draw_images(
                    each.spec.load(each.config, None, each.options, batch_size=1),
                    each,
                    [sample.record["seed"]],
                    [place],
                )[0][0]
                for each in (resolved, coarse)
            )
            assert sha256_hex(raw.tobytes()) == sample.record["raw_sha256"]
            assert np.abs(to_8_bits(raw).astype(int) - shown).max() <= 1
            assert len(np.unique(raw)) > 256
            if not sample.record["augmentations"]:
                np.testing.assert_array_equal(pixels, raw)
                num_plain += 1
        assert 0 < num_plain < 8


def test_labels_do_not_depend_on_bits(published: Path, settings: Settings) -> None:
    publish(settings, shallow())
    with open_home(published) as home, open_home(settings.home) as other:
        found, expected = (list(reader_of(each).iter_samples()) for each in (home, other))
        for deep, plain in zip(found, expected, strict=True):
            assert deep.mask == plain.mask
            assert deep.record["labels"] == plain.record["labels"]
            assert deep.record["augmentations"] == plain.record["augmentations"]
            apart = np.abs(to_8_bits(decode_png(deep.png)).astype(int) - decode_png(plain.png))
            assert np.quantile(apart, 0.99) <= 1


def test_an_image_made_again_alone_is_identical(published: Path) -> None:
    with open_home(published) as home:
        made = remake_sample(
            home.catalog, home.store, home.settings, home.version("deep"), "star-00000003"
        )
        assert made.identical
        assert made.raw_identical


def test_verify_finds_a_flipped_byte_and_images_of_other_bits(damaged: Home) -> None:
    home = damaged
    version = home.version("deep")
    assert verify_version(home.catalog, home.store, version, tenant="local").findings == []
    manifest = reader_of(home).manifest
    entry = manifest.shards[0]
    path = home.folder("deep") / entry.path
    coarse = replace(manifest, recipe=manifest.recipe | {"output": {"bits": 8}})
    findings: list[Finding] = []
    with path.open("rb") as stream:
        ShardChecker(coarse, entry, 0).check(stream, [], findings)
    assert {f.kind for f in findings} == {"image"}
    assert findings[0].detail.endswith("40 x 32 pixels, 1 channels, 16 bits")
    row = home.rows("star")[0]
    flip_byte(home.folder("deep") / manifest.shards[row.shard].path, row.offset + row.size // 2)
    found = verify_version(home.catalog, home.store, version, tenant="local").findings
    assert ("changed", "image", "star-00000000") in {(f.problem, f.kind, f.name) for f in found}


def test_nifti_and_dicom_hold_every_bit(published: Path, tmp_path: Path) -> None:
    with open_home(published) as home:
        reader = reader_of(home)
        list(nifti.export(reader, tmp_path / "nifti"))
        list(dicom.export(reader, tmp_path / "dicom"))
        assert "grey of 16 bits" in (tmp_path / "nifti" / "README.md").read_text()
        for sample in reader.iter_samples():
            expected = decode_png(sample.png)[..., 0]
            place = f"images/{sample.record['split']}/{sample.key}"
            volume = nibabel.load(tmp_path / "nifti" / f"{place}.nii.gz")
            assert volume.get_data_dtype() == np.uint16
            np.testing.assert_array_equal(np.asarray(volume.dataobj)[..., 0].T, expected)
            made = pydicom.dcmread(tmp_path / "dicom" / f"{place}.dcm")
            assert (made.BitsAllocated, made.BitsStored, made.HighBit) == (16, 16, 15)
            assert (made.WindowCenter, made.WindowWidth) == (32768, 65536)
            np.testing.assert_array_equal(made.pixel_array, expected)


@pytest.mark.parametrize("name", ["imagefolder", "coco", "yolo", "voc", "masks", "nnunet"])
def test_layouts_of_files_hold_the_stored_png(name: str, published: Path, tmp_path: Path) -> None:
    with open_home(published) as home:
        reader = reader_of(home)
        list(FORMATS[name](reader, tmp_path / "out"))
        written = {path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
        assert {sample.png for sample in reader.iter_samples()} <= written


def test_parquet_holds_the_stored_png(published: Path, tmp_path: Path) -> None:
    with open_home(published) as home:
        reader = reader_of(home)
        list(FORMATS["parquet"](reader, tmp_path / "out"))
        tables = [parquet.read_table(path) for path in (tmp_path / "out").rglob("*.parquet")]
        found = {row["bytes"] for table in tables for row in table["image"].to_pylist()}
        assert found == {sample.png for sample in reader.iter_samples()}
        assert "pixels of 16 bits" in (home.folder("deep") / "README.md").read_text()


def test_measurements_and_contact_sheets_see_8_bits(published: Path) -> None:
    with open_home(published) as home:
        reader = reader_of(home)
        images = load_published(reader, max_images=100)
        pngs = {sample.key: sample.png for sample in reader.iter_samples()}
        for name, image in zip(images.names, images.images, strict=True):
            np.testing.assert_array_equal(image, to_8_bits(decode_png(pngs[name])))
        [sheet] = home.folder("deep").rglob("*star*.png")
        assert decode_png(sheet.read_bytes()).dtype == np.uint8


def test_an_inpainted_image_keeps_its_background_exactly() -> None:
    config = replace(
        TINY["edm"], channels=1, bits=16, condition=ConditionConfig("inpaint", (), channels=1)
    )
    sampler = EdmSampler(
        EdmDenoiser(config, EdmNetwork.model_validate(config.network)),
        batch_size=1,
        image_shape=(1, 8, 12),
        options=EdmOptions(num_inference_steps=2),
        condition=config.condition,
        bits=16,
    )
    picture = np.random.default_rng(0).integers(0, 256, (8, 12, 1), np.uint8)
    region = np.zeros((8, 12), bool)
    region[2:5, 3:9] = True
    condition = Condition(Labels("disc"), image=picture, region=region)
    [image] = sampler.sample_conditioned([4], [0], [condition])
    np.testing.assert_array_equal(image[~region], to_16_bits(picture)[~region])


SMOOTH = np.add.outer(np.sin(np.arange(36) / 4), np.cos(np.arange(36) / 6))[..., None] / 4 + 0.5
PARAMS: dict[str, dict[str, Any]] = {
    "Affine": {"rotate": [-20, 20], "scale": [0.8, 1.2], "fill": 200},
    "Rotate": {"fill": 255},
    "CoarseDropout": {"fill": 100},
    "ElasticTransform": {"alpha": 20, "sigma": 4},
}


@pytest.mark.parametrize("name", [n for n, rule in TRANSFORMS.items() if rule.takes_16_bits])
def test_a_transform_does_the_same_on_both_scales(name: str) -> None:
    requests = [AugmentationRequest(transform=name, p=1.0, params=PARAMS.get(name, {}))]
    coarse, deep = (
        Augmenter(requests, image_size=(36, 36), channels=1, bits=bits) for bits in (8, 16)
    )
    for seed in range(5):
        expected = coarse.apply(np.rint(255 * SMOOTH).astype(np.uint8), seed=seed).image
        found = deep.apply(np.rint(65535 * SMOOTH).astype(np.uint16), seed=seed).image
        assert found.dtype == np.uint16
        apart = np.abs(found / 257 - expected)
        assert apart.max() <= (4 if name == "Sharpen" else 2)  # it enlarges what was rounded off
        assert len(np.unique(found)) > 256


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"generator": {"model": "noise"}}, "output.bits", "those of noise have 3"),
        ({"generator": {"model": "tuned"}}, "output.bits", "generator lora.*gives 16: cgan"),
        (
            {"augmentations": [{"transform": "CLAHE"}]},
            r"augmentations\[0\].transform",
            "moves images of 16 bits: HorizontalFlip",
        ),
        ({"output": {"bits": 12}}, "output.bits", "8, or 16"),
        ({"output": {"bits": True}}, "output.bits", "8, or 16"),
    ],
)
def test_what_has_no_16_bits_is_refused(
    changes: dict[str, Any], field: str, words: str, settings: Settings
) -> None:
    if changes.get("generator") == {"model": "tuned"}:
        save_random_model(settings.models_dir / "tuned", TINY["lora"])
        changes = changes | {"classes": [{"name": "disc", "count": 1}]}
    with pytest.raises(RecipeError, match=f"{field}.*{words}"):
        resolve(noise_recipe({"output": {"bits": 16}} | changes), [settings.models_dir])


def test_8_bits_leave_no_trace_in_a_recipe() -> None:
    assert "bits" not in json.dumps(noise_recipe().recipe.to_json())
    said = noise_recipe({"output": {"shard_size": 32, "bits": 8}})
    assert said.recipe.to_json() == noise_recipe().recipe.to_json()
    assert noise_recipe({"output": {"bits": 16}}).recipe.to_json()["output"]["bits"] == 16
