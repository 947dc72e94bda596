from __future__ import annotations

import gc
import os
import signal

import pytest

from datagen.interruption import Interruption


class Swallower:
    """Its finaliser is interrupted: Python prints the KeyboardInterrupt and forgets it."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_swallows_is_raised_by_the_next_check() -> None:
    with Interruption() as interruption:
        interruption.check()
        swallower = Swallower()
        del swallower
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_the_previous_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
