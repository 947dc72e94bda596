"""The figures behind the filters' defaults: perceptual hashes and contrast on real images.

    python benchmarks/duplicate_hashes.py --data DIR

DIR holds Fashion-MNIST's IDX files. For each hash and threshold: the share of real images that
another of the 6,000 of their class would flag, and the share of planted near-duplicates found.
Then the contrast of real images, and what the two filters and the judge cost. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datagen.filters import FILTERS
from datagen.filters.duplicate import DuplicateJudge, DuplicateOptions
from datagen.filters.interface import Score
from datagen.fingerprint import device_model
from datagen.training.dataset import load_real_images
from datagen.training.model_recipe import DataSource

Images = NDArray[np.uint8]
Bits = NDArray[np.bool_]

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
NUM_PLANTED = 4000
NUM_JUDGED = 100_000


# --- candidates: (N, 28, 28) uint8 => (N, bits) ---------------------------------------------------


def average_hash(images: Images) -> Bits:
    small = resized(images, 8, 8)
    return small > small.mean(axis=1, keepdims=True)


def difference_hash(images: Images, side: int) -> Bits:
    small = resized(images, side, side + 1).reshape(-1, side, side + 1)
    return (small[:, :, 1:] > small[:, :, :-1]).reshape(len(images), -1)


def dct_hash(images: Images, side: int) -> Bits:
    """pHash: the lowest side x side DCT coefficients of a 32 x 32 image against their median."""
    place = np.arange(32)
    basis = np.cos(np.pi * (2 * place[None] + 1) * place[:side, None] / 64)
    waves = basis @ resized(images, 32, 32).reshape(-1, 32, 32) @ basis.T
    flat = waves.reshape(len(images), -1)
    return flat > np.median(flat, axis=1, keepdims=True)


def plain_projections(images: Images) -> Bits:
    """As ours, without the filter that passes outlines: random signs, less the image's mean."""
    signs = np.random.default_rng(1).integers(0, 2, (784, 256)) * 2.0 - 1
    return images.reshape(len(images), -1) @ (signs - signs.mean(axis=0)) > 0


def ours(images: Images) -> Bits:
    scores = scores_of("duplicate", images[..., None])
    packed = np.frombuffer(bytes.fromhex("".join(map(str, scores))), np.uint8)
    return np.unpackbits(packed).reshape(len(images), -1).astype(bool)


def scores_of(name: str, images: Images) -> list[Score]:
    return FILTERS[name].score(images, [""] * len(images), None)


def resized(images: Images, height: int, width: int) -> NDArray[np.float64]:
    """(N, height * width), by area."""
    small = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(small).astype(np.float64).reshape(len(images), -1)


CANDIDATES: dict[str, tuple[Callable[[Images], Bits], tuple[int, ...]]] = {
    "average 8x8 (aHash)": (average_hash, (0, 1, 2)),
    "difference 8x8 (dHash)": (lambda images: difference_hash(images, 8), (0, 2, 5)),
    "DCT 8x8 (pHash)": (lambda images: dct_hash(images, 8), (0, 2, 4)),
    "difference 16x16": (lambda images: difference_hash(images, 16), (0, 10, 30)),
    "DCT 16x16": (lambda images: dct_hash(images, 16), (0, 4, 8, 12)),
    "projections, plain": (plain_projections, (0, 4, 6, 8)),
    "**projections of outlines**": (ours, (0, 2, 4, 5, 6, 7, 8, 10, 12, 16)),
}


# --- near-duplicates ------------------------------------------------------------------------------


def planted(images: Images) -> dict[str, Images]:
    """Copies that a person takes for the same image."""
    noise = np.random.default_rng(0).integers(-2, 3, images.shape)
    jpeg = [
        cv2.imdecode(
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1], cv2.IMREAD_GRAYSCALE
        )
        for image in images
    ]
    return {
        "noise +-2": np.clip(images + noise, 0, 255).astype(np.uint8),
        "1 level up": np.clip(images.astype(np.int64) + 1, 0, 255).astype(np.uint8),
        "JPEG 95": np.stack(jpeg),
        "contrast -5%": (images * 0.95).round().astype(np.uint8),
    }


def nearest_in_class(bits: Bits) -> NDArray[np.int64]:
    """(N,): the distance to the nearest other row."""
    signs = bits.astype(np.float32) * 2 - 1
    nearest = np.empty(len(bits), np.int64)
    for start in range(0, len(bits), 1000):
        block = signs[start : start + 1000]
        apart = (bits.shape[1] - block @ signs.T) / 2
        apart[np.arange(len(block)), np.arange(start, start + len(block))] = bits.shape[1] + 1
        nearest[start : start + 1000] = apart.min(axis=1).round()
    return nearest


