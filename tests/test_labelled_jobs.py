"""Images with labels beside their class, from the recipe to what readers get and verify checks."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.catalog.samples import iterate_samples
from datagen.digest import DatasetDigest
from datagen.errors import RecipeError
from datagen.formats.shard import ShardMember, pack_shard
from datagen.formats.version import StoredSample, VersionReader
from datagen.generators import GENERATORS
from datagen.images import decode_label_map, decode_png, encode_label_map
from datagen.label_checks import check_labels
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import canonical_json
from datagen.records import Finding, ShardChecker
from datagen.remake import remake_sample
from datagen.resolve import _check_formats, resolve
from datagen.settings import load_settings
from datagen.verify import verify_version
from datagen.versions import version_prefix
from tests.formats.readers import read_by
from tests.published import Home, copied_home, open_home, publish
from tests.recipes import noise_recipe

SCENES: dict[str, Any] = {
    "name": "scenes",
    "image_size": [32, 40],
    "classes": [
        {"name": "star", "count": 9, "also": ["shape"], "caption": "a star among others"},
        {"name": "mixed", "count": 7},
    ],
    "generator": {"model": "procedural", "channels": 1},
    "augmentations": [
        {"transform": "HorizontalFlip", "p": 0.5},
        {"transform": "Affine", "p": 0.5, "params": {"rotate": [-20, 20]}},
    ],
    "splits": {"ratios": {"train": 0.75, "val": 0.25}},
    "output": {"shard_size": 5},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "home"
    publish(load_settings({}, home=folder), SCENES)
    return folder


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Iterator[Home]:
    with copied_home(published, tmp_path / "home") as home:
        yield home


def reader_of(home: Home) -> VersionReader:
    version = home.version("scenes")
    prefix = version_prefix("local", version.name, version.version)
    manifest = Manifest.from_bytes((home.folder("scenes") / "manifest.json").read_bytes())
    return VersionReader(home.store, prefix, manifest)


def samples_of(home: Home) -> list[StoredSample]:
    return list(reader_of(home).iter_samples())


def test_every_sample_has_labels_that_fit_its_image(published: Path) -> None:
    with open_home(published) as home:
        reader = reader_of(home)
        assert reader.names[0] == "background"
        assert "star" in reader.names
        samples = list(reader.iter_samples())
        assert len(samples) == 16
        for sample in samples:
            labels = sample.labels
            check_labels(labels, decode_png(sample.png).shape[:2], reader.names)
            assert labels.mask is not None
            assert labels.instances is not None
            assert labels.objects
            if labels.class_name == "star":
                assert labels.also == ("shape",)
                assert labels.caption == "a star among others"
                assert {each.class_name for each in labels.objects} == {"star"}
            else:
                assert labels.also == ()
                assert labels.caption is None


def test_masks_move_with_the_pixels(published: Path) -> None:
    """Objects stand out from the background in grey; a mask that stayed behind would not fit."""
    with open_home(published) as home:
        moved = [s for s in samples_of(home) if s.record["augmentations"]]
        assert moved
        for sample in moved:
            labels = sample.labels
            assert labels.mask is not None
            inside = decode_png(sample.png)[..., 0].astype(float)
            edge = np.abs(np.diff(inside, axis=1)) > 25
            border = np.diff(labels.mask.astype(int), axis=1) != 0
            assert edge[border].mean() > 3 * edge[~border].mean()


def test_an_image_made_again_alone_is_identical(published: Path) -> None:
    with open_home(published) as home:
        for key in ("star-00000000", "mixed-00000005"):
            made = remake_sample(
                home.catalog, home.store, home.settings, home.version("scenes"), key
            )
            assert made.identical
            assert made.raw_identical


def test_the_catalog_and_the_index_hold_the_labels_too(published: Path) -> None:
    import pyarrow.parquet as pq

    with open_home(published) as home:
        records = {s.key: s.record for s in samples_of(home)}
        version = home.version("scenes")
        rows = [
            row
            for name in ("star", "mixed")
            for row in iterate_samples(home.catalog, version.job_id, name)
        ]
        for row in rows:
            record = records[f"{row.class_name}-{row.ordinal:08d}"]
            assert json.loads(row.labels) == record["labels"]
        reader = reader_of(home)
        with reader.open_object(reader.manifest.index[0]) as stream:
            table = pq.read_table(io.BytesIO(stream.read()))
        for key, text in zip(table["key"].to_pylist(), table["labels"].to_pylist(), strict=True):
            assert json.loads(text) == records[key]["labels"]


def test_card_and_croissant_tell_of_the_labels(published: Path) -> None:
    with open_home(published) as home:
        folder = home.folder("scenes")
        card = (folder / "README.md").read_text()
        assert "## Labels beside the class" in card
        assert "image-segmentation" in card
        document = json.loads((folder / "croissant.json").read_text())
        images = next(f for f in document["distribution"] if f["@id"] == "images")
        assert images["includes"] == "*[0-9].png"
        fields = [f["name"] for f in document["recordSet"][0]["field"]]
        assert "labels" in fields


@pytest.mark.slow
def test_mlcroissant_reads_images_with_labels(published: Path, tmp_path: Path) -> None:
    with open_home(published) as home:
        keys = {sample.key for sample in samples_of(home)}
        seen = read_by(
            "croissant", str(home.folder("scenes") / "croissant.json"), cache=tmp_path / "cache"
        )
    assert (seen["errors"], seen["warnings"]) == ([], [])
    assert {record["key"] for record in seen["records"]} == keys
    assert len(seen["records"]) == len(keys)


def test_a_data_set_without_labels_keeps_its_index() -> None:
    from datagen.formats.index import write_index

    assert write_index([]) == write_index([], has_labels=False)
    assert write_index([]) != write_index([], has_labels=True)


@pytest.mark.parametrize("kind", ["mask", "instances"])
def test_one_flipped_bit_of_a_label_map_is_found(home: Home, kind: str) -> None:
    sample = samples_of(home)[3]
    data = getattr(sample, kind)
    for entry in reader_of(home).shards():
        path = home.folder("scenes") / entry.path
        content = path.read_bytes()
        place = content.find(data)
        if place >= 0:
            changed = bytearray(content)
            changed[place + len(data) // 2] ^= 1
            path.chmod(0o644)
            path.write_bytes(bytes(changed))
            break
    found = verify_version(home.catalog, home.store, home.version("scenes"), tenant="local")
    assert [finding.problem for finding in found.findings] == ["changed"]


def test_a_label_map_that_is_not_the_records_is_found_in_a_sound_shard(published: Path) -> None:
    """Whoever changed it made the shard and its digest anew."""
    with open_home(published) as home:
        reader = reader_of(home)
        entry = reader.shards()[0]
        sample = next(reader.iter_shard(entry))
    whole = ShardMember(
        sample.key, sample.png, canonical_json(sample.record), sample.mask, sample.instances
    )
    assert findings(reader.manifest, entry, whole) == []
    other = encode_label_map(np.zeros((32, 40), np.uint8))
    assert findings(reader.manifest, entry, replace(whole, mask=other)) == ["labels"]
    assert findings(reader.manifest, entry, replace(whole, mask=b"")) == ["labels"]


def findings(manifest: Manifest, entry: ObjectEntry, member: ShardMember) -> list[str]:
    found: list[Finding] = []
    packed = pack_shard([member]).data
    ShardChecker(manifest, entry, 0).check(io.BytesIO(packed), [], found)
    return [each.kind for each in found]


def test_labels_are_part_of_the_digest() -> None:
    def digest(labels: dict[str, Any]) -> str:
        total = DatasetDigest()
        total.add("star", 0, "a" * 64, {}, "train", labels)
        return total.hexdigest()

    assert digest({"mask_sha256": "0" * 64}) != digest({"mask_sha256": "1" * 64})
    assert digest({}) != digest({"also": ["shape"]})


def test_the_stored_maps_are_those_that_the_record_names(published: Path) -> None:
    with open_home(published) as home:
        for sample in samples_of(home):
            for kind in ("mask", "instances"):
                data = getattr(sample, kind)
                assert hashlib.sha256(data).hexdigest() == sample.record["labels"][f"{kind}_sha256"]
                assert decode_label_map(data).shape == (32, 40)


@pytest.mark.parametrize(
    ("format_name", "split"),
    [
        ("coco", "annotations"),
        ("yolo", "images"),
        ("yolo-segment", "labels"),
        ("yolo", "names"),
    ],
)
def test_splits_that_a_format_cannot_hold_are_refused_by_validate(
    format_name: str, split: str
) -> None:
    splits = {"ratios": {"train": 0.5, split: 0.5}}
    bad = SCENES | {"splits": splits, "output": {"formats": ["webdataset", format_name]}}
    with pytest.raises(RecipeError, match=f"split '{split}'") as caught:
        resolve(noise_recipe(bad), [])
    assert "output.formats[1]" in str(caught.value)
    assert "rename the split" in str(caught.value)
    resolve(noise_recipe(bad | {"output": {"formats": ["webdataset", "voc", "nnunet"]}}), [])


@pytest.mark.parametrize(
    ("format_name", "names"),
    [("nnunet", ["ignore", "n1"]), ("voc", [f"n{i}" for i in range(255)])],
)
def test_names_that_a_format_cannot_hold_are_refused_by_validate(
    format_name: str, names: list[str]
) -> None:
    recipe = noise_recipe({"output": {"formats": [format_name]}}).recipe
    kinds = frozenset({"mask", "instances"})
    with pytest.raises(RecipeError, match=r"output\.formats\[0\]"):
        _check_formats(recipe, ["background", *names], kinds)
    _check_formats(recipe, ["background", *names[1:]], kinds)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"conditioning": {"mask": {"model": "procedural"}}}, "conditioning.mask", "no condition"),
        ({"output": {"formats": ["coco"]}}, "output.formats[0]", "the images of this recipe have"),
        (
            {"conditioning": {"mask": {"model": "a"}, "image": {"model": "b"}}},
            "conditioning.image",
            "one condition",
        ),
        ({"labels": {"min_visibility": 2}}, "labels.min_visibility", "a share from 0 to 1"),
        ({"labels": {"min_visibility": 0.2}}, "labels.min_visibility", "have no objects"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], field: str, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve(noise_recipe(changes), [])
    assert field in str(caught.value)
    assert expected in str(caught.value)


def test_the_families_that_draw_conditions_are_known() -> None:
    drawing = {name for name, spec in GENERATORS.items() if hasattr(spec, "conditioner")}
    assert {"procedural"} <= drawing
