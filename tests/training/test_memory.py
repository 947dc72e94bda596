from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datagen.errors import TrainingError
from datagen.training.memory import is_out_of_memory, too_large
from tests.training.tiny_data import write_tiny_data

TRAIN = """
import resource, sys
from pathlib import Path
from datagen.training import loop
from datagen.training.session import train_model
from tests.training.tiny_data import tiny_recipe

whole = loop._one_step
def bounded(run, progress):
    # As much as is used now, and a little: the batch does not fit any more.
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (128 << 20),) * 2)
    return whole(run, progress)
loop._one_step = bounded
data, out = map(Path, sys.argv[1:])
recipe = tiny_recipe("edm", data, num_images=65536, batch_size=32768)
try:
    train_model(recipe, out=out / "m", work=out / "work")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_the_batch_size_that_fits_is_found_by_halves() -> None:
    tried = []

    def try_step(size: int) -> None:
        tried.append(size)
        if size > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    error = too_large(96, 3, try_step)
    assert tried == [48, 24, 12]
    assert "out of memory at step 3 with schedule.batch_size 96: 12 fits" in str(error)


def test_with_several_processes_it_is_the_batch_of_all() -> None:
    error = too_large(96, 1, lambda size: None, num_processes=2)
    assert "schedule.batch_size 96: 48 fits" in str(error)


def test_if_nothing_fits_it_says_so() -> None:
    def try_step(size: int) -> None:
        raise MemoryError

    assert "not even 1 image fits" in str(too_large(4, 1, try_step))


def test_another_error_is_not_taken_for_it() -> None:
    def try_step(size: int) -> None:
        raise ValueError("no")

    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(ValueError, match="no"):
        too_large(4, 1, try_step)


@pytest.mark.slow
def test_a_machine_without_enough_memory_names_a_smaller_batch(tmp_path: Path) -> None:
    """For real: the process may map little more than it has."""
    data = write_tiny_data(tmp_path / "data")
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(data), str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.startswith(TrainingError.__name__), done.stdout + done.stderr
    told = "out of memory at step 1 with schedule.batch_size 32768: "
    assert told in done.stdout
    assert " fits; " in done.stdout, done.stdout + done.stderr
    fits = int(done.stdout.rpartition(": ")[2].split()[0].replace(",", ""))
    assert 0 < fits < 32768
