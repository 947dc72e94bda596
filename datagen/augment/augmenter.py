"""Applies transforms, seeded per sample. Called by the pack stage; imports albumentations late."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.augment.check import checked_arguments, refused_kinds
from datagen.augment.labelled import check_fit, move_labels
from datagen.augment.moves import MOVING, Move, read_move
from datagen.errors import LabelError
from datagen.label_checks import label_kinds
from datagen.labels import Labels
from datagen.recipe import AugmentationRequest, LabelRules

Image = NDArray[np.uint8] | NDArray[np.uint16]  # HWC, C is 1 or 3
Drawn = float | str | list[float]

_REDRAWS = 16  # where a class would lose its object


@dataclass(frozen=True)
class AppliedTransform:
    """What one transform did to one image: JSON scalars and short lists of numbers."""

    transform: str
    params: dict[str, Drawn]


@dataclass(frozen=True)
class Augmented:
    """applied: in order; empty if no transform was drawn, the image is then the one given. labels:
    what is true of the image; None if no labels were given."""

    image: Image
    applied: list[AppliedTransform]
    labels: Labels | None = None


@dataclass(frozen=True)
class _Step:
    """threshold: of 2^64; the transform applies to a draw below it."""

    name: str
    salt: bytes
    threshold: int
    transform: Any


class Augmenter:
    """The transforms of a recipe, ready to run. One thread at a time.

    What a transform draws follows from the seed, its name and how many of that name stand before
    it: adding another transform to a recipe leaves the draws of the rest as they were.
    """

    def __init__(
        self,
        requests: Sequence[AugmentationRequest],
        *,
        image_size: tuple[int, int],
        channels: int,
        bits: int = 8,
        min_visibility: float = LabelRules().min_visibility,
    ) -> None:
        """bits: of a channel, 8 or 16. min_visibility: of objects, see LabelRules. Raises
        RecipeError as check_augmentations does."""
        self._shape = (*image_size, channels)
        self._min_visibility = min_visibility
        self._refused: dict[str, str] = {}
        self._random = _RecordingRandom()
        self._bits = np.random.PCG64(0)
        self._bits_state = self._bits.state
        self._steps: list[_Step] = []
        if not requests:
            return
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks a server for news
        import albumentations
        import cv2

        cv2.setNumThreads(1)
        generator = np.random.Generator(self._bits)
        for index, request in enumerate(requests):
            arguments = checked_arguments(
                request, index=index, image_size=image_size, channels=channels, bits=bits
            )
            for kind in refused_kinds(request, arguments):
                self._refused.setdefault(kind, request.transform)
            transform = getattr(albumentations, request.transform)(p=1.0, **arguments)
            transform.set_random_state(generator, self._random)
            num_before = sum(step.name == request.transform for step in self._steps)
            salt = f"{request.transform}/{num_before}/".encode()
            threshold = int(request.p * 2.0**64)
            self._steps.append(_Step(request.transform, salt, threshold, transform))

    def apply(self, image: Image, *, seed: int) -> Augmented:
        """The same image and seed give the same bytes, in any process and order.

        image: HWC, left as it is; may be read-only. seed: 0 to 2^64 - 1.
        """
        image, applied, _ = self._run(image, seed, moves=False)
        return Augmented(image, applied)

    def apply_labelled(self, image: Image, labels: Labels, *, seed: int) -> Augmented:
        """As apply, and what is true of the image then. To the bit, but where objects that the
        labels promise (Labels.named_objects) would be lost: then all is drawn once more, from seeds
        that follow from this one; and where every draw loses them, nothing is moved.

        Raises LabelError if a transform of the recipe cannot move a kind of these labels, whether
        it is drawn or not, or if a mask has another size.
        """
        check_fit(labels, self._shape[:2])
        for kind in sorted(label_kinds(labels)):
            if kind in self._refused:
                raise LabelError(
                    f"{self._refused[kind]}: it cannot move {kind}; take it out of augmentations, "
                    f"or {kind} out of the labels"
                )
        for number in range(_REDRAWS + 1):
            found = self._moved(image, labels, _redrawn(seed, number))
            if found.labels is None or found.labels.named_objects == labels.named_objects:
                return found
        return self._moved(image, labels, seed, still=True)

    def _moved(self, image: Image, labels: Labels, seed: int, *, still: bool = False) -> Augmented:
        image, applied, moves = self._run(image, seed, moves=True, still=still)
        if moves:
            labels = move_labels(
                labels, moves, self._shape[:2], min_visibility=self._min_visibility
            )
        return Augmented(image, applied, labels)

    def _run(
        self, image: Image, seed: int, *, moves: bool, still: bool = False
    ) -> tuple[Image, list[AppliedTransform], list[Move]]:
        """moves: whether to tell them. still: without the transforms that move anything."""
        applied: list[AppliedTransform] = []
        moved: list[Move] = []
        seed_bytes = seed.to_bytes(8, "little")
        for step in self._steps:
            if still and step.name in MOVING:
                continue
            drawn = blake2b(step.salt + seed_bytes, digest_size=32).digest()
            if int.from_bytes(drawn[:8], "little") >= step.threshold:
                continue
            self._reseed(drawn[8:])
            image = step.transform(image=image)["image"]
            assert image.shape == self._shape, f"{step.name} gave {image.shape}"
            used = step.transform.get_applied_params()
            applied.append(AppliedTransform(step.name, _told(used, self._random.drawn)))
            if moves and (move := read_move(step.name, step.transform, used, self._shape[:2])):
                moved.append(move)
        return image, applied, moved

    def _reseed(self, drawn: bytes) -> None:
        """Setting the state of one generator takes 1 us, making a new one 7 us."""
        self._random.drawn.clear()
        self._random.seed(int.from_bytes(drawn[:8], "little"))
        self._bits_state["state"]["state"] = int.from_bytes(drawn[8:24], "little")
        self._bits.state = self._bits_state


def _redrawn(seed: int, number: int) -> int:
    """The seed itself, then those of further draws."""
    if number == 0:
        return seed
    drawn = blake2b(b"redraw/%d/" % number + seed.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(drawn, "little")


class _RecordingRandom(random.Random):
    """Keeps what was drawn: transforms hand on matrices and noise, not the numbers behind them."""

    def __init__(self) -> None:
        super().__init__(0)
        self.drawn: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        value = super().uniform(a, b)
        self.drawn.append(value)
        return value

    def randint(self, a: int, b: int) -> int:
        value = super().randint(a, b)
        self.drawn.append(value)
        return value


# Given by the recipe or by the image, not drawn.
_NOT_DRAWN = frozenset(
    {"shape", "output_shape", "interpolation", "fill", "fill_mask", "image_type"}
)


def _told(params: Mapping[str, Any], drawn: Sequence[float]) -> dict[str, Drawn]:
    """The scalars among what a transform used; where it used float arrays, what it drew as well."""
    told: dict[str, Drawn] = {}
    for name, value in params.items():
        if name in _NOT_DRAWN or value is None:
            continue
        if isinstance(value, dict):
            told |= {f"{name}_{part}": number for part, number in value.items()}
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            if drawn:
                told["drawn"] = list(drawn)
        elif isinstance(value, np.ndarray):
            told[name] = value.ravel().tolist()
        elif isinstance(value, np.generic):
            told[name] = value.item()
        elif isinstance(value, tuple):
            told[name] = list(value)
        else:
            told[name] = value
    return told
