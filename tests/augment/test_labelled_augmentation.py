"""Labels agree with their image after any allowed chain, seen through the image's own path."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from datagen.augment import TRANSFORMS, Augmenter, check_augmentations
from datagen.augment.moves import MOVING
from datagen.augment.parameters import Choice, Flag, Number, Parameter
from datagen.errors import LabelError, RecipeError
from datagen.label_checks import KINDS, check_labels
from datagen.label_moves import crop_labels, flip_labels, turn_labels
from datagen.label_shapes import instance_boxes
from datagen.labels import Keypoint, LabelledObject, Labels
from datagen.recipe import AugmentationRequest
from tests.label_scenes import NAMES, same_labels, scene

SIZE = (96, 96)
OBJECTS = frozenset({"mask", "instances", "keypoints"})


def request(transform: str, p: float = 1.0, **params: Any) -> AugmentationRequest:
    return AugmentationRequest.model_construct(transform=transform, p=p, params=params)


def augmenter(
    *chain: AugmentationRequest, channels: int = 1, min_visibility: float = 0.0
) -> Augmenter:
    return Augmenter(chain, image_size=SIZE, channels=channels, min_visibility=min_visibility)


def moved(labels: Labels, *chain: AugmentationRequest, seed: int = 0, **options: Any) -> Labels:
    blank = np.zeros((*SIZE, 1), np.uint8)
    result = augmenter(*chain, **options).apply_labelled(blank, labels, seed=seed).labels
    assert result is not None
    return result


def numbered(labels: Labels) -> Labels:
    """Objects whose class names say which they are: those that go can be told."""
    objects = tuple(
        replace(each, class_name=str(value)) for value, each in enumerate(labels.objects or (), 1)
    )
    return replace(labels, objects=objects)


def shown(chain: list[AugmentationRequest], instances: NDArray[Any], seed: int) -> NDArray[Any]:
    """By albumentations without labels: every object painted alone, white on black; the one that
    covers most of a pixel, or 0. Transforms that move nothing are left out."""
    bare = [
        request(each.transform, **{k: v for k, v in each.params.items() if k != "fill"})
        for each in chain
        if each.transform in MOVING
    ]
    painter = augmenter(*bare)
    covers = [
        painter.apply(((instances == value) * np.uint8(255))[..., None], seed=seed).image[..., 0]
        for value in range(1, int(instances.max()) + 1)
    ]
    stack = np.stack(covers).astype(np.int64)
    return np.where(stack.max(0) >= 255 - stack.sum(0), stack.argmax(0) + 1, 0)


@st.composite
def values_of(draw: st.DrawFn, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return draw(st.sampled_from(list(parameter.values)))
    if isinstance(parameter, Flag):
        return draw(st.booleans())
    if isinstance(parameter, Number):
        low, high = parameter.low, parameter.high
        return draw(st.integers(int(low), int(high)) if parameter.whole else st.floats(low, high))
    low, high = parameter.low, parameter.high
    if parameter.whole:
        ends = sorted(draw(st.tuples(*[st.integers(int(low), int(high))] * 2)))
        return [end // 2 * 2 + 1 for end in ends] if parameter.odd else ends
    return sorted(draw(st.tuples(st.floats(low, high), st.floats(low, high))))


@st.composite
def chains(draw: st.DrawFn) -> list[AugmentationRequest]:
    """One to four transforms that can move masks, instances and keypoints."""
    chain = []
    for name in draw(st.lists(st.sampled_from(list(TRANSFORMS)), min_size=1, max_size=4)):
        params = {
            key: draw(values_of(parameter))
            for key, parameter in TRANSFORMS[name].params.items()
            if draw(st.booleans())
        }
        one = request(name, **params)
        try:
            check_augmentations([one], image_size=SIZE, channels=3, label_kinds=OBJECTS)
        except RecipeError:
            continue
        chain.append(one)
    return chain


# Found by chance: an identity whose map lies between pixels, rounded to the nearest.
@example(
    [
        AugmentationRequest(
            transform="OpticalDistortion",
            p=1.0,
            params={"distort_limit": [0.0, 0.0], "interpolation": "nearest"},
        )
    ],
    0,
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains(), st.integers(0, 2**32 - 1))
def test_a_painted_object_and_its_label_agree(chain: list[AugmentationRequest], seed: int) -> None:
    labels = numbered(scene(seed, SIZE))
    image = np.full((*SIZE, 3), 9, np.uint8)
    result = augmenter(*chain, channels=3).apply_labelled(image, labels, seed=seed)
    assert np.array_equal(result.image, augmenter(*chain, channels=3).apply(image, seed=seed).image)
    after = result.labels
    assert after is not None
    assert after.instances is not None
    assert labels.instances is not None
    check_labels(after, SIZE, ("background", *(str(value) for value in range(1, 9))))
    truth = shown(chain, labels.instances, seed)
    boxes = instance_boxes(truth.astype(np.uint16))
    found = {int(each.class_name): number for number, each in enumerate(after.objects or (), 1)}
    for value, box in boxes.items():
        mine, true = after.instances == found.get(value, -1), truth == value
        if true.sum() < 60:
            continue
        assert (mine & true).sum() / (mine | true).sum() >= 0.98
        assert after.objects is not None
        mine_box = after.objects[found[value] - 1].box_xyxy
        assert max(abs(a - b) for a, b in zip(mine_box, box, strict=True)) <= 1


@pytest.mark.parametrize("transform", sorted(MOVING))
def test_with_nearest_pixels_they_agree_exactly(transform: str) -> None:
    """Then the library's own path for images gives whole objects, and no rounding is left."""
    params: dict[str, Any] = {
        "Affine": {"rotate": [-90, 90], "scale": [0.6, 1.6], "shear": [-20, 20]},
        "ElasticTransform": {"alpha": 60, "sigma": 6},
        "OpticalDistortion": {"distort_limit": [-0.5, 0.5]},
    }.get(transform, {})
    if "interpolation" in TRANSFORMS[transform].params:
        params["interpolation"] = "nearest"
    labels = scene(5, SIZE)
    assert labels.instances is not None
    assert labels.mask is not None
    for seed in range(4):
        after = moved(labels, request(transform, **params), seed=seed)
        for pixels, mine in ((labels.mask, after.mask), (labels.instances > 0, after.instances)):
            painter = augmenter(request(transform, **params))
            image = painter.apply(pixels.astype(np.uint8)[..., None], seed=seed).image[..., 0]
            assert mine is not None
            assert np.mean((mine if pixels is labels.mask else mine > 0) != image) < 0.001


