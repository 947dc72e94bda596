"""Many pieces of torch work side by side, with equal results on any number of cores.

Called by copy_detector.py and evaluation/utility/. Threads, not processes: torch computes outside
Python's lock, and threads need no copy of the images and no seconds of imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def pool_of(num_threads: int) -> ThreadPoolExecutor:
    """In whose threads torch computes with one."""
    return ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Sums of many threads differ in their last bits: with one in each, results depend on nothing
    but the seed. For this thread: torch keeps the number for each thread, and one more for those
    that start later, which others may change meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], check_abort: Callable[[], None]
) -> list[Result]:
    """work(item) of each, in their order, in as many threads as torch may use."""
    num = torch.get_num_threads()
    with one_thread_each(), pool_of(num) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            results = []
            for future in futures:
                check_abort()
                results.append(future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
