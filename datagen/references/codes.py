"""Descriptors of images as a few bytes, and how near two of one class usually are.

Called by fit.py (the distance below which few real images lie) and filters/duplicate.py. Codes are
whole numbers, so products of codes are exact and equal on every machine.
"""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError

MAX_DIM = 256  # products of so many bytes stay below 2^24: exact in float32
_LEVELS = 127
_FLAGGED = 0.005  # of real images, this share has another so near (docs/filters.md)
_MAX_IMAGES = 3_000  # of a class: what a data set of that size would show
_BLOCK = 500
Codes = NDArray[np.int8]


def encode(descriptors: NDArray[np.float32]) -> Codes:
    """(N, D) of length 1 => (N, D)."""
    if descriptors.shape[1] > MAX_DIM:
        raise ModelError(f"descriptors of {descriptors.shape[1]}; expected at most {MAX_DIM}")
    return np.rint(np.clip(descriptors, -1, 1) * _LEVELS).astype(np.int8)


def code_text(code: Codes) -> str:
    return base64.b64encode(code.tobytes()).decode()


def read_code(text: str) -> Codes:
    return np.frombuffer(base64.b64decode(text), np.int8)


class CodeIndex:
    """Codes of one class, and whether another is near one of them. Exact: all are compared."""

    def __init__(self, max_distance: float) -> None:
        self._least = 1 - max_distance
        self._codes = np.zeros((0, 0), np.float32)
        self._lengths = np.zeros(0)
        self._num = 0

    def add(self, code: Codes) -> None:
        if self._num == len(self._codes):
            grown = np.zeros((max(64, 2 * self._num), len(code)), np.float32)
            lengths = np.zeros(len(grown))
            if self._num:
                grown[: self._num], lengths[: self._num] = self._codes, self._lengths
            self._codes, self._lengths = grown, lengths
        self._codes[self._num] = code
        self._lengths[self._num] = _length(code)
        self._num += 1

    def has_near(self, code: Codes) -> bool:
        """Whether one lies within the cosine distance."""
        if not self._num:
            return False
        products = self._codes[: self._num] @ code.astype(np.float32)
        limits = self._least * _length(code) * self._lengths[: self._num]
        return bool((products >= limits).any())


def fit_duplicates(
    codes: Codes, class_ids: NDArray[np.int64], *, num_classes: int
) -> tuple[float, float]:
    """Of training images. Returns the distance below which few of a class have another, and the
    share of other images of the classes that it flags."""
    calibration, others = [], []
    for class_id in range(num_classes):
        rows = np.flatnonzero(class_ids == class_id)[: 2 * _MAX_IMAGES]
        calibration.append(_nearest(codes[rows[0::2]]))
        others.append(_nearest(codes[rows[1::2]]))
    usual = np.concatenate(calibration)
    max_distance = round(float(np.quantile(usual, _FLAGGED, method="lower")), 4)
    flagged = float((np.concatenate(others) <= max_distance).mean())
    return max_distance, round(flagged, 4)


def _nearest(codes: Codes) -> NDArray[np.float64]:
    """(N,): cosine distance to the nearest other; 1 if there is none."""
    values = codes.astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    nearest = np.ones(len(values))
    for start in range(0, len(values) if len(values) > 1 else 0, _BLOCK):
        block = values[start : start + _BLOCK] @ values.T
        places = np.arange(len(block))
        block[places, places + start] = -1
        nearest[start : start + _BLOCK] = 1 - block.max(axis=1)
    return nearest


def _length(code: Codes) -> float:
    return float(np.linalg.norm(code.astype(np.float64)))
