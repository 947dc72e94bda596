"""Figures of one set of predictions, each with the influence of every test image on it.

A figure's error over test sets is about the mean of its influences, so that intervals need no
resampling and cluster by patient by summing (infinitesimal jackknife: Efron and Tibshirani 1993,
chapter 21). Called by arms.py for every training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]

SPECIFICITY = 0.95
METRICS = ("accuracy", "auroc", "sensitivity", "ece")
_ECE_BINS = 15
_SLOPE_WIDTH = 0.02  # of the false-positive rate, each way, to read the slope of the ROC curve off


@dataclass(frozen=True)
class Figure:
    """value, and influence: (num_test,) float64 of mean 0. per_class: (num_classes,), NaN where the
    test set lacks the class or everything else."""

    value: float
    influence: Array
    per_class: Array | None = None


@dataclass(frozen=True)
class Score:
    """figures: by METRICS. correct: (num_test,) bool."""

    figures: Mapping[str, Figure]
    correct: NDArray[np.bool_]


def score(probabilities: NDArray[np.float32], class_ids: NDArray[np.int64]) -> Score:
    """probabilities: (num_test, num_classes), rows sum to 1. class_ids: (num_test,)."""
    correct = probabilities.argmax(1) == class_ids
    figures = {
        "accuracy": _accuracy(correct, class_ids, probabilities.shape[1]),
        "auroc": _one_vs_rest(probabilities, class_ids, _auroc),
        "sensitivity": _one_vs_rest(probabilities, class_ids, _sensitivity),
        "ece": _calibration_error(probabilities.max(1).astype(np.float64), correct),
    }
    return Score(figures, correct)


def class_influence(correct: NDArray[np.bool_], members: NDArray[np.bool_]) -> Array:
    """Of a class's accuracy (recall) on the whole test set; members: (num_test,)."""
    share = members.mean()
    recall = correct[members].mean()
    return np.asarray(np.where(members, (correct - recall) / share, 0.0), dtype=np.float64)


def _accuracy(correct: NDArray[np.bool_], class_ids: NDArray[np.int64], num: int) -> Figure:
    counts = np.bincount(class_ids, minlength=num)
    hits = np.bincount(class_ids, weights=correct, minlength=num)
    per_class = np.divide(hits, counts, out=np.full(num, np.nan), where=counts > 0)
    value = float(correct.mean())
    return Figure(value, correct.astype(np.float64) - value, per_class)


def _one_vs_rest(
    probabilities: NDArray[np.float32],
    class_ids: NDArray[np.int64],
    binary: Callable[[Array, NDArray[np.bool_]], tuple[float, Array]],
) -> Figure:
    """The mean over classes (macro)."""
    num_test, num_classes = probabilities.shape
    per_class = np.full(num_classes, np.nan)
    influence = np.zeros(num_test)
    for class_id in range(num_classes):
        positive = class_ids == class_id
        if 0 < positive.sum() < num_test:
            per_class[class_id], own = binary(
                probabilities[:, class_id].astype(np.float64), positive
            )
            influence += own
    num = max(1, int(np.isfinite(per_class).sum()))
    return Figure(float(np.nansum(per_class) / num), influence / num, per_class)


def _auroc(scores: Array, positive: NDArray[np.bool_]) -> tuple[float, Array]:
    """Source: DeLong, DeLong and Clarke-Pearson 1988, equations 5 and 6 (placements by ranks)."""
    num, num_positive = len(scores), int(positive.sum())
    ranks = rankdata(scores)
    placements = np.empty(num)
    own = rankdata(scores[positive])
    placements[positive] = (ranks[positive] - own) / (num - num_positive)
    own = rankdata(scores[~positive])
    placements[~positive] = 1 - (ranks[~positive] - own) / num_positive
    value = float(placements[positive].mean())
    share = np.where(positive, num_positive, num - num_positive) / num
    return value, (placements - value) / share


def _sensitivity(scores: Array, positive: NDArray[np.bool_]) -> tuple[float, Array]:
    """At SPECIFICITY. The threshold is a quantile of the negatives: their influence is the slope of
    the ROC curve there (Pepe 2003, section 5.2.3)."""
    negatives = scores[~positive]
    levels = np.clip(SPECIFICITY + _SLOPE_WIDTH * np.array([0, -1, 1]), 0, 1)
    threshold, looser, stricter = np.quantile(negatives, levels)
    above = scores > threshold
    value = float(above[positive].mean())
    rise = (scores[positive] > looser).mean() - (scores[positive] > stricter).mean()
    slope = rise / (2 * _SLOPE_WIDTH)
    share = positive.mean()
    false_positive_rate = above[~positive].mean()
    of_negatives = -slope * (above - false_positive_rate) / (1 - share)
    return value, np.where(positive, (above - value) / share, of_negatives)


def _calibration_error(confidence: Array, correct: NDArray[np.bool_]) -> Figure:
    """Source: Guo et al. 2017 (arXiv 1706.04599), equation 5; 15 equal bins."""
    bins = np.minimum((confidence * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    excess = confidence - correct
    signs = np.sign(np.bincount(bins, weights=excess, minlength=_ECE_BINS))
    signed = signs[bins] * excess
    value = float(signed.mean())
    return Figure(value, signed - value)
