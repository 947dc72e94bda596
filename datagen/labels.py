"""What is true of an image: the one type, its conversions and checks. Called by all that makes,
moves or writes labels.

Masks and boxes count pixels from the top left corner: the pixel in row y and column x covers
[x, x + 1) x [y, y + 1), so that the box of one pixel is (x, y, x + 1, y + 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Attribute = str | int | float | bool
Mask = NDArray[np.uint8]  # (H, W), values into the names of a recipe's regions; 0 is background
Instances = NDArray[np.uint16]  # (H, W), k where objects[k - 1] is seen; 0 is background

HIDDEN, VISIBLE = 1, 2  # COCO: 0 is not labelled, and such a keypoint is left out here
_DECIMALS = 4


@dataclass(frozen=True)
class Keypoint:
    """x, y: pixels. visibility: VISIBLE, or HIDDEN behind something."""

    name: str
    x: float
    y: float
    visibility: int = VISIBLE


@dataclass(frozen=True)
class LabelledObject:
    """One object of an image. box_xyxy: pixels, inside the image, not empty. keypoints: those that
    lie inside the image. confidence: 0 to 1, where a detector found it in the finished image; None
    where it is true by construction."""

    class_name: str
    box_xyxy: tuple[float, float, float, float]
    keypoints: tuple[Keypoint, ...] = ()
    confidence: float | None = None

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "class_name": self.class_name,
            "box_xyxy": [round(value, _DECIMALS) for value in self.box_xyxy],
        }
        if self.keypoints:
            content["keypoints"] = [
                [k.name, round(k.x, _DECIMALS), round(k.y, _DECIMALS), k.visibility]
                for k in self.keypoints
            ]
        if self.confidence is not None:
            content |= {"confidence": round(self.confidence, _DECIMALS), "machine_made": True}
        return content


@dataclass(frozen=True)
class Labels:
    """All that is true of one image.

    class_name: the requested class. attributes: of the class, as the recipe states them. also:
    further classes that are true of it (multi-label). caption: in words. mask: what each pixel
    shows. instances: which object it belongs to. objects: in the order of the instances, where
    there are any. spacing_mm: (rows, columns) between centres of pixels; None if unknown. source:
    of what it was conditioned on, in its set; None if that was drawn. shows: classes of objects
    without which the class would be false, beside its own name; not among what is stored.
    """

    class_name: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    caption: str | None = None
    mask: Mask | None = None
    instances: Instances | None = None
    objects: tuple[LabelledObject, ...] | None = None
    spacing_mm: tuple[float, float] | None = None
    source: str | None = None
    shows: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The class and its attributes: what every image has. See spatial_json for the rest."""
        return {"class_name": self.class_name, "attributes": dict(self.attributes)}

    @property
    def named_objects(self) -> frozenset[str]:
        """The classes of its objects that its own names promise: each must stay to be seen."""
        promised = {self.class_name, *self.also, *self.shows}
        return frozenset(each.class_name for each in self.objects or ()) & promised

    def spatial_json(self) -> dict[str, Any]:
        """What is beside the class, without the pixels of masks; empty if there is nothing."""
        content: dict[str, Any] = {}
        if self.also:
            content["also"] = list(self.also)
        if self.caption is not None:
            content["caption"] = self.caption
        if self.objects is not None:
            content["objects"] = [each.to_json() for each in self.objects]
        if self.spacing_mm is not None:
            content["spacing_mm"] = list(self.spacing_mm)
        if self.source is not None:
            content["source"] = self.source
        return content
