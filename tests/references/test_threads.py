from __future__ import annotations

import threading

import pytest
import torch

from datagen.references.threads import in_threads, one_thread_each, pool_of


def test_results_keep_their_order() -> None:
    assert in_threads(lambda item: item * 2, range(50), lambda: None) == list(range(0, 100, 2))


def test_torch_computes_with_one_thread_in_each_whatever_others_set() -> None:
    with one_thread_each():
        assert torch.get_num_threads() == 1
        with pool_of(2) as pool:
            other = threading.Thread(target=torch.set_num_threads, args=(3,))
            other.start()
            other.join()
            assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {1}


def test_an_abort_ends_the_work_and_gives_the_threads_back() -> None:
    before = torch.get_num_threads()

    def abort() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(lambda item: item, range(5), abort)
    assert torch.get_num_threads() == before
