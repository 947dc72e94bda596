"""The contract of --trainer, kept and broken by a real program."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from datagen.errors import InputError
from datagen.evaluation.utility import CommandTrainer, measure_utility
from datagen.evaluation.utility.training import StoppedError, Task
from tests.evaluation.utility.toys import EFFORT, NAMES, toy_examples, toy_set

# A trainer that reads its folders: nearest mean over the bytes' histogram of the PNG pixels.
GOOD = """
import csv, json, os, pathlib, sys
import cv2, numpy as np
root = pathlib.Path(sys.argv[1])
task = json.loads((root / "task.json").read_text())
assert int(os.environ["DATAGEN_SEED"]) == task["seed"]
def read(path): return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(float).reshape(-1)
def features(paths): return np.stack([np.sort(read(p))[-30:] for p in sorted(paths)])
means = np.stack([features((root / "train" / c).glob("*.png")).mean(0) for c in task["classes"]])
files = sorted((root / "test").glob("*.png"))
assert len(files) == task["num_test"]
far = ((features(files)[:, None] - means[None]) ** 2).mean(2)
scores = np.exp(-(far - far.min(1, keepdims=True)) / 500)
scores /= scores.sum(1, keepdims=True)
with open(root / "predictions.csv", "w", newline="") as out:
    writer = csv.writer(out)
    writer.writerow(["file", *task["classes"]])
    writer.writerows([[f.name, *map(float, row)] for f, row in zip(files, scores)])
"""
# Writes predictions.csv of what `rows` says, without a look at an image.
WRITES = """
import pathlib, sys
root = pathlib.Path(sys.argv[1])
names = sorted(p.name for p in (root / "test").iterdir())
(root / "predictions.csv").write_text({content})
"""
HEADER = "'file,bar,cross,dot\\n'"


def program(folder: Path, source: str) -> str:
    path = folder / "trainer.py"
    path.write_text(source)
    return f"{sys.executable} {path}"


def predict(command: str, *, time_limit_s: float = 20) -> np.ndarray:
    trainer = CommandTrainer(command, NAMES, time_limit_s=time_limit_s)
    return trainer.predict(
        Task(toy_examples(9, seed=0), 5, 1), toy_examples(4, seed=1).images, threading.Event()
    )


def test_a_program_of_ones_own_is_trained_and_predicts(tmp_path: Path) -> None:
    predicted = predict(program(tmp_path, GOOD))
    assert predicted.shape == (4, 3)
    assert np.allclose(predicted.sum(1), 1, atol=1e-6)


def test_columns_and_rows_may_come_in_any_order(tmp_path: Path) -> None:
    content = "'dot,file,bar,cross\\n' + ''.join(f'0.7,{n},0.2,0.1\\n' for n in reversed(names))"
    predicted = predict(program(tmp_path, WRITES.format(content=content)))
    assert np.allclose(predicted, [[0.2, 0.1, 0.7]] * 4)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys; print('no GPU here', file=sys.stderr); sys.exit(3)", "exit code 3"),
        ("import sys; print('no GPU here', file=sys.stderr); sys.exit(3)", "no GPU here"),
        ("pass", "wrote no predictions.csv"),
        (WRITES.format(content="'file,bar\\n'"), "columns"),
        (WRITES.format(content=f"{HEADER} + names[0] + ',1,0,0\\n'"), "predicted 1 of 4"),
        (WRITES.format(content=f"{HEADER} + names[0] + ',high,0,0\\n'"), "cannot be read"),
        (
            WRITES.format(content=f"{HEADER} + ''.join(n + ',1,1,1\\n' for n in names)"),
            "probabilities that sum to 1",
        ),
        (
            WRITES.format(content=f"{HEADER} + ''.join(n + ',nan,0,1\\n' for n in names)"),
            "probabilities that sum to 1",
        ),
    ],
)
def test_a_broken_contract_is_named(tmp_path: Path, source: str, says: str) -> None:
    command = program(tmp_path, source)
    with pytest.raises(InputError) as raised:
        predict(command)
    assert says in str(raised.value)
    assert command in str(raised.value)


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "child"
    source = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\n"
        "print('waiting for a licence', flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(InputError, match=r"did not end within 2 s[\s\S]*waiting for a licence"):
        predict(program(tmp_path, source), time_limit_s=2)
    stat = Path(f"/proc/{note.read_text()}/stat")
    for _ in range(100):  # whoever adopts it takes a moment to collect it
        if not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child of the trainer still runs")


def test_a_stopped_evaluation_stops_the_program(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    trainer = CommandTrainer(program(tmp_path, "import time; time.sleep(600)"), NAMES)
    with pytest.raises(StoppedError):
        trainer.predict(Task(toy_examples(3, seed=0), 0, 1), toy_examples(2, seed=1).images, stop)


@pytest.mark.parametrize("command", ["", "   ", "train 'unfinished"])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    with pytest.raises(InputError, match="trainer"):
        CommandTrainer(command, NAMES)


@pytest.mark.parametrize("name", ["..", "a/b", "file"])
def test_a_class_that_can_name_no_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="rename it"):
        CommandTrainer("train", ("dog", name))


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="cannot be started"):
        predict("/no/such/trainer --fast")


def test_words_for_a_shell_are_arguments_unless_a_shell_is_asked_for(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(InputError):
        predict(f"{sys.executable} -c 'pass' ; touch {marker}")
    assert not marker.exists()


@pytest.mark.slow
def test_an_evaluation_with_a_program_of_ones_own(tmp_path: Path) -> None:
    source = GOOD.replace(
        "import cv2, numpy as np", "import cv2, numpy as np; cv2.setNumThreads(1)"
    )
    trainer = CommandTrainer(program(tmp_path, source), NAMES)
    found = measure_utility(
        toy_set(90, seed=2, prefix="s"),
        toy_set(90, seed=0, prefix="t"),
        toy_set(60, seed=1, prefix="h"),
        trainer=trainer,
        effort=EFFORT,
        workers=2,
    )
    assert found.trainer == trainer.command
    assert found.verdict is not None
    assert [arm.name for arm in found.arms][:2] == ["synthetic only", "real only"]