@pytest.mark.parametrize("transform", sorted(MOVING))
def test_a_keypoint_stays_on_what_it_marks(transform: str) -> None:
    """A disc painted around it, moved as a picture, still has it in the middle."""
    params: dict[str, Any] = {
        "Affine": {"rotate": [-90, 90], "scale": [0.8, 1.5], "shear": [-20, 20]},
        "ElasticTransform": {"alpha": 60, "sigma": 8},
        "OpticalDistortion": {"distort_limit": [-0.5, 0.5]},
    }.get(transform, {})
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    compared = 0
    for seed in range(6):
        x, y = np.random.default_rng(seed).uniform(30, 66, 2)
        disc = ((columns - x) ** 2 + (rows - y) ** 2 < 4**2).astype(np.uint16)
        point = Keypoint("middle", float(x), float(y))
        thing = LabelledObject("disc", instance_boxes(disc)[1], (point,))
        after = moved(
            Labels("a", instances=disc, objects=(thing,)), request(transform, **params), seed=seed
        )
        image = augmenter(request(transform, **params)).apply(
            (disc * np.uint16(255)).astype(np.uint8)[..., None], seed=seed
        )
        light = image.image[..., 0].astype(float)
        if light[[0, -1]].any() or light[:, [0, -1]].any() or not light.any():
            continue  # cut off by the edge: its middle is elsewhere
        assert after.objects is not None
        (marked,) = after.objects[0].keypoints
        middle = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
        assert math.dist(middle, (marked.x, marked.y)) < 0.6
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    ("transform", "by_hand"),
    [
        ("HorizontalFlip", lambda labels: flip_labels(labels, SIZE, axis=1)),
        ("VerticalFlip", lambda labels: flip_labels(labels, SIZE, axis=0)),
        ("Transpose", lambda x: flip_labels(turn_labels(x, SIZE, quarters=1), SIZE, axis=0)),
    ],
)
def test_flips_are_those_of_labels(transform: str, by_hand: Any) -> None:
    labels = scene(7, SIZE)
    assert same_labels(moved(labels, request(transform)), by_hand(labels))


