"""The geometry of a scene: what lies where, as one integer per pixel. Called by sample.py, which
paints it, and conditioner.py, which labels it: both see the same pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datagen.generators.procedural.options import SHAPES, SceneOptions, Shape
from datagen.generators.procedural.shapes import Cover, Figure, Place, cover, make_figure
from datagen.labels import HIDDEN, VISIBLE, Instances, Keypoint

_TRIES = 16  # places that are tried for an object before it is left out
_MIN_RADIUS_PX = 2.0  # below, a triangle may miss every pixel's centre
_NUM_VARIATIONS = 12


@dataclass(frozen=True)
class SceneObject:
    """A placed figure. Of a scene's instances, those that follow lie in front."""

    figure: Figure
    place: Place
    cover: Cover


@dataclass(frozen=True)
class Scene:
    """instances: (H, W), k where objects[k - 1] is seen; each of them is seen somewhere."""

    instances: Instances
    objects: tuple[SceneObject, ...]

    def keypoints(self, index: int) -> tuple[Keypoint, ...]:
        """Of objects[index], those inside the image; HIDDEN where another lies in front."""
        each, (height, width) = self.objects[index], self.instances.shape
        moved = each.place.move(np.array(list(each.figure.keypoints.values())))
        found = []
        for name, (x, y) in zip(each.figure.keypoints, moved.tolist(), strict=True):
            if 0 <= x < width and 0 <= y < height:
                in_front = self.instances[int(y), int(x)] > index + 1
                found.append(Keypoint(name, x, y, HIDDEN if in_front else VISIBLE))
        return tuple(found)


def shapes_of(class_name: str, options: SceneOptions) -> tuple[Shape, ...]:
    """A class named like a shape shows that shape; any other one those of the options."""
    return tuple(s for s in SHAPES if s == class_name) or options.shapes


def lay_out(
    rng: np.random.Generator,
    options: SceneOptions,
    *,
    shapes: Sequence[Shape],
    size: tuple[int, int],
) -> Scene:
    """size: (H, W). The first draws of rng's stream decide the geometry, whatever is painted."""
    instances: Instances = np.zeros(size, np.uint16)
    objects: list[SceneObject] = []
    areas = [0]
    least, most = options.num_objects
    for _ in range(int(rng.integers(least, most + 1))):
        figure, radius, angle = _draw_figure(rng, options, shapes, size)
        for x, y in _centres(rng, options, radius, size):
            place = Place(x, y, radius, angle)
            covered = cover(figure, place, size)
            if _is_allowed(covered, instances, areas, options.max_occlusion):
                objects.append(SceneObject(figure, place, covered))
                areas.append(int(np.count_nonzero(covered.inside)))
                instances[covered.window][covered.inside] = len(objects)
                break
    return Scene(instances, tuple(objects))


def _draw_figure(
    rng: np.random.Generator,
    options: SceneOptions,
    shapes: Sequence[Shape],
    size: tuple[int, int],
) -> tuple[Figure, float, float]:
    """And its radius and angle."""
    u = rng.random(3 + _NUM_VARIATIONS).tolist()
    shape = shapes[int(u[0] * len(shapes))]
    least, most = options.size
    radius = max(_MIN_RADIUS_PX, min(size) * (least + (most - least) * u[1]) / 2)
    angle = 2 * math.pi * u[2] if options.rotation else 0.0
    return make_figure(shape, u[3:]), radius, angle


def _centres(
    rng: np.random.Generator, options: SceneOptions, radius: float, size: tuple[int, int]
) -> list[tuple[float, float]]:
    u = rng.random((_TRIES, 2))
    margin = 0.0 if options.truncation else radius
    places = [np.maximum(0, side - 2 * margin) * u[:, k] for k, side in enumerate(size)]
    offsets = [min(margin, side / 2) for side in size]
    ys, xs = (place + offset for place, offset in zip(places, offsets, strict=True))
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def _is_allowed(
    covered: Cover, instances: Instances, areas: Sequence[int], max_occlusion: float
) -> bool:
    """Whether what lies there already would still be seen by the share it must be."""
    below = instances[covered.window][covered.inside]
    if below.size == 0:
        return False
    hidden = np.bincount(below)
    for number in (np.flatnonzero(hidden[1:]) + 1).tolist():
        seen = np.count_nonzero(instances == number) - hidden[number]
        if seen <= 0 or seen < (1 - max_occlusion) * areas[number]:
            return False
    return True
