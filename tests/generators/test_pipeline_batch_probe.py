"""Which batch shape suits a device: timed with a clock of the test's own, and out of memory for
real, in a child process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from datagen.errors import ModelError
from datagen.generators.pipeline.batch_probe import MAX_BATCH_CPU, probe_batch_size
from tests.generators.pipeline_cases import SPEC, Case, fitted, tiny_folders


@pytest.fixture(scope="module", autouse=True)
def folders() -> Iterator[None]:
    with tiny_folders():
        yield


class Machine:
    """seconds: of one batch, by its size; a size that is not there runs out of memory."""

    def __init__(self, seconds: dict[int, float], error: Exception | None = None) -> None:
        self.seconds, self.now, self.tried = seconds, 0.0, list[int]()
        self.error = error or torch.cuda.OutOfMemoryError("CUDA out of memory")

    def draw(self, batch_size: int) -> None:
        self.tried.append(batch_size)
        if batch_size not in self.seconds:
            raise self.error
        self.now += self.seconds[batch_size]

    def probe(self, *, max_batch: int = 64, max_seconds: float = 1000.0) -> int:
        return probe_batch_size(
            self.draw, max_batch=max_batch, max_seconds=max_seconds, clock=lambda: self.now
        )


def test_the_smallest_shape_near_the_best_is_chosen() -> None:
    machine = Machine({1: 1.0, 2: 1.2, 4: 1.6, 8: 3.1, 16: 6.2})
    assert machine.probe() == 4, "8 gives 3% more images a second"
    assert machine.tried == [1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=repr,
)
def test_out_of_memory_is_an_answer(error: Exception) -> None:
    assert Machine({1: 1.0, 2: 1.0}, error).probe() == 2
    with pytest.raises(ModelError, match="out of memory at one image: set a smaller image_size"):
        Machine({}, error).probe()


def test_other_errors_are_told() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Machine({1: 1.0}, RuntimeError("mat1 and mat2 shapes cannot be multiplied")).probe()


def test_the_probe_ends_in_time() -> None:
    machine = Machine({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0})
    assert machine.probe(max_seconds=10.0) == 1
    assert max(machine.tried) == 2


def test_a_pipeline_is_probed_by_drawing() -> None:
    for case in (Case("sd"), Case("sd", {"task": "inpainting"}), Case("ddim")):
        config, options = fitted(case)
        assert 1 <= SPEC.probe_batch_size(config, options, device="cpu") <= MAX_BATCH_CPU
    config, options = fitted(Case("sd"), batch_size=7)
    assert SPEC.probe_batch_size(config, options, device="cpu") == 7, "as the recipe says"


_PROGRAM = """
import resource, torch
from datagen.generators.pipeline.batch_probe import probe_batch_size
torch.set_num_threads(1)
limit = int(next(l.split()[1] for l in open("/proc/self/status") if l.startswith("VmSize"))) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit + 300 * 2**20,) * 2)
seconds = iter(range(100))
def draw(batch_size):
    torch.ones(batch_size * 40 * 2**20, dtype=torch.uint8)
print(probe_batch_size(draw, max_batch=64, max_seconds=1e9, clock=lambda: next(seconds)))
"""


def test_real_memory_that_runs_out_is_survived() -> None:
    """A shape of 8 takes 320 MB where 300 are left: 4 is the largest."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "4"
