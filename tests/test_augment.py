"""The allowlist against the real albumentations, its bounds, and draws that follow the seed."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datagen.augment import REFUSED, TRANSFORMS, Augmenter, check_augmentations
from datagen.augment.parameters import Choice, Flag, Number, Parameter, Span
from datagen.errors import RecipeError
from datagen.recipe import AugmentationRequest

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
ROOT = Path(__file__).resolve().parent.parent
DRAWING = sorted(set(TRANSFORMS) - {"HorizontalFlip", "VerticalFlip", "Transpose", "InvertImg"})


def request(transform: str, p: float = 1.0, **params: Any) -> AugmentationRequest:
    return AugmentationRequest(transform=transform, p=p, params=params)


def picture(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    """A bright shape on a dark ground with some noise, read-only as raw images are."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 30, (height, width, channels), np.uint8)
    image[height // 4 : -height // 4, width // 3 : -width // 5] += np.uint8(150)
    image[: height // 4, : width // 4, -1] += np.uint8(90)
    image.flags.writeable = False
    return image


def channels_of(transform: str) -> int:
    return 3 if TRANSFORMS[transform].needs_colour else 1


def augmenter(*requests: AugmentationRequest, image: NDArray[np.uint8]) -> Augmenter:
    height, width, channels = image.shape
    return Augmenter(requests, image_size=(height, width), channels=channels)


def ends(parameter: Parameter) -> list[Any]:
    if isinstance(parameter, Span):
        return [[parameter.low, parameter.low], [parameter.high, parameter.high]]
    if isinstance(parameter, Number):
        return [parameter.low, parameter.high]
    if isinstance(parameter, Choice):
        return list(parameter.values)
    return [False, True]


def whole_where_needed(parameter: Parameter, value: Any) -> Any:
    """Bounds are floats where the field is; a whole parameter takes whole numbers."""
    if isinstance(parameter, Span) and parameter.whole:
        return [int(end) for end in value]
    return int(value) if isinstance(parameter, Number) and parameter.whole else value


def extremes() -> Iterator[tuple[str, str, Any]]:
    for name, rule in TRANSFORMS.items():
        for key, parameter in rule.params.items():
            for end in ends(parameter):
                yield name, key, whole_where_needed(parameter, end)


# --- the allowlist and the library ----------------------------------------------------------------


def test_every_allowed_transform_and_parameter_exists() -> None:
    import albumentations

    assert albumentations.__version__ == "2.0.8"
    for name, rule in TRANSFORMS.items():
        known = inspect.signature(getattr(albumentations, name).__init__).parameters
        assert rule.params.keys() <= known.keys(), name
        assert rule.defaults.keys() <= rule.params.keys(), name


def test_every_transform_of_the_library_is_allowed_or_refused_with_a_reason() -> None:
    import albumentations

    kinds = (albumentations.BasicTransform, albumentations.BaseCompose)
    classes = [part for part in vars(albumentations).values() if inspect.isclass(part)]
    names = {part.__name__ for part in classes if issubclass(part, kinds)}
    abstract = {
        *("BasicTransform", "DualTransform", "ImageOnlyTransform", "Transform3D", "BaseCompose")
    }
    assert names - abstract - TRANSFORMS.keys() - REFUSED.keys() == set()
    assert TRANSFORMS.keys() & REFUSED.keys() == set()


def test_what_the_library_does_by_default_is_within_bounds() -> None:
    import albumentations

    for name, rule in TRANSFORMS.items():
        arguments = {"size": (32, 32)} if name == "RandomResizedCrop" else {}
        transform = getattr(albumentations, name)(**arguments, **rule.defaults)
        defaults = inspect.signature(type(transform).__init__).parameters
        for key, parameter in rule.params.items():
            value = getattr(transform, key)
            if isinstance(value, dict):  # Affine keeps its ranges by axis
                value = defaults[key].default
            if isinstance(parameter, Choice):
                assert value in parameter.values.values(), (name, key)
            elif value is not None:
                parameter.parse(value)


def test_a_lone_number_means_what_the_library_means_by_it() -> None:
    import albumentations

    for name, rule in TRANSFORMS.items():
        for key, parameter in rule.params.items():
            if isinstance(parameter, Span) and parameter.number:
                lone = 3 if parameter.whole else parameter.high / 2
                ours = parameter.parse(lone)
                given_lone = getattr(albumentations, name)(**{key: lone})
                given_pair = getattr(albumentations, name)(**{key: ours})
                assert getattr(given_lone, key) == getattr(given_pair, key), (name, key)


def test_the_documentation_lists_every_transform_with_its_bounds() -> None:
    text = (ROOT / "docs" / "augmentations.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| `\w+` \|", line)]
    listed = {row.split("`")[1]: row for row in rows}
    assert list(listed) == list(TRANSFORMS)
    for name, rule in TRANSFORMS.items():
        warp = rule.params.keys() & {"interpolation", "border_mode", "fill"}
        named = rule.params.keys() - (warp if "*warp*" in listed[name] else set())
        for key in named:
            parameter = rule.params[key]
            assert f"`{key}`" in listed[name], (name, key)
            if isinstance(parameter, Span):
                assert f"`{key}` [{parameter.low:g}, {parameter.high:g}]" in listed[name]
            if isinstance(parameter, Number):
                assert f"`{key}` {parameter.low:g} to {parameter.high:g}" in listed[name]


@pytest.mark.parametrize(("transform", "key", "value"), list(extremes()))
def test_a_transform_runs_at_the_ends_of_its_bounds(transform: str, key: str, value: Any) -> None:
    for channels in (1, 3):
        if channels >= channels_of(transform):
            image = picture(96, 96, channels)
            result = augmenter(request(transform, **{key: value}), image=image)
            for seed in range(3):
                out = result.apply(image, seed=seed).image
                assert out.shape == image.shape
                assert out.dtype == np.uint8
                assert out.flags.c_contiguous


@pytest.mark.parametrize(
    ("transform", "size"),
    [
        (name, size)
        for name, rule in TRANSFORMS.items()
        for size in ((8, 8), (28, 28), (9, 40), (130, 61))
        if size[0] == size[1] or not rule.needs_square
    ],
)
def test_a_transform_runs_at_any_size(transform: str, size: tuple[int, int]) -> None:
    narrow = {"GaussianBlur": {"sigma_limit": [0.5, 1.0]}}
    narrow |= {name: {"blur_limit": [3, 3]} for name in ("MotionBlur", "MedianBlur")}
    params: dict[str, Any] = narrow.get(transform, {})
    for channels in (1, 3):
        if channels >= channels_of(transform):
            image = picture(*size, channels)
            before = image.copy()
            result = augmenter(request(transform, **params), image=image)
            for seed in range(5):
                augmented = result.apply(image, seed=seed)
                assert augmented.image.shape == image.shape
                assert augmented.image.dtype == np.uint8
                assert [step.transform for step in augmented.applied] == [transform]
            assert np.array_equal(image, before)


# --- what transforms do ---------------------------------------------------------------------------


def test_flips_move_pixels() -> None:
    image = picture(10, 14, 3)
    flipped = augmenter(request("HorizontalFlip"), image=image).apply(image, seed=1)
    assert np.array_equal(flipped.image, image[:, ::-1])
    flipped = augmenter(request("VerticalFlip"), image=image).apply(image, seed=1)
    assert np.array_equal(flipped.image, image[::-1])


def test_fill_reaches_every_channel() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    shift = request("Affine", translate_percent=[0.3, 0.3], fill=255)
    moved = augmenter(shift, image=image).apply(image, seed=0).image
    assert (moved[:5, :5] == 255).all()
    assert (moved[8:, 8:] == 0).all()


def test_rotation_stays_within_its_range() -> None:
    image = picture(28, 28, 1)
    result = augmenter(request("Affine", rotate=[-8, 8]), image=image)
    angles = [result.apply(image, seed=seed).applied[0].params["rotate"] for seed in range(300)]
    assert -8 <= min(angles) < -7.5
    assert 7.5 < max(angles) <= 8


def test_no_request_leaves_the_image_alone() -> None:
    image = picture(28, 28, 1)
    augmented = augmenter(image=image).apply(image, seed=5)
    assert augmented.image is image
    assert augmented.applied == []


def test_p_is_the_share_of_images() -> None:
    image = picture(8, 8, 1)
    result = augmenter(request("HorizontalFlip", p=0.25), image=image)
    share = sum(bool(result.apply(image, seed=seed).applied) for seed in range(4000)) / 4000
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5


# --- what transforms draw -------------------------------------------------------------------------


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_the_seed_alone_decides(transform: str) -> None:
    """Whatever was drawn before, here or from the global generators."""
    import cv2

    image = picture(28, 28, channels_of(transform))
    first = augmenter(request(transform), image=image).apply(image, seed=7)
    random.seed(99)
    np.random.seed(99)
    cv2.setRNGSeed(99)
    again = augmenter(request(transform), image=image)
    for seed in (3, 2**64 - 1, 0):
        again.apply(image, seed=seed)
    second = again.apply(image, seed=7)
    assert second.image.tobytes() == first.image.tobytes()
    assert second.applied == first.applied


@pytest.mark.parametrize("transform", DRAWING)
def test_other_seeds_give_other_images(transform: str) -> None:
    image = picture(28, 28, channels_of(transform))
    strong: dict[str, dict[str, Any]] = {
        "Affine": {"rotate": [-40, 40]},
        "ElasticTransform": {"alpha": 40, "sigma": 4},
        "OpticalDistortion": {"distort_limit": [-0.5, 0.5]},
        "Downscale": {"scale_range": [0.3, 0.9]},
        "Posterize": {"num_bits": [2, 7]},
        "ImageCompression": {"quality_range": [10, 90]},
    }
    result = augmenter(request(transform, **strong.get(transform, {})), image=image)
    images = {result.apply(image, seed=seed).image.tobytes() for seed in range(24)}
    assert len(images) >= (1 if transform == "Equalize" else 3)


def test_another_transform_leaves_the_draws_of_the_rest() -> None:
    image = picture(28, 28, 1)
    chain = [request("HorizontalFlip", 0.5), request("Affine", 0.5, rotate=[-8, 8])]
    alone = augmenter(*chain, image=image)
    longer = augmenter(request("RandomGamma"), *chain, request("HorizontalFlip", 0.5), image=image)
    seconds = 0
    for seed in range(50):
        steps = alone.apply(image, seed=seed).applied
        more = longer.apply(image, seed=seed).applied[1:]
        assert more[: len(steps)] == steps
        seconds += len(more) - len(steps)
    assert 10 < seconds < 40  # the second flip draws for itself


@pytest.mark.parametrize("transform", sorted(TRANSFORMS))
def test_what_was_drawn_is_short_plain_json(transform: str) -> None:
    image = picture(28, 28, channels_of(transform))
    result = augmenter(request(transform), image=image)
    for seed in range(5):
        params = result.apply(image, seed=seed).applied[0].params
        text = json.dumps(params, allow_nan=False)
        assert json.loads(text) == params
        assert len(text) < 500


def test_noise_tells_its_strength() -> None:
    image = picture(28, 28, 1)
    result = augmenter(request("GaussNoise", std_range=[0.1, 0.2]), image=image)
    strength = result.apply(image, seed=1).applied[0].params["drawn"][0]
    assert 0.1 <= strength <= 0.2


DIGESTS = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from tests.test_augment import digest_of
for name in reversed(sys.argv[2:]):
    print(name, digest_of(name))
assert "albumentations" in sys.modules
"""


def digest_of(transform: str) -> str:
    image = picture(28, 28, channels_of(transform))
    result = augmenter(request(transform), image=image)
    sha256 = hashlib.sha256()
    for seed in range(3):
        sha256.update(result.apply(image, seed=seed).image)
    return sha256.hexdigest()


def test_another_process_in_another_order_gives_the_same_bytes_and_prints_nothing() -> None:
    names = sorted(TRANSFORMS)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DIGESTS, str(ROOT), *names],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77"},
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{name} {digest_of(name)}" for name in reversed(names)]


# --- the check ------------------------------------------------------------------------------------

REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    ("HorizontlFlip", {}, "transform", "did you mean 'HorizontalFlip'?"),
    ("Nonsense", {}, "transform", "expected a transform: HorizontalFlip, "),
    ("TextImage", {"font_path": "/etc/passwd"}, "transform", "reads files or other images"),
    ("FDA", {}, "transform", "reads files or other images"),
    ("Resize", {"height": 64}, "transform", "keeps the image size"),
    ("RandomCrop", {}, "transform", "keeps the image size"),
    ("RandomGridShuffle", {}, "transform", "keeps the label true"),
    ("Lambda", {}, "transform", "runs code"),
    ("OneOf", {}, "transform", "listed one by one"),
    ("ShiftScaleRotate", {}, "transform", "Affine, which does the same"),
    ("Normalize", {}, "transform", "loaders do this"),
    ("ColorJitter", {}, "transform", "images of 3 channels, where the model makes 1"),
    ("HorizontalFlip", {"axis": 1}, "params.axis", "it takes none"),
    ("Affine", {"rotat": 3}, "params.rotat", "did you mean 'rotate'?"),
    ("Affine", {"fit_output": True}, "params.fit_output", "a parameter of Affine: scale, "),
    ("Affine", {"rotate": [8, -8]}, "params.rotate", "low <= high"),
    ("Affine", {"rotate": [1, 2, 3]}, "params.rotate", "[low, high]"),
    ("Affine", {"rotate": []}, "params.rotate", "[low, high]"),
    ("Affine", {"rotate": 181}, "params.rotate", "numbers from -180 to 180"),
    ("Affine", {"rotate": [0, float("nan")]}, "params.rotate", "numbers from -180"),
    ("Affine", {"rotate": [0, float("inf")]}, "params.rotate", "numbers from -180"),
    ("Affine", {"rotate": [-(10**400), 0]}, "params.rotate", "numbers from -180"),
    ("Affine", {"rotate": True}, "params.rotate", "numbers from -180"),
    ("Affine", {"rotate": "8"}, "params.rotate", "numbers from -180"),
    ("Affine", {"rotate": None}, "params.rotate", "numbers from -180"),
    ("Affine", {"scale": {"x": 1}}, "params.scale", "numbers from 0.5 to 2"),
    ("Affine", {"keep_ratio": 1}, "params.keep_ratio", "true or false"),
    ("Affine", {"fill": 256}, "params.fill", "a number from 0 to 255"),
    ("Affine", {"interpolation": 1}, "params.interpolation", "one of nearest, linear"),
    ("Affine", {"border_mode": ["wrap"]}, "params.border_mode", "one of constant"),
    ("MotionBlur", {"blur_limit": [4, 7]}, "params.blur_limit", "odd whole numbers"),
    ("MotionBlur", {"blur_limit": 5}, "params.blur_limit", "expected [low, high]"),
    ("MotionBlur", {"blur_limit": [3, 11]}, "params", "at most 9 for images of 28 px"),
    ("GaussianBlur", {"sigma_limit": [1, 4]}, "params", "at most 3.5 for images of 28 px"),
    ("CoarseDropout", {"num_holes_range": [1.0, 2.0]}, "params.num_holes_range", "whole"),
    (
        *("CoarseDropout", {"hole_height_range": [0.7, 0.7], "hole_width_range": [0.1, 0.6]}),
        *("params", "at most half of the image"),
    ),
    ("ElasticTransform", {"alpha": 100, "sigma": 1}, "params", "alpha of at most 35"),
    ("GridDistortion", {"num_steps": 2.0}, "params.num_steps", "a whole number from 1 to 16"),
]


@pytest.mark.parametrize(("transform", "params", "field", "expected"), REFUSALS)
def test_a_refusal_names_field_and_reason(
    transform: str, params: dict[str, Any], field: str, expected: str
) -> None:
    good = request("HorizontalFlip")
    # model_construct: the recipe refuses some of these values before; this check does not rely
    # on that.
    bad = AugmentationRequest.model_construct(transform=transform, p=0.5, params=params)
    with pytest.raises(RecipeError) as caught:
        check_augmentations([good, bad], image_size=(28, 28), channels=1)
    assert str(caught.value).startswith(f"augmentations[1].{field}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("transform", ["Transpose", "RandomRotate90", "D4"])
def test_swapping_sides_needs_a_square(transform: str) -> None:
    check_augmentations([request(transform)], image_size=(28, 28), channels=1)
    with pytest.raises(RecipeError, match="a square image_size"):
        check_augmentations([request(transform)], image_size=(28, 32), channels=1)


def test_the_augmenter_refuses_what_the_check_refuses() -> None:
    with pytest.raises(RecipeError, match="reads files"):
        Augmenter([request("TextImage")], image_size=(28, 28), channels=1)


def test_the_check_loads_no_image_library() -> None:
    code = (
        "import sys; from datagen.augment import check_augmentations;"
        "from datagen.recipe import AugmentationRequest as R;"
        "check_augmentations([R(transform='Affine', params={'rotate': [-8, 8]})],"
        " image_size=(28, 28), channels=1);"
        "print([m for m in ('albumentations', 'cv2', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@settings(deadline=None)
@given(JSON)
def test_whatever_is_parsed_lies_within_its_bounds(value: Any) -> None:
    for parameter in (Span(-3, 5, "symmetric"), Span(1, 7, "exact", whole=True, odd=True)):
        try:
            low, high = parameter.parse(value)
        except ValueError:
            continue
        assert parameter.low <= low <= high <= parameter.high
    for kind in (Number(0, 9), Flag(), Choice({"a": 1})):
        try:
            assert kind.parse(value) in (*range(10), True, False) or 0 <= value <= 9
        except ValueError:
            continue
