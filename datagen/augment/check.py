"""Checks what a recipe asks of augmentation, without albumentations. Called by resolve.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from datagen.augment.parameters import Argument
from datagen.augment.transforms import REFUSED, TRANSFORMS, TransformRule
from datagen.recipe import AugmentationRequest, field_error, suggest

_FULL_STEP = 257  # 65535 / 255: a recipe says what fills holes on the scale of 8 bits


def check_augmentations(
    requests: Sequence[AugmentationRequest],
    *,
    image_size: tuple[int, int],
    channels: int,
    bits: int = 8,
    label_kinds: frozenset[str] = frozenset(),
) -> None:
    """label_kinds: what the labels of the recipe's images have, of label_checks.KINDS. Raises
    RecipeError naming the field if a transform or a parameter is not allowed, or a transform would
    make a label false."""
    for index, request in enumerate(requests):
        arguments = checked_arguments(
            request, index=index, image_size=image_size, channels=channels, bits=bits
        )
        refused = refused_kinds(request, arguments)
        for kind in sorted(label_kinds & refused.keys()):
            expected = f"{refused[kind]} (it cannot move {kind})"
            raise field_error(f"augmentations[{index}].transform", request.transform, expected)


def checked_arguments(
    request: AugmentationRequest,
    *,
    index: int,
    image_size: tuple[int, int],
    channels: int,
    bits: int = 8,
) -> dict[str, Argument]:
    """What albumentations is given for one request, which is the index-th of its recipe."""
    field = f"augmentations[{index}]"
    rule = _find_rule(request.transform, f"{field}.transform")
    if rule.needs_square and image_size[0] != image_size[1]:
        expected = "a square image_size: this transform swaps the sides"
        raise field_error(f"{field}.transform", request.transform, expected)
    if rule.needs_colour and channels != 3:
        expected = f"images of 3 channels, where the model makes {channels}"
        raise field_error(f"{field}.transform", request.transform, expected)
    if bits > 8 and not rule.takes_16_bits:
        deep = ", ".join(name for name, each in TRANSFORMS.items() if each.takes_16_bits)
        expected = f"one that moves images of {bits} bits: {deep}; or output.bits 8"
        raise field_error(f"{field}.transform", request.transform, expected)
    arguments = dict(rule.defaults)
    for name, value in request.params.items():
        parameter = rule.params.get(name)
        if parameter is None:
            known = ", ".join(rule.params) or "it takes none"
            expected = f"a parameter of {request.transform}: {known}{suggest(name, rule.params)}"
            raise field_error(f"{field}.params.{name}", value, expected)
        try:
            arguments[name] = parameter.parse(value)
        except ValueError:
            raise field_error(f"{field}.params.{name}", value, parameter.expected) from None
    if rule.limit and (expected_together := rule.limit(arguments, min(image_size))):
        raise field_error(f"{field}.params", dict(request.params), expected_together)
    if rule.fitted:
        arguments |= rule.fitted(*image_size)
    fill = arguments.get("fill")
    if bits > 8 and isinstance(fill, (int, float)):
        arguments["fill"] = fill * _FULL_STEP
    return arguments


def refused_kinds(
    request: AugmentationRequest, arguments: Mapping[str, Argument]
) -> Mapping[str, str]:
    """Kind of label -> what is expected instead, for those that it cannot move. arguments: of
    checked_arguments."""
    refused = TRANSFORMS[request.transform].refused
    return refused(arguments) if refused else {}


def _find_rule(name: str, field: str) -> TransformRule:
    if name in REFUSED:
        raise field_error(field, name, REFUSED[name])
    if name not in TRANSFORMS:
        hint = suggest(name, TRANSFORMS)
        expected = f"a transform{hint or ': ' + ', '.join(TRANSFORMS)}"
        raise field_error(field, name, expected)
    return TRANSFORMS[name]
