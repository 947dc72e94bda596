"""COCO export of many labelled images: time and memory against their number. Run by hand:

    PYTHONPATH=. python benchmarks/coco_export.py [--images 25000 50000 100000]

Each size in a process of its own. Images are 32 x 32 grey with 0 to 3 objects, published in shards
of 256 by the functions that the engine uses; what is read and written is on the disk that --folder
is on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from large_catalog import machine

from datagen.formats import coco
from datagen.formats.shard import ShardMember, pack_shard
from datagen.formats.version import VersionReader
from datagen.images import encode_label_map, encode_png, sha256_hex
from datagen.label_shapes import instance_boxes
from datagen.labels import Keypoint, LabelledObject, Labels
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import canonical_json
from datagen.store import DirectoryStore

SIZES = (25_000, 50_000, 100_000)
SIDE = 32
SHARD_SIZE = 256
NAMES = ("background", "disc", "square")
PREFIX = "local/datasets/many/1/"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", type=Path, help="where to work; else the temporary folder")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        measure(arguments.one, arguments.folder)
        return
    print(machine())
    print(f"{'images':>8} {'export s':>9} {'ms/image':>9} {'peak MB':>8} {'grown MB':>9} read back")
    figures = []
    for num_images in arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            command = [sys.executable, __file__, "--folder", folder]
            done = subprocess.run(
                [*command, "--one", str(num_images)], stdout=subprocess.PIPE, text=True, check=True
            )
        row = json.loads(done.stdout.splitlines()[-1])
        figures.append(row)
        print(
            f"{num_images:8d} {row['export_s']:9.2f} {1e3 * row['export_s'] / num_images:9.4f} "
            f"{row['peak_mb']:8.1f} {row['grown_mb']:9.1f} {row['read_back']}"
        )
    first, last = figures[0], figures[-1]
    times = arguments.images[-1] / arguments.images[0]
    print(
        f"{times:.1f} times the images: {last['export_s'] / first['export_s']:.2f} times the time, "
        f"{last['peak_mb'] / first['peak_mb']:.3f} times the peak memory"
    )


def measure(num_images: int, folder: Path) -> None:
    """Prints one line of JSON. Memory is read before pycocotools, which holds all, reads back."""
    reader = publish(folder / "store", num_images)
    for _ in coco.export(publish(folder / "warm-store", SHARD_SIZE), folder / "warm"):
        pass
    before_mb = peak_mb()
    start = time.perf_counter()
    for _ in coco.export(reader, folder / "coco"):
        pass
    export_s = time.perf_counter() - start
    after_mb = peak_mb()
    equal = read_back(folder / "coco", num_images)
    shutil.rmtree(folder / "coco")
    row = {
        "export_s": export_s,
        "peak_mb": after_mb,
        "grown_mb": after_mb - before_mb,
        "read_back": f"{equal} of {num_images} equal",
    }
    print(json.dumps(row))


def read_back(folder: Path, num_images: int) -> int:
    """The number of images whose masks and boxes pycocotools reads as they were drawn."""
    import warnings

    from pycocotools.coco import COCO

    read = COCO(folder / "annotations" / "instances_train.json")
    equal = 0
    for ordinal in range(num_images):
        image = read.imgs[ordinal + 1]
        assert image["file_name"] == f"scene-{ordinal:08d}.png"
        labels = draw(ordinal)
        assert labels.instances is not None
        seen = np.zeros((SIDE, SIDE), np.uint16)
        boxes = []
        for k, annotation in enumerate(read.imgToAnns[ordinal + 1], start=1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools' own
                seen[read.annToMask(annotation) > 0] = k
            x, y, width, height = annotation["bbox"]
            boxes.append((x, y, x + width, y + height))
        expected = [each.box_xyxy for each in labels.objects or ()]
        equal += bool((seen == labels.instances).all() and boxes == expected)
    return equal


def draw(ordinal: int) -> Labels:
    rng = np.random.default_rng(ordinal)
    instances = np.zeros((SIDE, SIDE), np.uint16)
    for k in range(1, int(rng.integers(0, 4)) + 1):
        x, y = rng.integers(0, SIDE - 8, 2)
        instances[y : y + 8, x : x + 8] = k
    # One may hide another wholly: the numbers that are left close up.
    _, compact = np.unique(np.append(instances.ravel(), 0), return_inverse=True)
    instances = compact[:-1].reshape(SIDE, SIDE).astype(np.uint16)
    objects = tuple(
        LabelledObject(NAMES[1 + k % 2], box, (Keypoint("corner", box[0], box[1]),) * (k % 2))
        for k, box in sorted(instance_boxes(instances).items())
    )
    return Labels("scene", instances=instances, objects=objects)


def publish(root: Path, num_images: int) -> VersionReader:
    store = DirectoryStore(root)
    shards = []
    for number, first in enumerate(range(0, num_images, SHARD_SIZE)):
        count = min(SHARD_SIZE, num_images - first)
        data = pack_shard(members(first, count)).data
        path = f"shards/{number:05d}-{sha256_hex(data)}.tar"
        store.put_new(PREFIX + path, data)
        entry = ObjectEntry(path, sha256_hex(data), len(data))
        shards.append(dataclasses.replace(entry, num_samples=count, split="train"))
    recipe = {"classes": [{"name": "scene"}], "conditioning": {"names": list(NAMES)}}
    manifest = Manifest(
        name="many",
        version=1,
        digest=sha256_hex(b"many"),
        recipe_digest=sha256_hex(b"recipe"),
        recipe=recipe,
        model={"name": "procedural"},
        image_size=(SIDE, SIDE),
        channels=1,
        counts={"scene": {"train": num_images}},
        fingerprint={},
        code_version="0",
        shards=shards,
        index=[],
        documents=[],
    )
    return VersionReader(store, PREFIX, manifest)


def members(first: int, count: int) -> Iterator[ShardMember]:
    for ordinal in range(first, first + count):
        labels = draw(ordinal)
        assert labels.instances is not None
        key = f"scene-{ordinal:08d}"
        record = {
            "key": key,
            "class_name": "scene",
            "attributes": {},
            "ordinal": ordinal,
            "split": "train",
            "labels": labels.spatial_json(),
        }
        png = encode_png((labels.instances * 60).astype(np.uint8)[..., None])
        instances = encode_label_map(labels.instances)
        yield ShardMember(key, png, canonical_json(record), instances=instances)


def peak_mb() -> float:
    """Of this process so far. Not getrusage: its figure begins with what the parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


if __name__ == "__main__":
    main()
