"""The transforms that a recipe may name, with bounds; and those that it may not, with the reason.

A transform is listed if a class label stays true under it at every allowed value, the image keeps
its size, and nothing goes in but the image and the seed. Used by check.py and augmenter.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from datagen.augment.parameters import Argument, Choice, Flag, Number, Pair, Parameter, Span

Arguments = Mapping[str, Argument]


def _pair(arguments: Arguments, name: str, default: Pair) -> Pair:
    value = arguments.get(name, default)
    assert isinstance(value, tuple)
    return value


def _limit_holes(arguments: Arguments, side_px: int) -> str | None:
    num = _pair(arguments, "num_holes_range", (1, 2))[1]
    height = _pair(arguments, "hole_height_range", (0.1, 0.2))[1]
    width = _pair(arguments, "hole_width_range", (0.1, 0.2))[1]
    return "holes that hide at most half of the image" if num * height * width > 0.5 else None


def _limit_displacement(arguments: Arguments, side_px: int) -> str | None:
    """Gaussian noise in [-1, 1], blurred by sigma, deviates by about 0.08 / sigma: alpha may move
    pixels by a tenth of the side."""
    alpha, sigma = arguments.get("alpha", 1), arguments.get("sigma", 50)
    assert isinstance(alpha, (int, float))
    assert isinstance(sigma, (int, float))
    highest = 1.25 * side_px * sigma
    return f"alpha of at most {highest:g} with sigma {sigma:g}" if alpha > highest else None


def _limit_kernel(arguments: Arguments, side_px: int) -> str | None:
    highest = max(3, side_px // 3)
    too_wide = _pair(arguments, "blur_limit", (3, 7))[1] > highest
    return f"blur_limit of at most {highest} for images of {side_px} px" if too_wide else None


def _limit_sigma(arguments: Arguments, side_px: int) -> str | None:
    highest = side_px / 8
    too_wide = _pair(arguments, "sigma_limit", (0.5, 3.0))[1] > highest
    return f"sigma_limit of at most {highest:g} for images of {side_px} px" if too_wide else None


def _same_size(height: int, width: int) -> dict[str, Argument]:
    return {"size": (height, width)}


def _tiles(height: int, width: int) -> dict[str, Argument]:
    """Tiles of about 14 px, at most 8 a side. With 8 at 28 px, as albumentations has it, 16 pixels
    make a histogram and clip_limit changes nothing."""
    return {"tile_grid_size": (min(8, max(1, height // 14)), min(8, max(1, width // 14)))}


@dataclass(frozen=True)
class TransformRule:
    """One allowed transform.

    needs_square: it swaps the sides. needs_colour: it needs three channels. takes_16_bits: it gives
    of uint16 what it gives of uint8, on the finer scale; albumentations fails at some, or silently
    counts on 255. defaults: arguments
    where albumentations' own are out of bounds. fitted: arguments that follow from height and
    width. limit: what is expected of the arguments together, given the shorter side, or None if
    they pass. refused: kinds of labels, of label_checks.KINDS, that would be false after it, given
    the arguments, each with what is expected instead; None: it moves all kinds, or moves nothing.
    """

    params: Mapping[str, Parameter] = field(default_factory=dict)
    needs_square: bool = False
    needs_colour: bool = False
    takes_16_bits: bool = False
    defaults: Arguments = field(default_factory=dict)
    fitted: Callable[[int, int], Arguments] | None = None
    limit: Callable[[Arguments, int], str | None] | None = None
    refused: Callable[[Arguments], Mapping[str, str]] | None = None


_SMOOTH = 2.0  # see _refuse_elastic
_SHARP_SIGMA = 1.5  # pixels; a disc 4 px wide keeps about half of its contrast
_SHARP_KERNEL = 3  # pixels; of what is 3 x 3 or more, the middle stays
_OBJECTS = ("instances", "boxes", "keypoints")
_SPATIAL = ("mask", *_OBJECTS)


def _refuse_warped(arguments: Arguments) -> dict[str, str]:
    """The box around a turned or bent box is not the box of what is in it. Beyond the edges, most
    border modes show parts of objects once more."""
    refused = {
        "boxes": "a transform that keeps sides upright, such as RandomResizedCrop, a flip or "
        "Affine without rotate and shear"
    }
    if arguments.get("border_mode", 0) != 0:
        refused |= dict.fromkeys(
            _OBJECTS, "border_mode constant: the others show parts of objects twice"
        )
    return refused


def _refuse_affine(arguments: Arguments) -> dict[str, str]:
    refused = _refuse_warped(arguments)
    turns = [_pair(arguments, name, (0, 0)) for name in ("rotate", "shear")]
    if turns == [(0, 0), (0, 0)] and arguments.get("border_mode", 0) == 0:
        del refused["boxes"]
    return refused


def _refuse_elastic(arguments: Arguments) -> dict[str, str]:
    """Displacements of about 0.08 alpha / sigma that change over sigma pixels: where they change
    too fast, the image folds. Measured at 128 px, sigma 1 to 8: with alpha of 2 sigma^2 in at most
    0.1 % of the pixels, with 6 sigma^2 in up to 3.5 %."""
    refused = _refuse_warped(arguments)
    alpha, sigma = arguments.get("alpha", 1), arguments.get("sigma", 50)
    assert isinstance(alpha, (int, float))
    assert isinstance(sigma, (int, float))
    highest = _SMOOTH * sigma**2
    if alpha > highest:
        refused |= dict.fromkeys(
            _SPATIAL, f"alpha of at most {highest:g} with sigma {sigma:g}: more tears objects apart"
        )
    return refused


def _refuse_holes(arguments: Arguments) -> dict[str, str]:
    return dict.fromkeys(_SPATIAL, "a transform that hides no objects: holes do")


def _refuse_shifts(arguments: Arguments) -> dict[str, str]:
    expected = (
        f"GaussianBlur with sigma_limit up to {_SHARP_SIGMA:g}, or MedianBlur with blur_limit "
        f"{_SHARP_KERNEL}: this one moves edges to one side, by pixels"
    )
    return dict.fromkeys(_SPATIAL, expected)


def _refuse_median(arguments: Arguments) -> dict[str, str]:
    """A median over more than twice the pixels of an object takes it out of the image."""
    if _pair(arguments, "blur_limit", (3, 7))[1] <= _SHARP_KERNEL:
        return {}
    expected = f"blur_limit of at most {_SHARP_KERNEL}: more wipes small objects out"
    return dict.fromkeys(_SPATIAL, expected)


def _refuse_gaussian(arguments: Arguments) -> dict[str, str]:
    if _pair(arguments, "sigma_limit", (0.5, 3.0))[1] <= _SHARP_SIGMA:
        return {}
    expected = f"sigma_limit of at most {_SHARP_SIGMA:g}: more blurs small objects away"
    return dict.fromkeys(_SPATIAL, expected)


# The numbers are OpenCV's constants, written out so that a check needs no OpenCV.
_INTERPOLATION = Choice({"nearest": 0, "linear": 1, "cubic": 2, "area": 3, "lanczos4": 4})
_BORDER_MODE = Choice({"constant": 0, "replicate": 1, "reflect": 2, "wrap": 3, "reflect_101": 4})
_WARP: dict[str, Parameter] = {
    "interpolation": _INTERPOLATION,
    "border_mode": _BORDER_MODE,
    "fill": Number(0, 255),
}
_KERNEL: dict[str, Parameter] = {"blur_limit": Span(3, 31, whole=True, odd=True)}

TRANSFORMS: dict[str, TransformRule] = {
    # Geometry
    "HorizontalFlip": TransformRule(takes_16_bits=True),
    "VerticalFlip": TransformRule(takes_16_bits=True),
    "Transpose": TransformRule(needs_square=True, takes_16_bits=True),
    "RandomRotate90": TransformRule(needs_square=True, takes_16_bits=True),
    "D4": TransformRule(needs_square=True, takes_16_bits=True),
    "Rotate": TransformRule(
        {"limit": Span(-180, 180, "symmetric"), **_WARP},
        takes_16_bits=True,
        refused=_refuse_warped,
    ),
    "Affine": TransformRule(
        {
            "scale": Span(0.5, 2, "exact"),
            "translate_percent": Span(-0.3, 0.3, "exact"),
            "rotate": Span(-180, 180, "exact"),
            "shear": Span(-45, 45, "exact"),
            "keep_ratio": Flag(),
            **_WARP,
        },
        takes_16_bits=True,
        refused=_refuse_affine,
    ),
    "Perspective": TransformRule(
        {"scale": Span(0, 0.2), **_WARP}, takes_16_bits=True, refused=_refuse_warped
    ),
    "ElasticTransform": TransformRule(
        {"alpha": Number(0, 1000), "sigma": Number(1, 50), **_WARP},
        takes_16_bits=True,
        limit=_limit_displacement,
        refused=_refuse_elastic,
    ),
    "GridDistortion": TransformRule(
        {
            "num_steps": Number(1, 16, whole=True),
            "distort_limit": Span(-0.5, 0.5, "symmetric"),
            **_WARP,
        },
        takes_16_bits=True,
        refused=_refuse_warped,
    ),
    "OpticalDistortion": TransformRule(
        {"distort_limit": Span(-0.5, 0.5, "symmetric"), **_WARP},
        takes_16_bits=True,
        refused=_refuse_warped,
    ),
    "RandomResizedCrop": TransformRule(
        {"scale": Span(0.25, 1), "ratio": Span(0.5, 2), "interpolation": _INTERPOLATION},
        takes_16_bits=True,
        defaults={"scale": (0.25, 1.0)},
        fitted=_same_size,
    ),
    "CoarseDropout": TransformRule(
        {
            "num_holes_range": Span(1, 12, whole=True),
            "hole_height_range": Span(0.02, 0.7),
            "hole_width_range": Span(0.02, 0.7),
            "fill": Number(0, 255),
        },
        takes_16_bits=True,
        limit=_limit_holes,
        refused=_refuse_holes,
    ),
    # Light
    "RandomBrightnessContrast": TransformRule(
        {
            "brightness_limit": Span(-0.4, 0.4, "symmetric"),
            "contrast_limit": Span(-0.6, 0.6, "symmetric"),
        },
        takes_16_bits=True,
    ),
    "RandomGamma": TransformRule({"gamma_limit": Span(25, 400)}),
    "CLAHE": TransformRule({"clip_limit": Span(1, 16)}, fitted=_tiles),
    "Equalize": TransformRule(),
    "Posterize": TransformRule({"num_bits": Span(2, 7, "exact", whole=True)}),
    "InvertImg": TransformRule(takes_16_bits=True),
    # Sharpness and noise
    "GaussianBlur": TransformRule(
        {"sigma_limit": Span(0.1, 8)},
        takes_16_bits=True,
        limit=_limit_sigma,
        refused=_refuse_gaussian,
    ),
    "MotionBlur": TransformRule(
        _KERNEL, takes_16_bits=True, limit=_limit_kernel, refused=_refuse_shifts
    ),
    "MedianBlur": TransformRule(_KERNEL, limit=_limit_kernel, refused=_refuse_median),
    "Sharpen": TransformRule({"alpha": Span(0, 1), "lightness": Span(0, 2)}, takes_16_bits=True),
    "GaussNoise": TransformRule({"std_range": Span(0, 0.5), "per_channel": Flag()}),
    "ImageCompression": TransformRule(
        {
            "compression_type": Choice({"jpeg": "jpeg", "webp": "webp"}),
            "quality_range": Span(10, 100, whole=True),
        }
    ),
    "Downscale": TransformRule({"scale_range": Span(0.25, 0.95)}, refused=_refuse_shifts),
    # Colour
    "ColorJitter": TransformRule(
        {
            "brightness": Span(0.4, 1.6),
            "contrast": Span(0.4, 1.6),
            "saturation": Span(0, 3),
            "hue": Span(-0.5, 0.5, "symmetric"),
        },
        needs_colour=True,
    ),
    "HueSaturationValue": TransformRule(
        {
            "hue_shift_limit": Span(-90, 90, "symmetric"),
            "sat_shift_limit": Span(-100, 100, "symmetric"),
            "val_shift_limit": Span(-100, 100, "symmetric"),
        },
        needs_colour=True,
    ),
    "ISONoise": TransformRule(
        {"color_shift": Span(0, 0.5), "intensity": Span(0, 1)}, needs_colour=True
    ),
}


def _each(names: str, expected: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), expected)


# Name -> what is expected instead, for the transforms of albumentations that are not allowed.
REFUSED: dict[str, str] = {
    **_each(
        "CopyPaste CutMix FDA HistogramMatching MixUp Mosaic OverlayElements "
        "PixelDistributionAdaptation TemplateTransform TextImage",
        "a transform that takes nothing but the image: this one reads files or other images",
    ),
    **_each("Lambda", "a transform from the list: this one runs code"),
    **_each(
        "AtLeastOneBBoxRandomCrop BBoxSafeRandomCrop CenterCrop Crop CropAndPad "
        "CropNonEmptyMaskIfExists LongestMaxSize Pad PadIfNeeded RandomCrop "
        "RandomCropFromBorders RandomCropNearBBox RandomScale RandomSizedBBoxSafeCrop "
        "RandomSizedCrop Resize SmallestMaxSize",
        "a transform that keeps the image size, as RandomResizedCrop does: this one changes it",
    ),
    **_each(
        "FromFloat Normalize ToFloat ToRGB ToTensor3D ToTensorV2",
        "a transform that gives an image again: loaders do this one when they read the data",
    ),
    **_each(
        "GridDropout MaskDropout RandomFog RandomGravel RandomGridShuffle RandomRain RandomShadow "
        "RandomSnow RandomSunFlare Spatter Superpixels XYMasking",
        "a transform that keeps the label true: this one can hide or break up what it names",
    ),
    **_each(
        "CenterCrop3D CoarseDropout3D CubicSymmetry FrequencyMasking Pad3D PadIfNeeded3D "
        "RandomCrop3D TimeMasking TimeReverse",
        "a transform for images: this one is for volumes or sound",
    ),
    **_each(
        "Compose OneOf OneOrOther RandomOrder ReplayCompose SelectiveChannelTransform Sequential "
        "SomeOf",
        "the transforms themselves, listed one by one: this one only holds others",
    ),
    **_each("SafeRotate ShiftScaleRotate", "Affine, which does the same"),
    **_each("SquareSymmetry", "D4, which does the same"),
    **_each("NoOp", "a transform that does something"),
    **_each("ConstrainedCoarseDropout Erasing PixelDropout", "CoarseDropout, which is close"),
    **_each(
        "AdvancedBlur Blur Defocus GlassBlur ZoomBlur",
        "GaussianBlur, MedianBlur or MotionBlur, which are close",
    ),
    **_each(
        "AdditiveNoise MultiplicativeNoise SaltAndPepper ShotNoise",
        "GaussNoise or ISONoise, which are close",
    ),
    **_each("Emboss RingingOvershoot UnsharpMask", "Sharpen, which is close"),
    **_each(
        "GridElasticDeform Morphological PiecewiseAffine ThinPlateSpline",
        "ElasticTransform, GridDistortion or OpticalDistortion, which are close",
    ),
    **_each(
        "AutoContrast Illumination PlasmaBrightnessContrast PlasmaShadow RandomToneCurve Solarize",
        "RandomBrightnessContrast, RandomGamma or CLAHE, which are close",
    ),
    **_each(
        "ChannelDropout ChannelShuffle ChromaticAberration FancyPCA HEStain PlanckianJitter "
        "RGBShift ToGray ToSepia",
        "ColorJitter or HueSaturationValue, which are close",
    ),
}
