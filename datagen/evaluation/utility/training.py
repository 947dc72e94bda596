"""What is trained: one task, anything that trains it, and many tasks side by side.

Called by arms.py and worth.py. Threads, not processes: torch computes outside Python's lock, and
threads need no copy of the images and no seconds of imports.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.references.threads import one_thread_each, pool_of

Probabilities = NDArray[np.float32]
Result = TypeVar("Result")

_POLL_S = 0.5


class StoppedError(Exception):
    """Another task failed, or the evaluation was aborted: nobody waits for this one."""


@dataclass(frozen=True)
class Examples:
    """images: (N, H, W, C) uint8. class_ids: (N,) int64."""

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        return Examples(self.images[rows], self.class_ids[rows])

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.class_ids, other.class_ids]),
        )


@dataclass(frozen=True)
class Task:
    """num_steps: of gradient, the same in arms that are compared. policy: of augmentation.
    pretraining: trained on first, for half of the steps. second: mixed in, half of each batch."""

    examples: Examples
    seed: int
    num_steps: int
    policy: str = "none"
    pretraining: Examples | None = None
    second: Examples | None = None


class Trainer(Protocol):
    """Trains a classifier and predicts. runs_policies: False if only `examples` and `seed` of a
    task mean something to it. name: for the report."""

    @property
    def name(self) -> str: ...

    @property
    def runs_policies(self) -> bool: ...

    def predict(self, task: Task, test: NDArray[np.uint8], stop: threading.Event) -> Probabilities:
        """test: (N, H, W, C) uint8; returns (N, num_classes), rows sum to 1. Raises StoppedError
        soon after `stop` is set."""
        ...


def run_all(
    work: Sequence[Callable[[threading.Event], Result]],
    *,
    workers: int,
    what: str,
    on_progress: Callable[[str], None],
    check_abort: Callable[[], None],
) -> list[Result]:
    """The results in order, whatever the number of workers. The first error, or what check_abort
    raises, stops the rest."""
    stop = threading.Event()
    with one_thread_each(), pool_of(max(1, workers)) as pool:
        futures = [pool.submit(each, stop) for each in work]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, _POLL_S, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                if done:
                    on_progress(f"{what}: {len(futures) - len(waiting)} of {len(futures)}")
                check_abort()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
