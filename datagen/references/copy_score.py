"""How well a candidate agrees with a query, and from which score on a query counts as a copy.

Called by copy_detector.py, references/fit.py and the benchmarks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.references.copy_registration import Fit

SMOOTH_WEIGHT = 0.3


def agreement(fit: Fit) -> torch.Tensor:
    """(B, K), by which candidates are ranked."""
    return fit.detail + SMOOTH_WEIGHT * fit.smooth


def threshold_at(scores: NDArray[np.float64], fpr: float) -> float:
    """Above it lies a share fpr of images like those that were scored.

    With enough of them the conformal quantile (Vovk et al. 2005, section 2.2); else the tail's
    tenth is continued as an exponential (its mean excess; Pickands 1975 with shape 0).
    """
    ordered = np.sort(scores)
    rank = int(np.ceil((len(ordered) + 1) * (1 - fpr)))
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    tail = ordered[-max(len(ordered) // 10, 2) :]
    share = (len(tail) - 1) / len(ordered)
    return float(tail[0] + (tail[1:] - tail[0]).mean() * np.log(max(share / fpr, 1)))
