"""Synthetic-only accuracy: a small CNN trained on generated images, tested on real ones.

    python benchmarks/utility.py --data DIR [--models fashion-mnist-cgan fashion-mnist-edm]
                                 [--images 20000] [--seeds 3]

DIR holds Fashion-MNIST's four IDX files. The same CNN is trained on as many real training images,
with the same seeds, in the same run. The test images are used for nothing else. Generated images
come from `datagen run`, whole path, with the filters of the recipe printed first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from datagen.catalog.catalog import Catalog
from datagen.embedded import run_recipe
from datagen.features import accuracy, train_classifier
from datagen.fingerprint import device_model
from datagen.formats.version import VersionReader
from datagen.images import decode_png
from datagen.recipe import canonical_json, parse_recipe
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.store import open_store
from datagen.training.dataset import RealImages, load_real_images
from datagen.training.model_recipe import DataSource
from datagen.versions import open_version

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
EPOCHS = 10


def synthetic_images(model: str, num_images: int, settings: Settings) -> RealImages:
    """num_images of a model, equal by class, through the whole path."""
    recipe = {
        "version": 1,
        "name": f"utility-{model}",
        "seed": 1,
        "image_size": [28, 28],
        "classes": [{"name": n, "count": num_images // len(CLASS_NAMES)} for n in CLASS_NAMES],
        "generator": {"model": model},
        "filters": [{"filter": "blank"}, {"filter": "duplicate"}],
        "output": {"shard_size": 1000},
    }
    document = parse_recipe(canonical_json(recipe), source=model)
    started = time.monotonic()
    result = run_recipe(
        resolve(document, [settings.models_dir]), settings, workers=os.cpu_count() or 1
    )
    rejected = sum(sum(reasons.values()) for reasons in result.rejections.values())
    print(
        f"{model}: {num_images} images, {rejected} rejected, "
        f"{time.monotonic() - started:.0f} s, digest {result.digest[:12]}",
        flush=True,
    )
    catalog = Catalog(settings.database_url)
    store = open_store(settings.store_url)
    opened = open_version(catalog, store, settings.tenant, result.name)
    return _read_all(opened.reader)


def _read_all(reader: VersionReader) -> RealImages:
    images, class_ids = [], []
    for sample in reader.iter_samples():
        images.append(decode_png(sample.png))
        class_ids.append(CLASS_NAMES.index(sample.record["class_name"]))
    return RealImages(np.stack(images), np.array(class_ids, dtype=np.int64))


def real_subset(real: RealImages, num_images: int, *, seed: int) -> RealImages:
    """Equal by class, like the synthetic set."""
    rng = np.random.default_rng(seed)
    per_class = num_images // len(CLASS_NAMES)
    rows: list[NDArray[np.int64]] = [
        rng.choice(np.flatnonzero(real.class_ids == c), per_class, replace=False)
        for c in range(len(CLASS_NAMES))
    ]
    return real.take(np.concatenate(rows))


def trained_accuracy(train: RealImages, test: RealImages, seed: int) -> float:
    import torch

    torch.set_num_threads(1)
    network = train_classifier(
        train.images,
        train.class_ids,
        num_classes=len(CLASS_NAMES),
        num_epochs=EPOCHS,
        seed=seed,
    )
    return 100 * accuracy(network, test.images, test.class_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=["fashion-mnist-cgan", "fashion-mnist-edm"])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the generated data sets here")
    arguments = parser.parse_args()
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores, {platform.python_version()}")
    source = DataSource(
        format="idx",
        path=arguments.data,
        class_names=CLASS_NAMES,
        licence="MIT",
        source="Fashion-MNIST",
    )
    test = load_real_images(source, part="test")
    real = load_real_images(source)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({}, home=arguments.home or Path(folder))
        sets = {"real": real_subset(real, arguments.images, seed=0)}
        for model in arguments.models:
            sets[model] = synthetic_images(model, arguments.images, settings)
    report(sets, test, num_seeds=arguments.seeds)


def report(sets: dict[str, RealImages], test: RealImages, *, num_seeds: int) -> None:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {
            name: [pool.submit(trained_accuracy, images, test, s) for s in range(num_seeds)]
            for name, images in sets.items()
        }
        scores = {name: [job.result() for job in each] for name, each in jobs.items()}
    baseline = statistics.mean(scores["real"])
    print(f"{'training set':24} {'accuracy %':>10} {'min':>7} {'max':>7} {'gap':>6}")
    for name, each in scores.items():
        mean = statistics.mean(each)
        gap = baseline - mean
        print(f"{name:24} {mean:10.2f} {min(each):7.2f} {max(each):7.2f} {gap:6.2f}")
    print(json.dumps({name: statistics.mean(each) for name, each in scores.items()}))


if __name__ == "__main__":
    main()
