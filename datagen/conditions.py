"""What an image is made to fit, and who draws it. Called by generators/ and the stages.

An image's condition is a function of its attempt's seed, its class and its split: it is drawn when
the image is made, and again when its labels are packed, and is stored nowhere in between.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from datagen.labels import Labels, Mask
from datagen.recipe import ConditionKind as ConditionKind


@dataclass(frozen=True)
class Condition:
    """labels: what is true of the image that fits it. mask: (H, W) uint8. image: (H, W, C) uint8.
    region: (H, W) bool, what an inpainted image replaces. Which there are, its kind decides."""

    labels: Labels
    mask: Mask | None = None
    image: NDArray[np.uint8] | None = None
    region: NDArray[np.bool_] | None = None


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
