"""Several processes that train one model, launched as their users launch them, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.errors import TrainingError
from datagen.training.processes import Processes, launched_processes
from tests.training.tiny_data import write_tiny_data

ROOT = Path(__file__).resolve().parent.parent.parent
TRAIN = """
import json, sys
from pathlib import Path
from datagen.generators.edm.train import EdmObjective
from datagen.training.session import train_model
from datagen.training.processes import launched_processes
from tests.training.tiny_data import tiny_recipe

data, out = map(Path, sys.argv[1:])
seen = []
step = EdmObjective.step
def noted(self, real, class_ids, update):
    losses = step(self, real, class_ids, update)
    weights = float(sum(p.double().sum() for p in self.network.parameters()))
    seen.append([float(real.sum()), len(real), weights])
    return losses
EdmObjective.step = noted
model = train_model(tiny_recipe("edm", data, num_images=32), out=out / "m", work=out / "work")
rank = launched_processes("cpu").rank
(out / f"{rank}.json").write_text(json.dumps({"seen": seen, "digest": model.digest}))
"""


@pytest.mark.slow
def test_two_processes_share_each_batch_and_hold_the_same_weights(tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data")
    script = tmp_path / "train.py"
    script.write_text(TRAIN)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [sys.executable, *launch, str(script), str(data), str(tmp_path)],
        check=True, timeout=240, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one, two = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one["digest"] == two["digest"]
    assert len(one["seen"]) == len(two["seen"]) == 4
    for (pixels, num, weights), (other_pixels, other_num, other_weights) in zip(
        one["seen"], two["seen"], strict=True
    ):
        assert num == other_num == 4
        assert pixels != other_pixels
        assert weights == other_weights


def test_alone_nothing_is_exchanged() -> None:
    alone = launched_processes("cpu")
    assert alone == Processes(1, 0, "cpu")
    assert alone.is_first
    assert alone.agree(True)
    alone.wait()


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(TrainingError, match=r"device cuda:99: this machine has \d+ GPUs"):
        launched_processes("cuda:99")
