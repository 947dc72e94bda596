"""Near-copy search against a million reference features: time an image, agreement with exact.

    python benchmarks/near_copy_search.py [--num 1000000] [--dim 256] [--queries 2048]

The features are drawn: their spectrum falls as that of image features does (variance 1/rank), in
clusters of look-alikes. Half of the queries are disguised references (cosine about 0.9), the other
half are new. Exact is the product with every reference.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

import faiss
import numpy as np
from numpy.typing import NDArray

from datagen.references.copy_index import FeatureIndex

NUM_CLUSTERS = 2_000
BLOCK = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=2_048)
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    spectrum = (1 / np.sqrt(np.arange(1, arguments.dim + 1))).astype(np.float32)
    centres = rng.normal(size=(NUM_CLUSTERS, arguments.dim)).astype(np.float32) * spectrum
    features = np.empty((arguments.num, arguments.dim), np.float32)
    for start in range(0, arguments.num, BLOCK):
        part = features[start : start + BLOCK]
        part[:] = draw(rng, centres, spectrum, len(part))
    half = arguments.queries // 2
    copied = features[rng.choice(arguments.num, half, replace=False)]
    noise = rng.normal(size=copied.shape).astype(np.float32) * spectrum
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    queries = np.concatenate([unit(copied + 0.48 * noise), draw(rng, centres, spectrum, half)])
    threads = faiss.omp_get_max_threads()
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {os.cpu_count()} cores, {threads} threads")
    started = time.perf_counter()
    index = FeatureIndex.build(features)
    print(f"{arguments.num} features of {arguments.dim}: index in {seconds(started):.1f} s")
    index.nearest(queries[:64])
    started, cpu = time.perf_counter(), time.process_time()
    _, rows = index.nearest(queries)
    wall, used = seconds(started), time.process_time() - cpu
    wall_ms, cpu_ms = (1000 * each / len(queries) for each in (wall, used))
    print(f"search: {wall_ms:.2f} ms an image ({cpu_ms:.2f} CPU-ms)")
    started = time.perf_counter()
    exact = exact_nearest(features, queries)
    print(f"exact: {1000 * seconds(started) / len(queries):.2f} ms an image")
    same = rows == exact
    copies, new = same[:half].mean(), same[half:].mean()
    print(f"exact top-1: {same.mean():.2%} (copies {copies:.2%}, new images {new:.2%})")


def seconds(started: float) -> float:
    return time.perf_counter() - started


def unit(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def draw(
    rng: np.random.Generator,
    centres: NDArray[np.float32],
    spectrum: NDArray[np.float32],
    num: int,
) -> NDArray[np.float32]:
    own = rng.standard_normal((num, len(spectrum)), dtype=np.float32) * spectrum
    return unit(centres[rng.integers(len(centres), size=num)] + 0.7 * own)


def exact_nearest(features: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    best = np.full(len(queries), -2, np.float32)
    rows = np.zeros(len(queries), np.int64)
    for start in range(0, len(features), BLOCK):
        likeness = queries @ features[start : start + BLOCK].T
        top = likeness.argmax(1)
        found = likeness[np.arange(len(queries)), top]
        better = found > best
        best[better], rows[better] = found[better], top[better] + start
    return rows


if __name__ == "__main__":
    main()
