"""version.py: what it yields, and what it finds changed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from datagen.errors import StoreError, VerifyError
from datagen.formats.shard import ShardMember, iterate_shard, pack_shard
from datagen.formats.version import VersionReader
from datagen.images import decode_png, sha256_hex
from datagen.manifest import ObjectEntry
from datagen.recipe import canonical_json
from tests.formats.small_version import (
    ATTRIBUTES,
    PREFIX,
    SmallVersion,
    publish_small_version,
    replace_object,
)


@pytest.fixture
def version(tmp_path: Any) -> SmallVersion:
    return publish_small_version(tmp_path)


def _members(version: SmallVersion, entry: ObjectEntry) -> list[ShardMember]:
    with (version.folder / entry.path).open("rb") as stream:
        return list(iterate_shard(stream))


def _read_with(version: SmallVersion, members: list[ShardMember]) -> None:
    """Puts a shard whose digest is right in place of the first, and reads everything."""
    data = pack_shard(members).data
    first = version.manifest.shards[0]
    changed = dataclasses.replace(first, sha256=sha256_hex(data), size_bytes=len(data))
    replace_object(version, changed, data)
    shards = [changed, *version.manifest.shards[1:]]
    manifest = dataclasses.replace(version.manifest, shards=shards)
    list(VersionReader(version.store, PREFIX, manifest).iter_samples())


def test_yields_every_sample_once_with_its_pixels_and_labels(version: SmallVersion) -> None:
    seen = {sample.key: sample for sample in version.reader.iter_samples()}
    assert seen.keys() == version.images.keys()
    for key, sample in seen.items():
        np.testing.assert_array_equal(decode_png(sample.png), version.images[key])
        assert (sample.record["split"], sample.record["class_name"]) == version.labels[key]
        assert sha256_hex(sample.png) == sample.record["image_sha256"]


def test_one_split_opens_only_its_shards(version: SmallVersion) -> None:
    for entry in version.reader.shards("train"):
        (version.folder / entry.path).unlink()
    keys = {sample.key for sample in version.reader.iter_samples("val")}
    assert keys == {key for key, (split, _) in version.labels.items() if split == "val"}


def test_classes_and_splits_are_in_the_order_of_recipe_and_manifest(version: SmallVersion) -> None:
    assert version.reader.class_names == tuple(ATTRIBUTES)
    assert version.reader.splits == ("train", "val")


def test_any_flipped_byte_is_found_and_the_shard_is_named(version: SmallVersion) -> None:
    entry = version.manifest.shards[1]
    data = (version.folder / entry.path).read_bytes()
    for place in [*range(0, len(data), 701), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 0x01
        replace_object(version, entry, bytes(changed))
        with pytest.raises(VerifyError, match=entry.path):
            list(version.reader.iter_samples())


@pytest.mark.parametrize("change", [lambda d: d[:-512], lambda d: d + bytes(512), lambda d: b""])
def test_a_shard_of_another_length_is_found(version: SmallVersion, change: Any) -> None:
    entry = version.manifest.shards[-1]
    replace_object(version, entry, change((version.folder / entry.path).read_bytes()))
    with pytest.raises(VerifyError, match=entry.path):
        list(version.reader.iter_samples())


def test_a_missing_shard_is_named(version: SmallVersion) -> None:
    entry = version.manifest.shards[0]
    (version.folder / entry.path).unlink()
    with pytest.raises(StoreError, match=entry.path):
        list(version.reader.iter_samples())


def test_a_shard_with_a_sample_too_few_is_found(version: SmallVersion) -> None:
    with pytest.raises(VerifyError, match="7 samples, expected 8"):
        _read_with(version, _members(version, version.manifest.shards[0])[1:])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", "trouser-00000999"),
        ("split", "val"),
        ("class_name", "../../etc"),
        ("class_name", ["bag"]),
        ("ordinal", "1"),
        ("attributes", []),
    ],
)
def test_a_record_that_contradicts_the_manifest_is_refused(
    version: SmallVersion, field: str, value: Any
) -> None:
    """Digests are right: whoever wrote the bucket could write the manifest as well."""
    members = _members(version, version.manifest.shards[0])
    record = {**json.loads(members[2].json), field: value}
    members[2] = dataclasses.replace(members[2], json=canonical_json(record))
    with pytest.raises(VerifyError, match=members[2].key):
        _read_with(version, members)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"null"])
def test_a_record_that_is_no_json_object_is_refused(version: SmallVersion, content: bytes) -> None:
    members = _members(version, version.manifest.shards[0])
    members[0] = dataclasses.replace(members[0], json=content)
    with pytest.raises(VerifyError, match="is damaged"):
        _read_with(version, members)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".", "a" * 64])
def test_a_manifest_with_names_that_are_paths_is_refused(version: SmallVersion, name: str) -> None:
    recipe = {**version.manifest.recipe, "classes": [{"name": name}]}
    split = dataclasses.replace(version.manifest.shards[0], split=name)
    for manifest in (
        dataclasses.replace(version.manifest, recipe=recipe),
        dataclasses.replace(version.manifest, shards=[split]),
    ):
        with pytest.raises(VerifyError, match=r"manifest\.json"):
            VersionReader(version.store, PREFIX, manifest)