@pytest.mark.parametrize("transform", ["RandomRotate90", "D4"])
def test_turns_are_those_of_labels(transform: str) -> None:
    labels = scene(8, SIZE)
    turns = [turn_labels(labels, SIZE, quarters=number) for number in range(4)]
    turns += [flip_labels(turn, SIZE, axis=1) for turn in turns] if transform == "D4" else []
    seen = set()
    for seed in range(40):
        after = moved(labels, request(transform), seed=seed)
        (which,) = [k for k, turn in enumerate(turns) if same_labels(after, turn)]
        seen.add(which)
    assert len(seen) == len(turns)


def test_a_crop_is_the_crop_of_labels_enlarged() -> None:
    labels = scene(9, SIZE)
    crop = request("RandomResizedCrop", scale=[0.25, 0.25], ratio=[1.0, 1.0])
    result = augmenter(crop).apply_labelled(np.zeros((*SIZE, 1), np.uint8), labels, seed=3)
    x0, y0, x1, y1 = result.applied[0].params["crop_coords"]  # type: ignore[misc, str-unpack]
    assert (x1 - x0, y1 - y0) == (48, 48)
    small = crop_labels(labels, SIZE, box_xyxy=(x0, y0, x1, y1))  # type: ignore[arg-type]
    after = result.labels
    assert after is not None
    assert after.spacing_mm == (1.0, 0.25)
    assert [each.class_name for each in after.objects or ()] == [
        each.class_name for each in small.objects or ()
    ]
    for large, each in zip(after.objects or (), small.objects or (), strict=True):
        assert np.allclose(large.box_xyxy, np.multiply(each.box_xyxy, 2), atol=1)
        assert [(k.name, k.x, k.y) for k in large.keypoints] == [
            (k.name, pytest.approx(2 * k.x), pytest.approx(2 * k.y)) for k in each.keypoints
        ]


def test_boxes_alone_move_as_those_of_masks_do() -> None:
    """Full rectangles: their boxes are known from both."""
    instances = np.zeros(SIZE, np.uint16)
    instances[10:30, 20:60], instances[50:90, 70:80] = 1, 2
    objects = tuple(LabelledObject("box", box) for box in instance_boxes(instances).values())
    chain = [
        request("Affine", scale=[0.6, 1.6], translate_percent=[-0.2, 0.2]),
        request("D4"),
        request("RandomResizedCrop"),
    ]
    check_augmentations(chain, image_size=SIZE, channels=1, label_kinds=frozenset({"boxes"}))
    for seed in range(20):
        alone = moved(Labels("a", objects=objects), *chain, seed=seed, min_visibility=0.1)
        masked = moved(
            Labels("a", instances=instances, objects=objects),
            *chain,
            seed=seed,
            min_visibility=0.1,
        )
        check_labels(alone, SIZE, NAMES)
        for one, other in zip(alone.objects or (), masked.objects or (), strict=True):
            assert np.allclose(one.box_xyxy, other.box_xyxy, atol=1)


def half_out(share: float) -> Labels:
    """Two objects as high as the image, which a shift by 28 pixels takes partly out of it."""
    instances = np.zeros(SIZE, np.uint16)
    instances[:, 56:96], instances[:, :20] = 1, 2
    mask = (instances > 0).astype(np.uint8)
    objects = tuple(LabelledObject("box", box) for box in instance_boxes(instances).values())
    shift = request("Affine", translate_percent=[0.3, 0.3], scale=[1.0, 1.0])
    return moved(
        Labels("a", mask=mask, instances=instances, objects=objects), shift, min_visibility=share
    )


