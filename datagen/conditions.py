"""What an image is made to fit, and who draws it. Called by generators/ and the stages.

An image's condition is a function of its attempt's seed, its class and its split: it is drawn when
the image is made, and again when its labels are packed, and is stored nowhere in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from datagen.labels import Attribute, Labels, Mask
from datagen.recipe import ConditionKind as ConditionKind


@dataclass(frozen=True)
class Prompt:
    """What an image is asked for in words. text becomes its caption; negative: what it is to lack,
    empty for nothing; attributes: the values that stand in the text."""

    text: str
    negative: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


MixKind = Literal["seeds", "classes", "images"]


@dataclass(frozen=True)
class Mix:
    """Where between two ends an image lies: weight 0 is its own seed, class or picture, 1 the other
    end. seed: of the other end's noise. class_id, class_name: of the other end, its own but for
    classes. image: (H, W, C) uint8, the other picture; None but for images. prompt: of the other
    class; None but for classes of models that read prompts."""

    kind: MixKind
    weight: float
    seed: int
    class_id: int
    class_name: str
    image: NDArray[np.uint8] | None = None
    prompt: Prompt | None = None


@dataclass(frozen=True)
class Condition:
    """labels: what is true of the image that fits it. mask: (H, W) uint8. image: (H, W, C) uint8.
    region: (H, W) bool, what an inpainted image replaces. Which there are, its kind decides.

    prompt, mix: where the recipe has them. pool: the share of a set that its split may draw from,
    of sources that a model brings itself: [low, high) of 0 to 1.
    """

    labels: Labels
    mask: Mask | None = None
    image: NDArray[np.uint8] | None = None
    region: NDArray[np.bool_] | None = None
    prompt: Prompt | None = None
    mix: Mix | None = None
    pool: tuple[float, float] = (0.0, 1.0)


def condition_digest(condition: Condition) -> str:
    """16 hex digits over all that an image is made to fit and that is told of it."""
    digest = hashlib.sha256(repr(sorted(condition.labels.spatial_json().items())).encode())
    labels = condition.labels
    for array in (
        condition.mask, condition.image, condition.region, labels.mask, labels.instances
    ):  # fmt: skip
        digest.update(b"\0" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ConditionConfig:
    """What a trained model takes, beside the class. names: of the values of its label maps, or of
    the classes of its boxes after "background"; empty for image. channels: of the picture; 0 for
    mask and layout."""

    kind: ConditionKind
    names: tuple[str, ...] = ()
    channels: int = 0


class Conditioner(Protocol):
    """Draws conditions. What is only needed to draw is loaded by the first draw.

    names: of the values of its label maps and the classes of its objects, the first "background";
    empty if it has none. has_pools: whether what it draws comes out of a set that is shared out
    among splits. label_kinds: what its labels hold, of mask, instances, boxes (of objects without
    instances) and keypoints.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def has_pools(self) -> bool: ...

    @property
    def label_kinds(self) -> frozenset[str]: ...

    def draw(self, seed: int, class_name: str, split: str) -> Condition:
        """The same arguments give the same condition, in any process. seed: 0 to 2^63 - 1."""
        ...
