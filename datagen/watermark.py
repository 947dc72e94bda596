"""An invisible watermark in finished images: put in and looked for. Called by stages/pack.py (a
recipe's `output.watermark`), and by `datagen watermark check`.

A key decides a pattern of chips, +1 or -1, one for each middle frequency of each 8 x 8 block of the
image's luma. Every pixel moves a little towards the pattern; whoever has the key finds that the
frequencies lean its way.
Source: Cox et al. 1997, "Secure spread spectrum watermarking for multimedia", sections IV and V,
with chips of one size in place of Gaussian ones; what the image says at a frequency counts by
little more than its sign (Hernandez et al. 2000, "DCT-domain watermarking techniques for still
images": plain correlation drowns in outlines), and chips where it speaks loudly get less of the
change (informed embedding, Malvar and Florencio 2003, "Improved spread spectrum").
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # HWC, 1 or 3 channels

DEFAULT_KEY = "datagen"
MAX_CHANGE = 3  # grey levels, of any pixel
FALSE_POSITIVE_RATE = 1e-4
THRESHOLD = NormalDist().inv_cdf(1 - FALSE_POSITIVE_RATE)  # 3.72

_BLOCK = 8
# u + v of the frequencies with chips: below lie outlines, above what JPEG drops first.
_LOWEST, _HIGHEST = 3, 7
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as JPEG has it
_STRENGTH = 4.0  # grey levels, root mean square of a block's change before MAX_CHANGE cuts it
_LOUD = 10.0  # a frequency of this size gets half of the change of a silent one
_LEVEL = 1.0  # where the detector stops counting how large a frequency is


@dataclass(frozen=True)
class Detection:
    """score: in standard deviations of what images without this key's mark score. present: whether
    it lies above THRESHOLD."""

    score: float

    @property
    def present(self) -> bool:
        return self.score > THRESHOLD


def embed(image: Image, *, key: str = DEFAULT_KEY) -> Image:
    """The image with the key's mark; no pixel moves by more than MAX_CHANGE, all channels alike.

    image: (H, W, C) uint8. A margin of less than a block stays as it is. The same image and key
    give the same pixels.
    """
    rows, columns = (side // _BLOCK for side in image.shape[:2])
    if rows == 0 or columns == 0:
        return image
    seen = _to_frequencies(_luma(image, rows, columns))
    share = _middle() / (1 + (seen / _LOUD) ** 2)
    norm = np.sqrt((share**2).sum(axis=(2, 3), keepdims=True))
    wanted = _STRENGTH * _BLOCK / norm * share * _chips(key, rows, columns)
    change = np.rint(_to_pixels(wanted))
    change = np.clip(change, -MAX_CHANGE, MAX_CHANGE).astype(np.int16)
    marked = image.astype(np.int16)
    marked[: rows * _BLOCK, : columns * _BLOCK] += change[:, :, None]
    return np.clip(marked, 0, 255).astype(np.uint8)


def detect(image: Image, *, key: str = DEFAULT_KEY) -> Detection:
    """image: (H, W, C) uint8, at the size and place at which it was marked."""
    return detect_together([image], key=key)


def detect_together(images: Iterable[Image], *, key: str = DEFAULT_KEY) -> Detection:
    """As detect, of all images as one: of many small ones that bear one mark.

    Under another key chips are coins: the score is then a sum of independent terms of either sign,
    of mean 0 and variance 1, whatever the images show, and however alike they are.
    """
    leanings: dict[tuple[int, int], NDArray[np.float64]] = {}
    for image in images:
        rows, columns = (side // _BLOCK for side in image.shape[:2])
        if rows and columns:
            leaning = _leaning(image, rows, columns)
            leanings[rows, columns] = leanings.get((rows, columns), 0.0) + leaning
    energy = math.sqrt(math.fsum(float((each**2).sum()) for each in leanings.values()))
    if energy == 0:
        return Detection(0.0)
    total = math.fsum(float((each * _chips(key, *at)).sum()) for at, each in leanings.items())
    return Detection(round(total / energy, 4))


def _leaning(image: Image, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns, 8, 8): towards which sign each frequency leans; the sum of squares is 1, or 0
    where there is nothing to be seen."""
    seen = _to_frequencies(_luma(image, rows, columns)) * _middle()
    seen = seen / (_LEVEL + np.abs(seen))
    energy = float(np.sqrt((seen**2).sum()))
    return np.asarray(seen / energy if energy > 1e-9 else 0 * seen, np.float64)


def _luma(image: Image, rows: int, columns: int) -> NDArray[np.float64]:
    """(8 rows, 8 columns) in [0, 255]."""
    pixels = image[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    luma = pixels @ _LUMA if image.shape[2] == 3 else pixels[:, :, 0]
    return np.asarray(luma, np.float64)


@lru_cache(maxsize=16)
def _chips(key: str, rows: int, columns: int) -> NDArray[np.float64]:
    """(rows, columns, 8, 8) of +1 and -1; the same for all images of one size."""
    words = np.frombuffer(
        hashlib.sha256(f"watermark {rows} x {columns} {key}".encode()).digest(), np.uint32
    )
    bits = np.random.Generator(np.random.Philox(np.random.SeedSequence(words.tolist())))
    drawn = bits.integers(0, 2, (rows, columns, _BLOCK, _BLOCK)).astype(np.float64)
    chips: NDArray[np.float64] = np.asarray(2 * drawn - 1, np.float64)
    chips.flags.writeable = False
    return chips


@lru_cache(maxsize=1)
def _middle() -> NDArray[np.float64]:
    """(8, 8): 1 at the frequencies that carry chips."""
    order = np.add.outer(np.arange(_BLOCK), np.arange(_BLOCK))
    return ((order >= _LOWEST) & (order <= _HIGHEST)).astype(np.float64)


@lru_cache(maxsize=1)
def _dct() -> NDArray[np.float64]:
    """(8, 8): the orthonormal DCT-II of a column."""
    place, frequency = np.arange(_BLOCK) + 0.5, np.arange(_BLOCK)
    matrix = np.cos(np.pi / _BLOCK * np.outer(frequency, place)) * np.sqrt(2 / _BLOCK)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float64)


def _to_frequencies(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8 R, 8 C) => (R, C, 8, 8)."""
    rows, columns = pixels.shape[0] // _BLOCK, pixels.shape[1] // _BLOCK
    blocks = pixels.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2)
    return np.asarray(_dct() @ blocks @ _dct().T, np.float64)


def _to_pixels(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R, C, 8, 8) => (8 R, 8 C)."""
    rows, columns = frequencies.shape[:2]
    blocks = _dct().T @ frequencies @ _dct()
    return np.asarray(blocks.swapaxes(1, 2).reshape(rows * _BLOCK, columns * _BLOCK), np.float64)
