"""A small published version, made without the engine: what every format test reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.formats.index import write_index
from datagen.formats.shard import ShardMember, pack_shard
from datagen.formats.version import VersionReader
from datagen.images import Image, encode_label_map, encode_png, sha256_hex
from datagen.labels import Labels
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import canonical_json
from datagen.store import DirectoryStore, Store

PREFIX = "local/datasets/small/3/"
# Not in alphabetical order: a format that sorts class names would change the class ids.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "trouser": {},
    "ankle-boot": {"season": "winter", "height_cm": 12.5},
    "bag": {"season": 4},
}
SPLIT_EVERY = 4  # ordinals 0, 4, 8 ... go to the second split


@dataclass(frozen=True)
class SmallVersion:
    """images: key -> pixels. labels: key -> (split, class name)."""

    root: Path
    store: Store
    manifest: Manifest
    images: dict[str, Image]
    labels: dict[str, tuple[str, str]]
    rows: list[dict[str, Any]]

    @property
    def reader(self) -> VersionReader:
        return VersionReader(self.store, PREFIX, self.manifest)

    @property
    def folder(self) -> Path:
        return self.root / PREFIX


def publish_small_version(
    root: Path,
    *,
    num_per_class: int = 10,
    channels: int = 3,
    shard_size: int = 8,
    image_size: tuple[int, int] = (12, 9),
    splits: tuple[str, str] = ("train", "val"),
    scene: Callable[[int, str], Labels] | None = None,
    names: tuple[str, ...] = (),
) -> SmallVersion:
    """Puts shards and an index of seeded noise into a directory store. scene: ordinal and class
    name => what is true of the image. names: of its label maps' values."""
    store = DirectoryStore(root)
    rng = np.random.default_rng(5)
    images: dict[str, Image] = {}
    labels: dict[str, tuple[str, str]] = {}
    shards: list[ObjectEntry] = []
    rows: list[dict[str, Any]] = []
    for split in splits:
        wanted = [
            (class_name, ordinal)
            for ordinal in range(num_per_class)
            for class_name in ATTRIBUTES
            if (ordinal % SPLIT_EVERY == 0) == (split == splits[1])
        ]
        for first in range(0, len(wanted), shard_size):
            members: list[ShardMember] = []
            for class_name, ordinal in wanted[first : first + shard_size]:
                image = rng.integers(0, 256, (*image_size, channels), dtype=np.uint8)
                key = f"{class_name}-{ordinal:08d}"
                images[key], labels[key] = image, (split, class_name)
                png = encode_png(image, text={"datagen:key": key})
                record = _record(key, class_name, ordinal, split, png)
                maps = {}
                if scene is not None:
                    drawn = scene(ordinal, class_name)
                    record["labels"] = drawn.spatial_json()
                    maps = _maps(drawn)
                members.append(ShardMember(key, png, canonical_json(record), **maps))
                rows.append({**record, "class_id": list(ATTRIBUTES).index(class_name)})
            shards.append(_put_shard(store, len(shards), split, members, rows))
    index = _put(store, "index/00000-{}.parquet", write_index(rows))
    manifest = _manifest(num_per_class, channels, image_size, splits, shards, index)
    if names:
        manifest.recipe["conditioning"] = {"names": list(names)}
    return SmallVersion(root, store, manifest, images, labels, rows)


def replace_object(version: SmallVersion, entry: ObjectEntry, data: bytes) -> None:
    """Changes a stored object, as no writer of ours would."""
    (version.folder / entry.path).write_bytes(data)


def with_shards(manifest: Manifest, shards: list[ObjectEntry]) -> Manifest:
    return dataclasses.replace(manifest, shards=shards)


def _maps(labels: Labels) -> dict[str, bytes]:
    given = {"mask": labels.mask, "instances": labels.instances}
    return {name: encode_label_map(m) for name, m in given.items() if m is not None}


def _record(key: str, class_name: str, ordinal: int, split: str, png: bytes) -> dict[str, Any]:
    return {
        "key": key,
        "class_name": class_name,
        "attributes": ATTRIBUTES[class_name],
        "ordinal": ordinal,
        "split": split,
        "attempt": ordinal % 2,
        "attempt_key": sha256_hex(key.encode()),
        "seed": 2**62 + ordinal,
        "augmentation_seed": 2**61 + ordinal,
        "augmentations": [{"transform": "HorizontalFlip", "params": {}}] if ordinal % 2 else [],
        "scores": {"blank": 0.25, "duplicate": "f0" * 16},
        "model": "noise",
        "model_digest": sha256_hex(b"noise"),
        "recipe_digest": sha256_hex(b"recipe"),
        "raw_sha256": sha256_hex(b"raw" + key.encode()),
        "image_sha256": sha256_hex(png),
    }


def _put_shard(
    store: Store, index: int, split: str, members: list[ShardMember], rows: list[dict[str, Any]]
) -> ObjectEntry:
    packed = pack_shard(members)
    entry = _put(store, f"shards/{index:05d}-{{}}.tar", packed.data)
    places = zip(rows[-len(members) :], packed.offsets, strict=True)
    for row, (offset, size) in places:
        row.update(shard=entry.path, offset=offset, size=size)
    return dataclasses.replace(entry, num_samples=len(members), split=split)


def _put(store: Store, pattern: str, data: bytes) -> ObjectEntry:
    path = pattern.format(sha256_hex(data))
    store.put_new(PREFIX + path, data)
    return ObjectEntry(path, sha256_hex(data), len(data))


def _manifest(
    num_per_class: int,
    channels: int,
    image_size: tuple[int, int],
    splits: tuple[str, str],
    shards: list[ObjectEntry],
    index: ObjectEntry,
) -> Manifest:
    num_second = len(range(0, num_per_class, SPLIT_EVERY))
    by_split = {splits[0]: num_per_class - num_second, splits[1]: num_second}
    recipe = {
        "version": 1,
        "name": "small",
        "classes": [
            {"name": name, "count": num_per_class, "attributes": attributes}
            for name, attributes in ATTRIBUTES.items()
        ],
        "generator": {"model": "noise"},
    }
    return Manifest(
        name="small",
        version=3,
        digest=sha256_hex(b"small"),
        recipe_digest=sha256_hex(b"recipe"),
        recipe=recipe,
        model={"name": "noise", "digest": sha256_hex(b"noise")},
        image_size=image_size,
        channels=channels,
        counts={name: dict(by_split) for name in ATTRIBUTES},
        fingerprint={"numpy": "2"},
        code_version="0.1.0",
        shards=shards,
        index=[index],
        documents=[],
    )