def test_an_object_that_is_hardly_seen_goes_but_its_pixels_stay_in_the_mask() -> None:
    """Of 40 columns, 12 are left, and of 96 rows 68: a share of 0.2125."""
    kept, dropped = half_out(0.21), half_out(0.22)
    assert [each.box_xyxy[0] for each in kept.objects or ()] == [84, 28]
    assert [each.box_xyxy[0] for each in dropped.objects or ()] == [28]
    assert dropped.instances is not None
    assert dropped.mask is not None
    assert set(np.unique(dropped.instances)) == {0, 1}
    assert (dropped.instances[40:, 85:] == 0).all()
    assert (dropped.mask[40:, 85:] == 1).all()


def test_a_zoom_alone_hides_nothing() -> None:
    labels = scene(11, SIZE)
    smaller = moved(labels, request("Affine", scale=[0.5, 0.5]), min_visibility=0.95)
    assert len(smaller.objects or ()) == len(labels.objects or ())
    assert smaller.spacing_mm == pytest.approx((4.0, 1.0))


def test_what_left_the_image_does_not_come_back() -> None:
    there = request("Affine", translate_percent=[0.3, 0.3])
    back = request("Affine", translate_percent=[-0.3, -0.3])
    instances = np.zeros(SIZE, np.uint16)
    instances[80:90, 80:90] = 1
    thing = LabelledObject("box", (80, 80, 90, 90), (Keypoint("middle", 85, 85),))
    for labels in (
        Labels("a", instances=instances, objects=(thing,)),
        Labels("a", objects=(thing,)),
    ):
        assert moved(labels, there, back).objects == ()
    wide = LabelledObject("box", (0, 0, 96, 96), (Keypoint("low", 85, 85), Keypoint("up", 5, 5)))
    (each,) = moved(Labels("a", objects=(wide,)), there, back).objects or ()
    assert [point.name for point in each.keypoints] == ["up"]
    assert each.box_xyxy == pytest.approx((0, 0, 68, 68))


@pytest.mark.parametrize(
    ("chain", "spacing_mm"),
    [
        ([request("HorizontalFlip")], (2.0, 0.5)),
        ([request("Transpose")], (0.5, 2.0)),
        ([request("Affine", rotate=[90, 90])], (0.5, 2.0)),
        ([request("Affine", rotate=[30, 30])], None),
        ([request("Affine", shear=[10, 10])], None),
        ([request("Affine", scale=[2.0, 2.0])], (1.0, 0.25)),
        ([request("Perspective", scale=[0.1, 0.1])], None),
        ([request("GridDistortion")], None),
        ([request("GaussNoise")], (2.0, 0.5)),
    ],
)
def test_a_pixel_measures_what_it_does_or_nothing_is_said(
    chain: list[AugmentationRequest], spacing_mm: tuple[float, float] | None
) -> None:
    found = moved(scene(1, SIZE), *chain).spacing_mm
    assert found == (None if spacing_mm is None else pytest.approx(spacing_mm))


def test_no_sliver_of_a_box_is_left() -> None:
    """Less than what its coordinates are rounded to."""
    thing = LabelledObject("box", (48.0, 20.0, 68.0004, 40.0))
    shift = request("Affine", translate_percent=[-0.3, -0.3])
    (kept,) = moved(Labels("a", objects=(thing,)), shift).objects or ()
    assert kept.box_xyxy == pytest.approx((20, 0, 40.0004, 12))
    low = LabelledObject("box", (48.0, 20.0, 68.0, 28.0004))
    assert moved(Labels("a", objects=(low,)), shift).objects == ()


def test_a_square_pixel_measures_the_same_when_turned() -> None:
    labels = replace(scene(1, SIZE), spacing_mm=(0.7, 0.7))
    assert moved(labels, request("Rotate")).spacing_mm == pytest.approx((0.7, 0.7))


