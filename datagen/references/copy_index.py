"""The nearest of up to millions of features. Called by evaluation/privacy (membership, pairs) and
benchmarks/near_copy_search.py.

Principal components in an inverted file make a short list (faiss), the whole features decide (Jegou
et al. 2011, "Searching in one billion vectors: re-rank with source coding"). Few features are
compared one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]  # (N, dim), length 1
EXACT_BELOW = 50_000
SHORT_DIM, SHORT_LIST = 64, 100
TRAINING_ROWS, TRAINING_ROUNDS = 50_000, 6
NUM_LISTS, NUM_VISITED = 1024, 96
BLOCK = 512


@dataclass(frozen=True)
class FeatureIndex:
    """projection: (dim, SHORT_DIM), None where every feature is compared. index: faiss's."""

    features: Features
    projection: Features | None
    index: Any

    @classmethod
    def build(cls, features: Features, *, seed: int = 0) -> FeatureIndex:
        import faiss

        features = np.ascontiguousarray(features, np.float32)
        dim = features.shape[1]
        if len(features) < EXACT_BELOW or dim <= SHORT_DIM:
            flat = faiss.IndexFlatIP(dim)
            flat.add(features)
            return cls(features, None, flat)
        rng = np.random.default_rng(seed)
        some = features[rng.choice(len(features), min(TRAINING_ROWS, len(features)), False)]
        _, vectors = np.linalg.eigh(some.T @ some)
        projection = np.ascontiguousarray(vectors[:, -SHORT_DIM:], np.float32)
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(SHORT_DIM), SHORT_DIM, NUM_LISTS, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter, index.cp.seed, index.nprobe = TRAINING_ROUNDS, seed + 1, NUM_VISITED
        index.train(some @ projection)
        for start in range(0, len(features), TRAINING_ROWS):
            index.add(features[start : start + TRAINING_ROWS] @ projection)
        return cls(features, projection, index)

    def nearest(self, queries: Features) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(Q, dim) of length 1 => (Q,) largest cosine and (Q,) its row."""
        queries = np.ascontiguousarray(queries, np.float32)
        if self.projection is None:
            likeness, rows = self.index.search(queries, 1)
            return likeness[:, 0], rows[:, 0].astype(np.int64)
        found = [
            self._short_list(queries[start : start + BLOCK])
            for start in range(0, len(queries), BLOCK)
        ]
        return (
            np.concatenate([np.zeros(0, np.float32), *(each[0] for each in found)]),
            np.concatenate([np.zeros(0, np.int64), *(each[1] for each in found)]),
        )

    def _short_list(self, queries: Features) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert self.projection is not None
        _, rows = self.index.search(queries @ self.projection, SHORT_LIST)
        likeness = np.einsum("qd,qkd->qk", queries, self.features[rows])
        best = likeness.argmax(1)
        places = np.arange(len(queries))
        return likeness[places, best], rows[places, best].astype(np.int64)