def print_hashes(images: Images, class_ids: NDArray[np.int64]) -> None:
    some = images[np.random.default_rng(2).choice(len(images), NUM_PLANTED, replace=False)]
    copies = planted(some)
    print("| hash | bits | distance | " + " | ".join(f"finds {name}" for name in copies), end="")
    print(" | flags real trousers | worst class | mean of classes |")
    print("|" + "---|" * (6 + len(copies)))
    for name, (hash_images, thresholds) in CANDIDATES.items():
        originals = hash_images(some)
        found = [(hash_images(copy) != originals).sum(axis=1) for copy in copies.values()]
        bits = hash_images(images)
        nearest = [nearest_in_class(bits[class_ids == label]) for label in range(len(CLASS_NAMES))]
        for threshold in thresholds:
            recalls = [f"{(apart <= threshold).mean():.1%}" for apart in found]
            flagged = np.array([(apart <= threshold).mean() for apart in nearest])
            trouser, worst = flagged[CLASS_NAMES.index("trouser")], int(flagged.argmax())
            cells = [name, str(bits.shape[1]), str(threshold), *recalls, f"{trouser:.2%}"]
            cells += [f"{flagged[worst]:.2%} {CLASS_NAMES[worst]}", f"{flagged.mean():.2%}"]
            print("| " + " | ".join(cells) + " |", flush=True)


def print_classes(images: Images, class_ids: NDArray[np.int64]) -> None:
    limit = DuplicateOptions().max_distance
    bits = ours(images)
    nearest = [nearest_in_class(bits[class_ids == label]) for label in range(len(CLASS_NAMES))]
    print(f"\nReal images flagged by the default, {limit} bits:\n")
    print("| " + " | ".join(CLASS_NAMES) + " |\n|" + "---|" * len(CLASS_NAMES))
    print("| " + " | ".join(f"{(apart <= limit).mean():.2%}" for apart in nearest) + " |")


# --- contrast and cost ----------------------------------------------------------------------------


def print_contrast(images: Images) -> None:
    rng = np.random.default_rng(3)
    real = np.sort(np.array(scores_of("blank", images[..., None]), np.float64))
    print("\n| image | contrast |\n|---|---|")
    for spread in (2, 4, 8, 16):
        noise = rng.integers(128 - spread, 129 + spread, (1000, 28, 28, 1)).astype(np.uint8)
        mean = np.mean(np.array(scores_of("blank", noise), np.float64))
        print(f"| an even ground with noise of +-{spread} levels | {mean:.4f} |")
    for place, what in ((0, "faintest"), (60, "1 in 1,000"), (600, "1 in 100"), (30000, "median")):
        print(f"| real: {what} of {len(real):,} | {real[place]:.4f} |")


def print_filter_costs(images: Images) -> None:
    print("\n| what | cost |\n|---|---|")
    for name in ("blank", "duplicate"):
        for batch_size in (64, 1024):
            batches = [images[i : i + batch_size, ..., None] for i in range(0, 8192, batch_size)]
            scores_of(name, batches[0])
            start = time.process_time()
            for batch in batches:
                scores_of(name, batch)
            core_us = (time.process_time() - start) / 8192 * 1e6
            print(f"| {name}, batches of {batch_size}, 28 px | {core_us:.1f} core-us an image |")


def print_judge_costs(images: Images) -> None:
    """100,000 images of one class: each of 6,000 moved to 20 places, in random order."""
    moves = [(y, x) for y in (-2, -1, 0, 1) for x in (-2, -1, 0, 1, 2)]
    moved = np.concatenate([np.roll(images, move, (1, 2)) for move in moves])
    moved = np.random.default_rng(4).permutation(moved)[:NUM_JUDGED]
    scores = scores_of("duplicate", moved[..., None])
    start = time.process_time()
    num_chosen = judge(scores)
    seconds = time.process_time() - start
    tracemalloc.start()
    judge(scores)
    size = tracemalloc.get_traced_memory()[1] / num_chosen
    tracemalloc.stop()
    print(f"| judge, {len(scores):,} trousers, {num_chosen:,} chosen | {seconds:.2f} core-s |")
    print(f"| the same, memory at its peak | {size:.0f} bytes an image |")


def judge(scores: list[float | str]) -> int:
    rule = DuplicateJudge(DuplicateOptions().max_distance)
    num_chosen = 0
    for score in scores:
        if rule.reject(score) is None:
            rule.accept(score)
            num_chosen += 1
    return num_chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    source = DataSource(
        format="idx",
        path=parser.parse_args().data,
        class_names=CLASS_NAMES,
        licence="-",
        source="-",
    )
    real = load_real_images(source)
    images = real.images[..., 0]
    cv2.setNumThreads(1)
    print(f"{os.cpu_count()} cores, {device_model('cpu')}, numpy {np.__version__}\n")
    print_hashes(images, real.class_ids)
    print_classes(images, real.class_ids)
    print_contrast(images)
    print_filter_costs(images)
    print_judge_costs(images[real.class_ids == CLASS_NAMES.index("trouser")])


if __name__ == "__main__":
    main()
