"""Planted copies of Fashion-MNIST training images: how many are found, disguise by disguise.

    python benchmarks/planted_copies.py --data DIR [--num 500] [--train 55000] [--stored]

DIR holds Fashion-MNIST's IDX files. The training images are drawn as the shipped models' are;
1,000 test images set the thresholds (others than those that show the false positives, and others
than those that copies are blended with). Found means: scored above the threshold and named with its
original. --stored searches with the compact form that ships inside a model.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.privacy.controls import plant
from datagen.references.copy_detector import CopyDetector
from datagen.references.copy_score import threshold_at

SEED = 1
NUM_CALIBRATION, NUM_MEASURED = 4_000, 1_000
RATES = (0.01, 0.001)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--train", type=int, default=55_000)
    parser.add_argument("--calibration", type=int, default=NUM_CALIBRATION)
    parser.add_argument("--stored", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(SEED)
    train = read_images(arguments.data / "train-images-idx3-ubyte.gz")
    train = train[rng.permutation(len(train))[: arguments.train]]
    known = {image.tobytes() for image in train}
    test = read_images(arguments.data / "t10k-images-idx3-ubyte.gz")
    test = test[rng.permutation(len(test))]
    test = test[[image.tobytes() not in known for image in test]]
    print(f"machine: {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    started = time.process_time()
    detector = CopyDetector.fit(train, seed=SEED, is_compact=arguments.stored)
    print(f"fit to {len(train)} images: {time.process_time() - started:.1f} CPU-seconds")
    if arguments.stored:
        size = sum(array.nbytes for array in detector.state().values())
        print(f"stored form: {size / 1e6:.2f} MB")
    report(detector, train, test, num=arguments.num, num_calibration=arguments.calibration)


def report(
    detector: CopyDetector,
    train: NDArray[np.uint8],
    test: NDArray[np.uint8],
    *,
    num: int,
    num_calibration: int,
) -> None:
    calibration = test[:num_calibration]
    measured = test[NUM_CALIBRATION : NUM_CALIBRATION + NUM_MEASURED]
    started = time.process_time()
    scores = detector.search(calibration).score
    seconds = (time.process_time() - started) / len(calibration)
    print(f"search: {1000 * seconds:.1f} CPU-ms an image")
    chance = detector.search(measured).score
    thresholds = [threshold_at(scores, rate) for rate in RATES]
    rates = ", ".join(f"{(chance > threshold).mean():.2%}" for threshold in thresholds)
    print(f"false positives on {len(measured)} other held-out images: {rates}")
    print(f"{'disguise':12}{'named':>8}" + "".join(f"{f'at {rate:.1%}':>10}" for rate in RATES))
    for each in plant(train, test[NUM_CALIBRATION + NUM_MEASURED :], num=num, seed=SEED):
        found = detector.search(each.images)
        named = (train[found.original] == train[each.rows]).all(axis=(1, 2, 3))
        recalls = [(named & (found.score > threshold)).mean() for threshold in thresholds]
        shares = "".join(f"{recall:10.3f}" for recall in recalls)
        print(f"{each.disguise:12}{named.mean():8.3f}{shares}", flush=True)


def read_images(path: Path) -> NDArray[np.uint8]:
    """An IDX file of images => (N, H, W, 1)."""
    with gzip.open(path) as file:
        content = file.read()
    num, height, width = np.frombuffer(content, ">i4", 3, 4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(num, height, width, 1)


if __name__ == "__main__":
    main()
