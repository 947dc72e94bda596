from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from datagen.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_by_the_next_check_and_nowhere_else(number: signal.Signals) -> None:
    with Interruption() as interruption:
        interruption.check()
        os.kill(os.getpid(), number)
        time.sleep(0.01)  # where a handler that raises would raise
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_the_previous_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_ends_a_process_that_never_checks() -> None:
    program = (
        "import time; from datagen.interruption import Interruption\n"
        "with Interruption():\n    print('ready', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=180)
    assert process.returncode == -signal.SIGINT


def test_a_child_holds_its_stop_signals_back_until_it_can_handle_them() -> None:
    """In a process of its own: here, threads that do not block the signal would get it."""
    program = (
        "import os, signal\n"
        "from datagen.interruption import Interruption, blocked_signals\n"
        "with blocked_signals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    with Interruption() as interruption:\n"
        "        try:\n            interruption.check()\n"
        "        except KeyboardInterrupt:\n            print('seen')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "seen\n", "")
