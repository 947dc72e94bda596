"""When an image does not look like its class: a calibrated classifier and a threshold per class.

Pure functions of what the classifier gave to held-out real images. Called by fit.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Wrong labels that a threshold is to find, with room above the 90% that are promised; and the right
# ones that it may cost, with room below the 5%.
_WRONG_SHARE, _RIGHT_SHARE = 0.97, 0.03
# Even where wrong labels get next to nothing: what made images show is farther from either.
_FLOOR = 0.02
_MIN_IMAGES = 20  # of a class, for a quantile of its own
Shares = NDArray[np.float64]


def label_thresholds(probabilities: Shares, class_ids: NDArray[np.int64]) -> list[float]:
    """probabilities: (N, K). By class: as little as rejects wrong labels, never so much that it
    costs right ones. A class of few images takes the threshold of all classes together."""
    num_classes = probabilities.shape[1]
    is_own = np.arange(num_classes) == class_ids[:, None]
    pooled = _threshold(probabilities[is_own], probabilities[~is_own])
    thresholds = []
    for c in range(num_classes):
        right, wrong = probabilities[is_own[:, c], c], probabilities[~is_own[:, c], c]
        enough = min(len(right), len(wrong)) >= _MIN_IMAGES
        thresholds.append(_threshold(right, wrong) if enough else pooled)
    return thresholds


def label_rates(
    probabilities: Shares, class_ids: NDArray[np.int64], thresholds: list[float]
) -> tuple[list[float], list[float]]:
    """By class: shares rejected of wrong labels (images of other classes) and of right ones."""
    rejected = np.round(probabilities, 4) < np.array(thresholds)
    is_own = np.arange(len(thresholds)) == class_ids[:, None]
    columns = range(len(thresholds))
    wrong = [_mean(rejected[~is_own[:, c], c]) for c in columns]
    right = [_mean(rejected[is_own[:, c], c]) for c in columns]
    return wrong, right


def _threshold(right: Shares, wrong: Shares) -> float:
    wanted = max(_FLOOR, float(np.quantile(wrong, _WRONG_SHARE, method="higher")) + 1e-4)
    affordable = float(np.quantile(right, _RIGHT_SHARE, method="lower"))
    return round(min(wanted, affordable), 4)


def _mean(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 4) if len(values) else 0.0
