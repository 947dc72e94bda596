"""Do labels agree with images after augmentation? Random chains of all allowed transforms over
painted scenes: python benchmarks/label_truth.py [--scenes 300] [--side 128] [--seed 0]

Truth: each object is painted alone, white on black, and goes through the image's own path,
albumentations without labels; what covers most of a pixel is what it shows. Transforms that move
nothing run in the labelled chain alone. Prints, of objects of at least --pixels, the worst error of
a box in pixels and the worst and mean IoU of a mask.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.augment import TRANSFORMS, Augmenter, check_augmentations
from datagen.augment.moves import MOVING
from datagen.augment.parameters import Choice, Flag, Number, Parameter, Span
from datagen.errors import RecipeError
from datagen.label_shapes import instance_boxes
from datagen.labels import Instances, LabelledObject, Labels
from datagen.recipe import AugmentationRequest

KINDS = frozenset({"mask", "instances", "keypoints"})


@dataclass(frozen=True)
class Found:
    """Of one object in one image. pixels: that it has there."""

    chain: str
    iou: float
    box_error_px: float
    pixels: int


def drawn(parameter: Parameter, rng: np.random.Generator) -> object:
    if isinstance(parameter, Choice):
        return str(rng.choice(list(parameter.values)))
    if isinstance(parameter, Flag):
        return bool(rng.integers(2))
    if isinstance(parameter, Span):
        low, high = sorted(rng.uniform(parameter.low, parameter.high, 2).tolist())
        if parameter.odd:
            return [int(low) // 2 * 2 + 1, int(high) // 2 * 2 + 1]
        return [round(low), round(high)] if parameter.whole else [low, high]
    assert isinstance(parameter, Number)
    value = float(rng.uniform(parameter.low, parameter.high))
    return round(value) if parameter.whole else value


def random_chain(rng: np.random.Generator, side: int) -> list[AugmentationRequest]:
    """One to four transforms, each with about half of its parameters drawn within their bounds."""
    chain: list[AugmentationRequest] = []
    wanted = int(rng.integers(1, 5))
    names = list(TRANSFORMS)
    while len(chain) < wanted:
        name = names[rng.integers(len(names))]
        params = {
            key: drawn(parameter, rng)
            for key, parameter in TRANSFORMS[name].params.items()
            if rng.random() < 0.5
        }
        request = AugmentationRequest.model_construct(transform=name, p=1.0, params=params)
        try:
            check_augmentations([request], image_size=(side, side), channels=3, label_kinds=KINDS)
        except RecipeError:
            continue
        chain.append(request)
    return chain


def scene(rng: np.random.Generator, side: int) -> Instances:
    """Up to six discs and boxes, some behind others."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    painted = np.zeros((side, side), np.uint16)
    for value in range(1, int(rng.integers(2, 7)) + 1):
        x, y = rng.uniform(0.1, 0.9, 2) * side
        across, down = rng.uniform(0.06, 0.22, 2) * side
        if rng.random() < 0.5:
            where = ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 < 1
        else:
            where = (np.abs(columns - x) < across) & (np.abs(rows - y) < down)
        painted[where] = value
    return (
        np.asarray(np.unique(painted, return_inverse=True)[1]).reshape(side, side).astype(np.uint16)
    )


def shown(chain: list[AugmentationRequest], instances: Instances, seed: int) -> NDArray[np.uint16]:
    """What each pixel shows by the image's path: the object that covers most of it, or 0."""
    side = instances.shape[0]
    moving = [request for request in chain if request.transform in MOVING]
    bare = [
        request.model_copy(
            update={"params": {k: v for k, v in request.params.items() if k != "fill"}}
        )
        for request in moving
    ]
    augmenter = Augmenter(bare, image_size=(side, side), channels=1)
    covers = [
        augmenter.apply(((instances == value) * np.uint8(255))[..., None], seed=seed).image[..., 0]
        for value in range(1, int(instances.max()) + 1)
    ]
    stack = np.stack(covers).astype(np.int64)
    best = stack.argmax(axis=0) + 1
    return np.where(stack.max(axis=0) >= 255 - stack.sum(axis=0), best, 0).astype(np.uint16)


def compared(seed: int, side: int) -> Iterator[Found]:
    rng = np.random.default_rng(seed)
    instances = scene(rng, side)
    boxes = instance_boxes(instances)
    if not boxes:
        return
    objects = tuple(LabelledObject(str(value), box) for value, box in boxes.items())
    labels = Labels("scene", instances=instances, objects=objects)
    chain = random_chain(rng, side)
    augmenter = Augmenter(chain, image_size=(side, side), channels=3, min_visibility=0.0)
    image = np.repeat((instances * np.uint16(40)).astype(np.uint8)[..., None], 3, axis=2)
    moved = augmenter.apply_labelled(image, labels, seed=seed).labels
    assert moved is not None
    assert moved.objects is not None
    assert moved.instances is not None
    truth = shown(chain, instances, seed)
    true_boxes = instance_boxes(truth)
    names = "+".join(request.transform for request in chain)
    kept = {int(each.class_name) for each in moved.objects}
    for value in true_boxes.keys() - kept:
        yield Found(f"{names}, lost", 0.0, float(side), int((truth == value).sum()))
    for number, each in enumerate(moved.objects, start=1):
        value = int(each.class_name)
        mine, true = moved.instances == number, truth == value
        error = (
            max(abs(a - b) for a, b in zip(each.box_xyxy, true_boxes[value], strict=True))
            if value in true_boxes
            else float(side)
        )
        yield Found(names, float((mine & true).sum() / (mine | true).sum()), error, int(true.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=100)
    arguments = parser.parse_args()
    found = [
        each
        for seed in range(arguments.seed, arguments.seed + arguments.scenes)
        for each in compared(seed, arguments.side)
        if each.pixels >= arguments.pixels
    ]
    worst_box = max(found, key=lambda each: each.box_error_px)
    worst_mask = min(found, key=lambda each: each.iou)
    print(f"{platform.machine()}, {platform.platform()}, Python {platform.python_version()}")
    print(f"{arguments.scenes} scenes of {arguments.side} px, {len(found)} objects")
    print(f"worst box error: {worst_box.box_error_px:g} px ({worst_box.chain})")
    print(f"worst mask IoU: {worst_mask.iou:.4f} ({worst_mask.chain}, {worst_mask.pixels} px)")
    print(f"mean mask IoU: {np.mean([each.iou for each in found]):.4f}")
    for each in sorted(found, key=lambda each: each.iou)[:5]:
        print(f"  {each.iou:.4f} {each.box_error_px:g} px, {each.pixels} px: {each.chain}")
    sys.exit(worst_box.box_error_px > 1 or worst_mask.iou < 0.98)


if __name__ == "__main__":
    main()