def test_what_moves_nothing_leaves_labels_as_they_are() -> None:
    labels = scene(2, SIZE)
    still = [request(name) for name in ("GaussNoise", "RandomGamma")]
    still.append(request("GaussianBlur", sigma_limit=[0.5, 1.5]))
    assert moved(labels, *still) is labels
    assert moved(labels, request("D4", p=0.0)) is labels


def test_a_class_alone_passes_any_transform() -> None:
    labels = Labels("a", {"age": 3}, caption="three")
    assert moved(labels, request("CoarseDropout"), request("Rotate")) == labels


@pytest.mark.parametrize("transform", sorted(set(TRANSFORMS) - MOVING - {"CoarseDropout"}))
def test_what_is_said_to_move_nothing_moves_nothing(transform: str) -> None:
    """The middle of a disc stays where it is, but for two, which are refused for labels."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    image = np.full((*SIZE, 3), 60, np.uint8)
    image[(columns - 48) ** 2 + (rows - 48) ** 2 < 20**2] = 200
    params = {"GaussNoise": {"std_range": [0.05, 0.1]}, "Downscale": {"scale_range": [0.25, 0.3]}}
    painter = augmenter(request(transform, **params.get(transform, {})), channels=3)
    furthest = 0.0
    for seed in range(8):
        light = painter.apply(image, seed=seed).image.astype(float).sum(axis=2)
        light = light - np.median(light[:8])
        light[np.abs(light) < 0.3 * np.abs(light).max()] = 0
        middle = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
        furthest = max(furthest, math.dist(middle, (48, 48)))
    refused = TRANSFORMS[transform].refused
    if transform not in ("MotionBlur", "Downscale"):
        assert furthest < 0.5
    else:
        assert furthest > 0.9
        assert refused is not None
        assert set(refused({})) == set(KINDS)


REFUSED: list[tuple[AugmentationRequest, str, str]] = [
    (request("CoarseDropout"), "mask", "hides no objects: holes do"),
    (request("CoarseDropout"), "keypoints", "hides no objects"),
    (request("MotionBlur"), "instances", "GaussianBlur with sigma_limit up to 1.5, or MedianBlur"),
    *((request("MedianBlur", blur_limit=[3, 5]), kind, "at most 3: more wipes") for kind in KINDS),
    (request("MedianBlur"), "mask", "blur_limit of at most 3"),
    *((request("GaussianBlur", sigma_limit=[1, 1.6]), kind, "at most 1.5") for kind in KINDS),
    (request("GaussianBlur"), "mask", "sigma_limit of at most 1.5"),
    (request("Downscale"), "boxes", "moves edges"),
    (request("Rotate"), "boxes", "keeps sides upright"),
    (request("Affine", rotate=[0, 5]), "boxes", "Affine without rotate and shear"),
    (request("Affine", shear=[-5, 5]), "boxes", "keeps sides upright"),
    (request("ElasticTransform"), "boxes", "keeps sides upright"),
    (request("ElasticTransform", alpha=30, sigma=2), "mask", "alpha of at most 8 with sigma 2"),
    (request("Perspective", border_mode="reflect"), "instances", "border_mode constant"),
    (request("Affine", border_mode="wrap"), "boxes", "border_mode constant"),
]


@pytest.mark.parametrize(("refused", "kind", "expected"), REFUSED)
def test_a_transform_that_cannot_move_a_kind_is_refused_by_name(
    refused: AugmentationRequest, kind: str, expected: str
) -> None:
    options: dict[str, Any] = {"image_size": SIZE, "channels": 3}
    check_augmentations([refused], **options)
    with pytest.raises(RecipeError, match=expected) as caught:
        check_augmentations([request("D4"), refused], **options, label_kinds=frozenset({kind}))
    assert str(caught.value).startswith("augmentations[1].transform: ")
    assert f"(it cannot move {kind})" in str(caught.value)


def test_blurs_that_labels_may_have_leave_small_objects_to_be_seen() -> None:
    """A disc 4 px wide keeps a third of its contrast or more."""
    blurs = (
        request("GaussianBlur", sigma_limit=[1.5, 1.5]),
        request("MedianBlur", blur_limit=[3, 3]),
    )
    check_augmentations(blurs, image_size=SIZE, channels=1, label_kinds=frozenset(KINDS))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    image = np.full((*SIZE, 1), 60, np.uint8)
    image[(columns - 48) ** 2 + (rows - 48) ** 2 < 2**2] = 200
    for blur in blurs:
        assert int(augmenter(blur).apply(image, seed=0).image.max()) - 60 > 140 / 3
    wide = augmenter(request("MedianBlur", blur_limit=[7, 7])).apply(image, seed=0).image
    assert (wide == 60).all()


def test_masks_may_be_reflected_at_the_edges() -> None:
    rotate = request("Rotate", border_mode="reflect_101", limit=[45, 45], interpolation="nearest")
    mask = np.random.default_rng(0).integers(0, 3, SIZE, np.uint8)
    check_augmentations([rotate], image_size=SIZE, channels=1, label_kinds=frozenset({"mask"}))
    after = moved(Labels("a", mask=mask), rotate).mask
    image = augmenter(rotate).apply(mask[..., None], seed=0).image[..., 0]
    assert after is not None
    assert np.mean(after != image) < 0.005


def test_the_augmenter_refuses_what_the_check_refuses() -> None:
    """Drawn or not."""
    with pytest.raises(LabelError, match="CoarseDropout: it cannot move instances"):
        moved(scene(1, SIZE), request("CoarseDropout", p=0.0))
    with pytest.raises(LabelError, match=r"mask: its shape is \[24, 32\]; expected .* \[96, 96\]"):
        moved(scene(1), request("D4"))


def corner_object(class_name: str, **more: Any) -> Labels:
    """One object, in the upper left corner."""
    instances = np.zeros((32, 32), np.uint16)
    instances[1:5, 2:6] = 1
    return Labels(
        class_name,
        mask=instances.astype(np.uint8),
        instances=instances,
        objects=(LabelledObject("star", (2.0, 1.0, 6.0, 5.0)),),
        **more,
    )


CROP = [
    request("RandomResizedCrop", scale=[0.25, 0.4]),
    AugmentationRequest(transform="GaussNoise", p=1.0),
]


@pytest.mark.parametrize("more", [{}, {"also": ("star",)}, {"shows": ("star",)}])
def test_an_image_keeps_the_object_that_its_class_is_called_after(more: dict[str, Any]) -> None:
    augmenter = Augmenter(CROP, image_size=(32, 32), channels=1, min_visibility=0.5)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    free, bound = corner_object("other"), corner_object("x" if more else "star", **more)
    num_lost = 0
    for seed in range(30):
        found = augmenter.apply_labelled(image, bound, seed=seed)
        unbound = augmenter.apply_labelled(image, free, seed=seed)
        assert found.labels is not None
        assert found.labels.objects
        again = augmenter.apply_labelled(image, bound, seed=seed)
        np.testing.assert_array_equal(again.image, found.image)
        assert unbound.labels is not None
        if unbound.labels.objects:  # where nothing is lost, nothing is drawn once more
            np.testing.assert_array_equal(unbound.image, found.image)
            assert unbound.applied == found.applied
        else:
            assert not np.array_equal(unbound.image, found.image)
            num_lost += 1
    assert num_lost > 5


def test_where_every_draw_loses_it_nothing_is_moved() -> None:
    augmenter = Augmenter(CROP, image_size=(32, 32), channels=1, min_visibility=1.0)
    image = np.full((32, 32, 1), 90, np.uint8)
    instances = np.ones((32, 32), np.uint16)
    whole = Labels("star", instances=instances, objects=(LabelledObject("star", (0, 0, 32, 32)),))
    found = augmenter.apply_labelled(image, whole, seed=3)
    assert found.labels == whole
    assert [each.transform for each in found.applied] == ["GaussNoise"]
