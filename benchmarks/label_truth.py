"""Do labels agree with images after augmentation? Random chains of all allowed transforms over
scenes: python benchmarks/label_truth.py [--renderer procedural] [--scenes 600] [--side 128]

Scenes: discs and boxes painted here, or those of the procedural generator with its own labels.
Truth: each object is painted alone, white on black, and goes through the image's own path,
albumentations without labels; what covers most of a pixel is what it shows. Transforms that move
nothing run in the labelled chain alone. Prints, of objects of at least --pixels, the worst error of
a box in pixels and the worst and mean IoU of a mask; and the same for masks that each transform of
albumentations samples by nearest neighbour, as its own path for masks does.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

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
    nearest_iou: float
    nearest_box_error_px: float


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


def rendered(seed: int, side: int) -> Labels:
    """Of the procedural generator: shapes of all kinds, some behind others and out of the frame."""
    from datagen.generators.procedural.conditioner import SceneLabels
    from datagen.generators.procedural.options import ProceduralOptions

    options = ProceduralOptions(num_objects=(2, 6), max_occlusion=0.5, truncation=True)
    scenes = SceneLabels(options, size=(side, side))
    return scenes.draw(seed, "scene", "train").labels


def painted(seed: int, side: int) -> Labels:
    instances = scene(np.random.default_rng(seed), side)
    boxes = instance_boxes(instances)
    objects = tuple(LabelledObject("thing", box) for box in boxes.values())
    return Labels("scene", instances=instances, objects=objects)


RENDERERS = {"painted": painted, "procedural": rendered}


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


def geometry(chain: list[AugmentationRequest], **params: str) -> list[AugmentationRequest]:
    """What moves pixels, on black, with these parameters where a transform has them."""
    bare = []
    for request in chain:
        known = TRANSFORMS[request.transform].params
        own = {k: v for k, v in request.params.items() if k != "fill"}
        own |= {k: v for k, v in params.items() if k in known}
        if request.transform in MOVING:
            bare.append(request.model_copy(update={"params": own}))
    return bare


def shown(chain: list[AugmentationRequest], instances: Instances, seed: int) -> Instances:
    """What each pixel shows by the image's path: the object that covers most of it, or 0."""
    augmenter = Augmenter(geometry(chain), image_size=instances.shape, channels=1)
    covers = [
        augmenter.apply(((instances == value) * np.uint8(255))[..., None], seed=seed).image[..., 0]
        for value in range(1, int(instances.max()) + 1)
    ]
    stack = np.stack(covers).astype(np.int64)
    best = stack.argmax(axis=0) + 1
    return np.where(stack.max(axis=0) >= 255 - stack.sum(axis=0), best, 0).astype(np.uint16)


def sampled(chain: list[AugmentationRequest], instances: Instances, seed: int) -> Instances:
    """By nearest neighbour at each transform: albumentations' path for masks."""
    bare = geometry(chain, interpolation="nearest")
    augmenter = Augmenter(bare, image_size=instances.shape, channels=1)
    numbers = instances.astype(np.uint8)[..., None]
    return augmenter.apply(numbers, seed=seed).image[..., 0].astype(np.uint16)


def compared(seed: int, labels: Labels) -> Iterator[Found]:
    instances = labels.instances
    if not labels.objects or instances is None:
        return
    side = len(instances)
    objects = tuple(replace(each, class_name=str(k)) for k, each in enumerate(labels.objects, 1))
    chain = random_chain(np.random.default_rng(seed), side)
    augmenter = Augmenter(chain, image_size=(side, side), channels=3, min_visibility=0.0)
    image = np.zeros((side, side, 3), np.uint8)
    moved = augmenter.apply_labelled(image, replace(labels, objects=objects), seed=seed).labels
    assert moved is not None
    assert moved.objects is not None
    assert moved.instances is not None
    truth, nearest = shown(chain, instances, seed), sampled(chain, instances, seed)
    numbers = {int(each.class_name): k for k, each in enumerate(moved.objects, 1)}
    names = "+".join(request.transform for request in chain)
    for value in instance_boxes(truth):
        true = truth == value
        mine = moved.instances == numbers.get(value, -1)
        yield Found(
            names,
            *agreement(mine, true),
            int(true.sum()),
            *agreement(nearest == value, true),
        )


def agreement(mine: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[float, float]:
    """IoU, and the largest error of a side of the box, in pixels; the whole side if there is
    none."""
    iou = float((mine & true).sum() / (mine | true).sum())
    if not mine.any():
        return iou, float(len(mine))
    boxes = [instance_boxes(mask.astype(np.uint16))[1] for mask in (mine, true)]
    return iou, max(abs(a - b) for a, b in zip(*boxes, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renderer", choices=RENDERERS, default="painted")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=100)
    arguments = parser.parse_args()
    found = [
        each
        for seed in range(arguments.seed, arguments.seed + arguments.scenes)
        for each in compared(seed, RENDERERS[arguments.renderer](seed, arguments.side))
        if each.pixels >= arguments.pixels
    ]
    worst_box = max(found, key=lambda each: each.box_error_px)
    worst_mask = min(found, key=lambda each: each.iou)
    print(f"{platform.machine()}, {platform.platform()}, Python {platform.python_version()}")
    print(f"{arguments.scenes} scenes of {arguments.side} px, {len(found)} objects")
    print(f"worst box error: {worst_box.box_error_px:g} px ({worst_box.chain})")
    print(f"worst mask IoU: {worst_mask.iou:.4f} ({worst_mask.chain}, {worst_mask.pixels} px)")
    print(f"mean mask IoU: {np.mean([each.iou for each in found]):.4f}")
    print(
        "nearest neighbour at each transform instead: boxes "
        f"{max(each.nearest_box_error_px for each in found):g} px, masks "
        f"{min(each.nearest_iou for each in found):.4f}, "
        f"mean {np.mean([each.nearest_iou for each in found]):.4f}"
    )
    sys.exit(worst_box.box_error_px > 1 or worst_mask.iou < 0.98)


if __name__ == "__main__":
    main()
