"""Core-us an image of each augmentation transform, and of the quickstart's chain.

    python benchmarks/augmentation.py [--size 28]

The chain is timed beside albumentations' own ReplayCompose, seeded anew for each image: the way to
the same guarantees (draws that follow from a seed, and are told) without our adapter.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from datagen.augment import TRANSFORMS, Augmenter
from datagen.fingerprint import device_model
from datagen.recipe import AugmentationRequest

NUM_IMAGES = 2000
CHAIN = (
    AugmentationRequest(transform="HorizontalFlip", p=0.5),
    AugmentationRequest(transform="Affine", p=0.3, params={"rotate": [-8, 8]}),
)


def core_us(apply: Callable[[int], object]) -> float:
    """The best of three runs."""
    runs = []
    for _ in range(3):
        start = time.process_time()
        for index in range(NUM_IMAGES):
            apply(index)
        runs.append((time.process_time() - start) / NUM_IMAGES * 1e6)
    return min(runs)


def of_requests(requests: tuple[AugmentationRequest, ...], images: NDArray[np.uint8]) -> float:
    _, height, width, channels = images.shape
    augmenter = Augmenter(requests, image_size=(height, width), channels=channels)
    return core_us(lambda index: augmenter.apply(images[index], seed=index))


def of_replay_compose(images: NDArray[np.uint8]) -> float:
    import albumentations

    flip = albumentations.HorizontalFlip(p=0.5)
    compose = albumentations.ReplayCompose([flip, albumentations.Affine(rotate=(-8, 8), p=0.3)])

    def apply(index: int) -> None:
        compose.set_random_seed(index)
        compose(image=images[index])

    return core_us(apply)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=28, help="side of the images in pixels")
    side = parser.parse_args().size
    colour = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, side, side, 3), np.uint8)
    grey = np.ascontiguousarray(colour[..., :1])
    print(f"{os.cpu_count()} cores, {device_model('cpu')}, {side} px\n")
    print("| transform | core-us an image |\n|---|---|")
    print(f"| chain of the quickstart, 1 channel | {of_requests(CHAIN, grey):.0f} |")
    print(f"| the same by ReplayCompose | {of_replay_compose(grey):.0f} |")
    for name, rule in TRANSFORMS.items():
        images = colour if rule.needs_colour else grey
        cost = of_requests((AugmentationRequest(transform=name, p=1.0),), images)
        print(f"| {name}, {images.shape[-1]} channel(s), p = 1 | {cost:.0f} |", flush=True)


if __name__ == "__main__":
    main()
