"""How far an image lies from the real images of its class: in the classifier's features and in its
coarse pixels, whichever is farther.

The first sees what a classifier would mistake, the second what it looks through, such as inverted
pictures. Called by fit.py and, through reference.py, by filters/outlier.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.images import block_means

_MAX_BANK = 5_000  # real images kept as neighbours, over all classes
_MAX_BANK_PER_CLASS = 500
_NEIGHBOUR = 10
_COARSE_SIDE_PX = 14
_NUM_AXES = 24
_MIN_VARIANCE = 1e-4  # of a pixel from 0 to 1: an even border is never certain
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutlierStatistics:
    """bank: (M, D) unit features of real images, bank_classes: (M,). Of the coarse pixels of each
    class: means (K, P), axes (K, P, Q), variances (K, Q) along them, rests (K,) beside them.
    scales: (2,), the limit of either distance among real images."""

    bank: NDArray[np.float32]
    bank_classes: NDArray[np.int32]
    means: NDArray[np.float32]
    axes: NDArray[np.float32]
    variances: NDArray[np.float32]
    rests: NDArray[np.float32]
    scales: NDArray[np.float32]

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As they are stored."""
        halved = ("bank", "axes")
        arrays = {each.name: getattr(self, each.name) for each in fields(self)}
        return {n: a.astype(np.float16) if n in halved else a for n, a in arrays.items()}

    def checked(self, *, num_classes: int) -> OutlierStatistics:
        """Raises ModelError if the shapes do not fit each other."""
        _, num_pixels, num_axes = (*self.axes.shape, 0, 0, 0)[:3]
        found = [getattr(self, each.name).shape for each in fields(self)]
        dim = self.bank.shape[-1]
        expected = [
            (len(self.bank_classes), dim),
            (len(self.bank_classes),),
            (num_classes, num_pixels),
            (num_classes, num_pixels, num_axes),
            (num_classes, num_axes),
            (num_classes,),
            (2,),
        ]
        if found != expected:
            raise ModelError(f"reference: outlier statistics of {found}; fit the reference again")
        if min(each.min(initial=1) for each in (self.variances, self.rests, self.scales)) <= 0:
            raise ModelError("reference: variances or scales that are not above 0; fit it again")
        if set(self.bank_classes.tolist()) != set(range(num_classes)):
            raise ModelError("reference: outlier statistics lack a class; fit the reference again")
        return self

    def distances(
        self,
        images: NDArray[np.uint8],
        features: NDArray[np.float32],
        class_ids: NDArray[np.int64],
    ) -> Floats:
        """images: (N, H, W, C). features: (N, D). Returns (N,): 1 is the limit of real images."""
        found: Floats = (self.both(images, features, class_ids) / self.scales).max(axis=1)
        return found

    def both(
        self,
        images: NDArray[np.uint8],
        features: NDArray[np.float32],
        class_ids: NDArray[np.int64],
    ) -> Floats:
        """(N, 2): of the features and of the coarse pixels, unscaled."""
        found = np.empty((len(images), 2))
        units, pixels = _units(features), _coarse(images)
        for c in np.unique(class_ids):
            rows = np.flatnonzero(class_ids == c)
            found[rows, 0] = self._to_neighbour(units[rows], int(c))
            found[rows, 1] = self._to_axes(pixels[rows], int(c))
        return found

    def _to_neighbour(self, units: Floats, class_id: int) -> Floats:
        """Cosine distance to the k-th nearest real image of the class.

        Source: Sun et al. 2022 (arXiv 2204.06507), section 3.
        """
        bank = self.bank[self.bank_classes == class_id].astype(np.float64)
        similar = np.sort(units @ bank.T, axis=1)
        nearest: Floats = 1 - similar[:, -min(_NEIGHBOUR, len(bank))]
        return nearest

    def _to_axes(self, pixels: Floats, class_id: int) -> Floats:
        """Mahalanobis distance under a Gaussian with few axes, over the root of the dimensions.

        Source: Tipping and Bishop 1999, "Probabilistic principal component analysis", section 3.
        """
        apart = pixels - self.means[class_id]
        along = apart @ self.axes[class_id].astype(np.float64)
        inside = (along**2 / self.variances[class_id]).sum(axis=1)
        beside = np.maximum((apart**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        found: Floats = np.sqrt((inside + beside / self.rests[class_id]) / apart.shape[1])
        return found


def fit_outliers(
    images: NDArray[np.uint8],
    features: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    *,
    num_classes: int,
) -> OutlierStatistics:
    """Of training images, some of every class. Its scales are 1 until calibrated."""
    size = min(_MAX_BANK_PER_CLASS, max(1, _MAX_BANK // num_classes))
    of_class = [np.flatnonzero(class_ids == c) for c in range(num_classes)]
    chosen = np.concatenate([rows[:: -(-len(rows) // size)] for rows in of_class])
    num_pixels = _coarse(images[:1]).shape[1]
    gaussians = [_gaussian(_coarse(images[class_ids == c])) for c in range(num_classes)]
    means, axes, variances, rests = (np.stack(column) for column in zip(*gaussians, strict=True))
    assert means.shape == (num_classes, num_pixels)
    return OutlierStatistics(
        bank=_units(features[chosen]).astype(np.float32),
        bank_classes=class_ids[chosen].astype(np.int32),
        means=means.astype(np.float32),
        axes=axes.astype(np.float32),
        variances=variances.astype(np.float32),
        rests=rests.astype(np.float32),
        scales=np.ones(2, np.float32),
    )


def _gaussian(pixels: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.float64]]:
    """Mean, axes, variances along them, and the mean variance beside them."""
    mean = pixels.mean(axis=0)
    apart = pixels - mean
    covariance = apart.T @ apart / len(apart)
    variances, axes = np.linalg.eigh(covariance)
    num_axes = min(_NUM_AXES, pixels.shape[1] - 1)
    rest = variances[:-num_axes].mean()
    kept = np.maximum(variances[-num_axes:], _MIN_VARIANCE)
    return mean, axes[:, -num_axes:], kept, np.maximum(rest, _MIN_VARIANCE)


def _units(features: NDArray[np.float32]) -> Floats:
    values = features.astype(np.float64)
    units: Floats = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return units


def _coarse(images: NDArray[np.uint8]) -> Floats:
    """(N, H, W, C) => (N, P) in [0, 1]."""
    cells = block_means(images, max_side=_COARSE_SIDE_PX)
    return cells.reshape(len(cells), math.prod(cells.shape[1:])) / 255.0
