"""What a scene shows: as labels of the images that the sampler draws of the same seed, and as
conditions of another model. Called by spec.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datagen.conditions import Condition, ConditionKind
from datagen.generators.conditioning.composition import Draft, check_editing, compose
from datagen.generators.conditioning.streams import condition_rng
from datagen.generators.procedural.options import (
    SHAPES,
    ProceduralConditionOptions,
    ProceduralOptions,
)
from datagen.generators.procedural.scene import Scene, lay_out, shapes_of
from datagen.generators.seeded import seeded_rng
from datagen.label_shapes import instance_boxes
from datagen.labels import Instances, LabelledObject, Labels, Mask


class SceneLabels:
    """The labels of ProceduralSampler's images."""

    has_pools = False

    def __init__(self, options: ProceduralOptions, *, size: tuple[int, int]) -> None:
        """size: (H, W)."""
        # Whatever the recipe's classes: another class renumbers no label map.
        self.names: tuple[str, ...] = ("background", *SHAPES)
        self.options = options
        self.size = size

    @property
    def label_kinds(self) -> frozenset[str]:
        return frozenset(
            {"mask", "instances"} | ({"keypoints"} if self.options.keypoints else set())
        )

    def draw(self, seed: int, class_name: str, split: str) -> Condition:
        """See Conditioner. The split does not matter."""
        shapes = shapes_of(class_name, self.options)
        scene = lay_out(seeded_rng(seed), self.options, shapes=shapes, size=self.size)
        boxes = instance_boxes(scene.instances)
        objects = tuple(
            LabelledObject(
                each.figure.shape,
                boxes[index + 1],
                scene.keypoints(index) if self.options.keypoints else (),
            )
            for index, each in enumerate(scene.objects)
        )
        labels = Labels(
            class_name,
            mask=_mask_of(scene, [each.figure.shape for each in scene.objects], self.names),
            instances=scene.instances,
            objects=objects,
        )
        return Condition(labels)


class SceneConditions:
    """Shapes as label maps or boxes for another model."""

    has_pools = False

    def __init__(
        self, options: ProceduralConditionOptions, *, kind: ConditionKind, size: tuple[int, int]
    ) -> None:
        """kind: mask or layout. size: (H, W). Raises ModelError for an edit that cannot be."""
        self.called = {shape: options.names.get(shape, shape) for shape in options.shapes}
        names = ("background", *dict.fromkeys(self.called.values()))
        self.names: tuple[str, ...] = check_editing(options, names, has_spacing=False, size=size)
        self.options = options
        self.kind: ConditionKind = kind
        self.size = size

    @property
    def label_kinds(self) -> frozenset[str]:
        return frozenset({"boxes"} if self.kind == "layout" else {"mask", "instances"})

    def draw(self, seed: int, class_name: str, split: str) -> Condition:
        """See Conditioner. The split does not matter. A class called like shapes shows these."""
        rng = condition_rng(seed)
        named = tuple(shape for shape, name in self.called.items() if name == class_name)

        def draw() -> Draft:
            shapes = named or self.options.shapes
            scene = lay_out(rng, self.options, shapes=shapes, size=self.size)
            called = [self.called[each.figure.shape] for each in scene.objects]
            mask = _mask_of(scene, called, self.names)
            return Draft(mask=mask, instances=scene.instances, instance_names=tuple(called))

        return compose(
            draw, self.options, rng=rng, kind=self.kind, class_name=class_name, names=self.names
        )


def _mask_of(scene: Scene, called: Sequence[str], names: Sequence[str]) -> Mask:
    values = [0, *(names.index(name) for name in called)]
    return _look_up(values, scene.instances)


def _look_up(values: Sequence[int], instances: Instances) -> Mask:
    mask: Mask = np.asarray(values, np.uint8)[instances]
    return mask
