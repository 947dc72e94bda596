"""Kernel distance between two sets of features. Called by training (which weights are best) and
by evaluation/feature_metrics.py, which adds blocks and an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def kernel_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3 between (N, d) and (M, d) features.

    Source: Binkowski et al. 2018 (KID, arXiv 1801.01401), section 4.
    """
    dim = a.shape[1]
    k_aa, k_bb, k_ab = ((x @ y.T / dim + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    within = (k_aa.sum() - np.trace(k_aa)) / (n * (n - 1)) + (k_bb.sum() - np.trace(k_bb)) / (
        m * (m - 1)
    )
    return float(within - 2 * k_ab.mean())
