"""Captions of Fashion-MNIST: its classes, and two attributes measured from the pixels.

Used by benchmarks/text_to_image.py, to train and to judge: an image that was made is measured by
the same rules as the real ones.

shade   dark, medium or light: the mean of the garment's pixels, against the other images of its
        class, a third of them each.
width   narrow or wide: how far the garment's pixels spread across, over how far they spread down,
        against the median of its class. A wide shoe is a flat one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
SHADES = ("dark", "medium", "light")
WIDTHS = ("narrow", "wide")
UNSAID = -1  # of an attribute that a caption leaves out

# One of each class, so that each of its words is seen with the others of its class; and each shade
# and width is held out of some class.
HELD_OUT_NAMES = (
    ("t-shirt", "dark", "narrow"),
    ("trouser", "medium", "wide"),
    ("pullover", "light", "narrow"),
    ("dress", "dark", "narrow"),
    ("coat", "light", "wide"),
    ("sandal", "medium", "narrow"),
    ("shirt", "dark", "wide"),
    ("sneaker", "light", "wide"),
    ("bag", "medium", "narrow"),
    ("ankle-boot", "light", "wide"),
)
HELD_OUT = frozenset(
    (CLASS_NAMES.index(name), SHADES.index(shade), WIDTHS.index(width))
    for name, shade, width in HELD_OUT_NAMES
)

CLASS_WORDS = {
    "t-shirt": ("t-shirt", "tee"),
    "trouser": ("trouser", "pair of trousers"),
    "pullover": ("pullover", "sweater"),
    "dress": ("dress",),
    "coat": ("coat",),
    "sandal": ("sandal",),
    "shirt": ("shirt",),
    "sneaker": ("sneaker",),
    "bag": ("bag", "handbag"),
    "ankle-boot": ("ankle-boot", "ankle boot"),
}
SHADE_WORDS = {"dark": ("dark",), "medium": ("medium", "mid-tone"), "light": ("light", "pale")}
WIDTH_WORDS = {"narrow": ("narrow", "slim"), "wide": ("wide", "broad")}

TEMPLATES = {  # whether it says the shade, the width
    (True, True): (
        "a {shade} {width} {name}",
        "{shade} {width} {name}",
        "a {width} {shade} {name}",
        "a photo of a {shade} {width} {name}",
        "a {name} that is {shade} and {width}",
        "a {width} {name} in a {shade} shade",
        "{name}, {shade}, {width}",
        "a {shade} {name} with a {width} shape",
    ),
    (True, False): ("a {shade} {name}", "a photo of a {shade} {name}", "a {name}, {shade}"),
    (False, True): ("a {width} {name}", "a photo of a {width} {name}", "a {name}, {width}"),
    (False, False): ("a {name}", "{name}", "a photo of a {name}"),
}
# No training sees these: prompts are words, not a list to choose from.
UNSEEN_TEMPLATES = (
    "one {width} {name}, {shade}",
    "the {name} is {width} and {shade}",
    "a picture showing a {shade} and {width} {name}",
)
_FOREGROUND = 25  # grey levels; below it is the black background
_MARGIN = 0.04  # of the images of a class on each side of a threshold: too near to call


def measured(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """images: (N, 28, 28). Returns (N, 2): the mean grey level of the foreground, and its spread
    across over its spread down, standard deviations both; 0 of an empty image."""
    mask = images > _FOREGROUND
    num = np.maximum(mask.sum((1, 2)), 1)
    shade = (images * mask).sum((1, 2)) / num
    across, down = _spread(mask.sum(1)), _spread(mask.sum(2))
    return np.stack([shade, across / np.maximum(down, 1e-6)], axis=1)


def _spread(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Standard deviation of the positions 0, 1, ... with these counts, a row each."""
    weights = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    positions = np.arange(counts.shape[1])
    mean = (weights * positions).sum(1, keepdims=True)
    spread: NDArray[np.float64] = np.sqrt((weights * (positions - mean) ** 2).sum(1))
    return spread


@dataclass(frozen=True)
class Rules:
    """Thresholds of each class, of real training images. shade: (10, 2); width: (10, 1)."""

    shade: NDArray[np.float64]
    width: NDArray[np.float64]

    def attributes(
        self, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """(N, 2): indices into SHADES and WIDTHS, by the thresholds of these classes."""
        values = measured(images)
        shade = (values[:, :1] > self.shade[class_ids]).sum(1)
        width = (values[:, 1:] > self.width[class_ids]).sum(1)
        return np.stack([shade, width], axis=1)


def fit_rules(images: NDArray[np.uint8], class_ids: NDArray[np.int64], shift: float = 0) -> Rules:
    """Thirds and halves of each class. shift: added to the quantiles."""
    values = [measured(images[class_ids == c]) for c in range(len(CLASS_NAMES))]
    return Rules(
        shade=np.array([np.quantile(v[:, 0], [1 / 3 + shift, 2 / 3 + shift]) for v in values]),
        width=np.array([np.quantile(v[:, 1], [1 / 2 + shift]) for v in values]),
    )


@dataclass(frozen=True)
class Captioned:
    """Which real images train, and what their captions may say. kept: (N,) bool, false of the
    combinations held out. said: (N, 2), as Rules.attributes, UNSAID where too near to call."""

    kept: NDArray[np.bool_]
    said: NDArray[np.int64]


def caption_images(images: NDArray[np.uint8], class_ids: NDArray[np.int64]) -> Captioned:
    attributes = fit_rules(images, class_ids).attributes(images, class_ids)
    low = fit_rules(images, class_ids, -_MARGIN).attributes(images, class_ids)
    high = fit_rules(images, class_ids, _MARGIN).attributes(images, class_ids)
    combinations = zip(class_ids.tolist(), *attributes.T.tolist(), strict=True)
    kept = np.array([combination not in HELD_OUT for combination in combinations])
    return Captioned(kept=kept, said=np.where(low == high, attributes, UNSAID))


def texts_of(
    class_id: int, shade: int, width: int, templates: Sequence[str] | None = None
) -> list[str]:
    """Every caption that says just this; of the training's templates where none are given."""
    if templates is None:
        templates = TEMPLATES[shade != UNSAID, width != UNSAID]
    names = CLASS_WORDS[CLASS_NAMES[class_id]]
    shades = ("",) if shade == UNSAID else SHADE_WORDS[SHADES[shade]]
    widths = ("",) if width == UNSAID else WIDTH_WORDS[WIDTHS[width]]
    return [
        template.format(name=name, shade=s, width=w)
        for template, name, s, w in product(templates, names, shades, widths)
    ]
