"""python -m datagen, as a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Sends itself the signal of Ctrl-C at a given import: at the same moment each time.
PROGRAM = """
import os, runpy, signal, sys

class Interrupting:
    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting(sys.argv.pop(1)))
runpy.run_module("datagen", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("module", ["datagen.cli", "click", "datagen.commands.train"])
def test_ctrl_c_while_it_loads_ends_without_a_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module, "--help"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
