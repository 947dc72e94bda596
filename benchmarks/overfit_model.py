"""An overfit model must be flagged: the diffusion generator on 200 images, trained far too long.

    python benchmarks/overfit_model.py --data DIR --folder DIR [--images 300000]

DIR holds Fashion-MNIST's IDX files. The same network is trained for as long on a hundred times the
images, and both are judged like any data set. Samples are kept in the folder. One core.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from few_shot import CLASS_NAMES, NUM_CLASSES, synthetic_images
from numpy.typing import NDArray

from datagen.evaluation.privacy import measure_privacy
from datagen.evaluation.utility.training import Examples
from datagen.fingerprint import device_model
from datagen.image_set import ImageSet
from datagen.references.threads import one_thread_each
from datagen.training.dataset import load_real_images
from datagen.training.model_recipe import DataSource

NUM_IMAGES, PER_CLASS, NUM_HELD_OUT = 200, 50, 2_000


def image_set(examples: Examples, prefix: str) -> ImageSet:
    names = tuple(f"{prefix}{row}" for row in range(len(examples)))
    return ImageSet(examples.images, examples.class_ids, CLASS_NAMES, names)


def balanced(real: Examples, num: int) -> Examples:
    """The first of each class, after a shuffle."""
    order = np.random.default_rng(1).permutation(len(real))
    rows: list[NDArray[np.int64]] = [
        order[real.class_ids[order] == c][: num // NUM_CLASSES] for c in range(NUM_CLASSES)
    ]
    return real.take(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300_000, help="seen in training")
    arguments = parser.parse_args()
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores", flush=True)
    source = DataSource(
        format="idx", path=arguments.data, class_names=CLASS_NAMES, licence="MIT", source="F-MNIST"
    )
    real, test = (
        Examples(each.images.copy(), each.class_ids)
        for each in (load_real_images(source, part=part) for part in ("train", "test"))
    )
    held_out = image_set(test.take(np.arange(NUM_HELD_OUT)), "held")
    for num in (NUM_IMAGES, 100 * NUM_IMAGES):
        folder = arguments.folder / f"edm-{num}"
        folder.mkdir(parents=True, exist_ok=True)
        started, known = time.process_time(), balanced(real, num)
        with one_thread_each():
            samples = synthetic_images(
                known, "edm", num_images=arguments.images, source=source, folder=folder, seed=1,
                per_class=PER_CLASS,
            )  # fmt: skip
        print(f"model of {num} images: {time.process_time() - started:.0f} CPU-seconds", flush=True)
        found = measure_privacy(
            image_set(samples, "sample"), image_set(known, "train"), held_out, quick=True, seed=1
        )
        print(found.sentence)
        print(f"  excess {found.excess.to_json()}\n  membership {found.membership.to_json()}")


if __name__ == "__main__":
    main()
