"""Which real images a step sees. Called by training/loop.py."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class RowSampler:
    """Draws rows with replacement: of all images alike, or, balanced, of all classes alike."""

    def __init__(self, class_ids: NDArray[np.int64], *, balanced: bool) -> None:
        self._num_rows = len(class_ids)
        self._balanced = balanced
        self._order = np.argsort(class_ids, kind="stable")
        counts = np.bincount(class_ids)
        self._counts = counts[counts > 0]
        self._starts = np.cumsum(self._counts) - self._counts

    def draw(self, num: int, rng: torch.Generator) -> NDArray[np.int64]:
        """(num,)"""
        if not self._balanced:
            return torch.randint(self._num_rows, (num,), generator=rng).numpy()
        classes = torch.randint(len(self._counts), (num,), generator=rng).numpy()
        shares = torch.rand(num, generator=rng, dtype=torch.float64).numpy()
        within = (shares * self._counts[classes]).astype(np.int64)
        rows: NDArray[np.int64] = self._order[self._starts[classes] + within]
        return rows
