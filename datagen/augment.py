"""Augmentation: albumentations 2.0.8 behind an allowlist with bounds, seeded per sample.

resolve.py calls check_augmentations, which imports nothing heavy; engine.py packs with Augmenter.
A transform is listed only if a class label stays true under it, the image keeps its size, and
nothing but the image and the seed goes in. docs/augmentations.md explains the choice.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datagen.recipe import AugmentationRequest

Image = NDArray[np.uint8]  # HWC, uint8, C is 1 or 3
Scalar = float | int | str | bool

_MAX_RECORDED = 16  # numbers of an array that is worth keeping beside a sample


@dataclass(frozen=True)
class Span:
    """[low, high] within bounds; each image draws from it.

    number: what a single number x means: [-x, x], [x, x], or nothing.
    """

    low: float
    high: float
    number: Literal["symmetric", "exact"] | None = None
    integer: bool = False
    odd: bool = False

    @property
    def expected(self) -> str:
        kind = "odd whole numbers" if self.odd else "whole numbers" if self.integer else "numbers"
        pair = f"[low, high], {kind} from {self.low:g} to {self.high:g}, low <= high"
        return f"a number or {pair}" if self.number else pair

    def parse(self, value: object) -> Any:
        """The pair for albumentations. Raises ValueError if the value is not allowed."""
        if self.number and _is_number(value):
            value = [-abs(value), abs(value)] if self.number == "symmetric" else [value, value]
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise ValueError
        low, high = (self._parse_end(end) for end in value)
        if low > high:
            raise ValueError
        return (low, high)

    def _parse_end(self, end: object) -> float | int:
        if not _is_number(end) or not self.low <= end <= self.high:
            raise ValueError
        if not self.integer:
            return float(end)
        if not isinstance(end, int) or (self.odd and end % 2 == 0):
            raise ValueError
        return end


@dataclass(frozen=True)
class Number:
    """One number within bounds."""

    low: float
    high: float
    integer: bool = False

    @property
    def expected(self) -> str:
        kind = "a whole number" if self.integer else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def parse(self, value: object) -> Any:
        if not _is_number(value) or not self.low <= value <= self.high:
            raise ValueError
        if self.integer and not isinstance(value, int):
            raise ValueError
        return value


@dataclass(frozen=True)
class Choice:
    """One of some words; values: what albumentations is given for each."""

    values: Mapping[str, int | str]

    @property
    def expected(self) -> str:
        return "one of " + ", ".join(self.values)

    def parse(self, value: object) -> Any:
        if not isinstance(value, str) or value not in self.values:
            raise ValueError
        return self.values[value]


@dataclass(frozen=True)
class Flag:
    expected: str = "true or false"

    def parse(self, value: object) -> Any:
        if not isinstance(value, bool):
            raise ValueError
        return value


Parameter = Span | Number | Choice | Flag


@dataclass(frozen=True)
class TransformRule:
    """One allowed transform. needs_square: it swaps sides. needs_colour: it needs 3 channels."""

    params: Mapping[str, Parameter] = field(default_factory=dict)
    needs_square: bool = False
    needs_colour: bool = False


# The numbers are OpenCV's constants, written out so that a check needs no OpenCV.
_INTERPOLATION = Choice({"nearest": 0, "linear": 1, "cubic": 2, "area": 3, "lanczos4": 4})
_BORDER_MODE = Choice({"constant": 0, "replicate": 1, "reflect": 2, "wrap": 3, "reflect_101": 4})
_WARP: dict[str, Parameter] = {
    "interpolation": _INTERPOLATION,
    "border_mode": _BORDER_MODE,
    "fill": Number(0, 255),
}

TRANSFORMS: dict[str, TransformRule] = {
    "HorizontalFlip": TransformRule(),
    "VerticalFlip": TransformRule(),
    "Transpose": TransformRule(needs_square=True),
    "RandomRotate90": TransformRule(needs_square=True),
    "D4": TransformRule(needs_square=True),
    "Rotate": TransformRule({"limit": Span(-180, 180, "symmetric"), **_WARP}),
    "Affine": TransformRule(
        {
            "scale": Span(0.5, 2, "exact"),
            "translate_percent": Span(-0.5, 0.5, "exact"),
            "rotate": Span(-180, 180, "exact"),
            "shear": Span(-45, 45, "exact"),
            "keep_ratio": Flag(),
            **_WARP,
        }
    ),
    "Perspective": TransformRule({"scale": Span(0, 0.3), **_WARP}),
    "ElasticTransform": TransformRule({"alpha": Number(0, 1000), "sigma": Number(1, 100), **_WARP}),
    "GridDistortion": TransformRule(
        {"num_steps": Number(1, 32, integer=True), "distort_limit": Span(-0.9, 0.9, "symmetric")}
        | _WARP
    ),
    "OpticalDistortion": TransformRule({"distort_limit": Span(-0.9, 0.9, "symmetric"), **_WARP}),
    "RandomResizedCrop": TransformRule(
        {"scale": Span(0.25, 1), "ratio": Span(0.5, 2), "interpolation": _INTERPOLATION}
    ),
    "CoarseDropout": TransformRule(
        {
            "num_holes_range": Span(1, 8, integer=True),
            "hole_height_range": Span(0.02, 0.5),
            "hole_width_range": Span(0.02, 0.5),
            "fill": Number(0, 255),
        }
    ),
    "RandomBrightnessContrast": TransformRule(
        {
            "brightness_limit": Span(-0.5, 0.5, "symmetric"),
            "contrast_limit": Span(-0.8, 0.8, "symmetric"),
        }
    ),
    "RandomGamma": TransformRule({"gamma_limit": Span(25, 400)}),
    "GaussNoise": TransformRule({"std_range": Span(0, 0.5), "per_channel": Flag()}),
    "GaussianBlur": TransformRule({"sigma_limit": Span(0.1, 5)}),
    "MotionBlur": TransformRule({"blur_limit": Span(3, 31, integer=True, odd=True)}),
    "MedianBlur": TransformRule({"blur_limit": Span(3, 31, integer=True, odd=True)}),
    "Sharpen": TransformRule({"alpha": Span(0, 1), "lightness": Span(0, 2)}),
    "CLAHE": TransformRule({"clip_limit": Span(1, 16)}),
    "ImageCompression": TransformRule(
        {
            "compression_type": Choice({"jpeg": "jpeg", "webp": "webp"}),
            "quality_range": Span(10, 100, integer=True),
        }
    ),
    "Downscale": TransformRule({"scale_range": Span(0.25, 0.95)}),
    "Posterize": TransformRule({"num_bits": Span(2, 8, "exact", integer=True)}),
    "Equalize": TransformRule(),
    "InvertImg": TransformRule(),
    "ISONoise": TransformRule(
        {"color_shift": Span(0, 0.5), "intensity": Span(0, 1)}, needs_colour=True
    ),
    "HueSaturationValue": TransformRule(
        {
            "hue_shift_limit": Span(-90, 90, "symmetric"),
            "sat_shift_limit": Span(-128, 128, "symmetric"),
            "val_shift_limit": Span(-128, 128, "symmetric"),
        },
        needs_colour=True,
    ),
    "ColorJitter": TransformRule(
        {
            "brightness": Span(0.2, 2),
            "contrast": Span(0.2, 2),
            "saturation": Span(0, 3),
            "hue": Span(-0.5, 0.5, "symmetric"),
        },
        needs_colour=True,
    ),
}


@dataclass(frozen=True)
class AppliedTransform:
    """What one transform did to one image: JSON scalars and short lists."""

    transform: str
    params: dict[str, Scalar | list[Scalar]]


@dataclass(frozen=True)
class Augmented:
    image: Image
    applied: list[AppliedTransform]


def check_augmentations(
    requests: Sequence[AugmentationRequest], *, image_size: tuple[int, int], channels: int
) -> None:
    """Raises RecipeError naming the field if a transform or a parameter is not allowed."""
    for index, request in enumerate(requests):
        _parse(request, where=f"augmentations[{index}]", image_size=image_size, channels=channels)


def _parse(
    request: AugmentationRequest, *, where: str, image_size: tuple[int, int], channels: int
) -> dict[str, Any]:
    """The arguments for albumentations."""
    from datagen.recipe import field_error, suggest

    name = request.transform
    rule = TRANSFORMS.get(name)
    if rule is None:
        raise field_error(
            f"{where}.transform", name, "a transform of the list" + suggest(name, TRANSFORMS)
        )
    if rule.needs_square and image_size[0] != image_size[1]:
        raise field_error(f"{where}.transform", name, "a square image_size: it swaps the sides")
    if rule.needs_colour and channels != 3:
        raise field_error(f"{where}.transform", name, "a model of colour images")
    arguments: dict[str, Any] = {}
    for key, value in request.params.items():
        parameter = rule.params.get(key)
        if parameter is None:
            known = ", ".join(rule.params) or "none"
            raise field_error(
                f"{where}.params.{key}",
                value,
                f"a parameter of {name}: {known}{suggest(key, rule.params)}",
            )
        try:
            arguments[key] = parameter.parse(value)
        except ValueError:
            raise field_error(f"{where}.params.{key}", value, parameter.expected) from None
    return arguments


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class _Step:
    name: str
    salt: bytes
    threshold: int  # of 2**64: below it the step applies
    transform: Any


class Augmenter:
    """Applies the requested transforms in order. Not for two threads at once."""

    def __init__(
        self,
        requests: Sequence[AugmentationRequest],
        *,
        image_size: tuple[int, int],
        channels: int,
    ) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
        self._random = random.Random()
        self._steps: list[_Step] = []
        if not requests:
            return
        import albumentations
        import cv2

        cv2.setNumThreads(1)
        for index, request in enumerate(requests):
            where = f"augmentations[{index}]"
            arguments = _parse(request, where=where, image_size=image_size, channels=channels)
            if request.transform == "RandomResizedCrop":
                arguments["size"] = image_size
            transform = getattr(albumentations, request.transform)(p=1.0, **arguments)
            occurrence = sum(step.name == request.transform for step in self._steps)
            salt = f"{request.transform}/{occurrence}/".encode()
            self._steps.append(_Step(request.transform, salt, int(request.p * 2.0**64), transform))

    def apply(self, image: Image, *, seed: int) -> Augmented:
        """The same image and seed give the same bytes. image: HWC uint8, left as it is."""
        applied: list[AppliedTransform] = []
        seed_bytes = seed.to_bytes(8, "little")
        for step in self._steps:
            digest = hashlib.blake2b(step.salt + seed_bytes, digest_size=16).digest()
            if int.from_bytes(digest[:8], "little") >= step.threshold:
                continue
            draw_seed = int.from_bytes(digest[8:], "little")
            self._random.seed(draw_seed)
            transform = step.transform
            transform.set_random_state(np.random.default_rng(draw_seed), self._random)
            image = transform(image=image)["image"]
            applied.append(AppliedTransform(step.name, _recorded(transform.params)))
        return Augmented(np.ascontiguousarray(image), applied)


_NOT_DRAWN = frozenset(
    {"shape", "interpolation", "fill", "fill_mask", "bbox_matrix", "matrix_bbox", "output_shape"}
)


def _recorded(params: Mapping[str, Any]) -> dict[str, Scalar | list[Scalar]]:
    kept: dict[str, Scalar | list[Scalar]] = {}
    for key, value in params.items():
        if key in _NOT_DRAWN:
            continue
        if isinstance(value, dict):
            kept |= {f"{key}_{part}": number for part, number in value.items()}
        elif isinstance(value, np.ndarray):
            if value.size <= _MAX_RECORDED:
                kept[key] = value.ravel().tolist()
        elif isinstance(value, np.generic):
            kept[key] = value.item()
        elif isinstance(value, (list, tuple)):
            if len(value) <= _MAX_RECORDED:
                kept[key] = list(value)
        elif isinstance(value, (bool, int, float, str)):
            kept[key] = value
    return kept
