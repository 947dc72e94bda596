"""What a killed exporter left behind goes with the next one; what a living one writes stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.formats.staging import staged_folder
from tests.stack import ROOT

LONG_AGO = (1.0, 1.0)
WRITER = """
import sys, time
from pathlib import Path
from datagen.formats.staging import staged_folder
with staged_folder(Path(sys.argv[1])) as partial:
    (partial / "image").touch()
    print(partial, flush=True)
    time.sleep(600)
"""


def start_writer(target: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    partial = Path(process.stdout.readline().strip())
    os.utime(partial, LONG_AGO)
    return process, partial


@pytest.mark.parametrize("is_killed", [True, False])
def test_the_next_one_removes_what_was_abandoned_alone(tmp_path: Path, is_killed: bool) -> None:
    target = tmp_path / "out[1]"
    process, partial = start_writer(target)
    try:
        if is_killed:
            process.send_signal(signal.SIGKILL)
            process.wait()
        with staged_folder(target) as mine:
            (mine / "image").touch()
        assert partial.exists() is not is_killed
        assert list(target.iterdir()) == [target / "image"]
    finally:
        process.kill()
        process.communicate()


def test_folders_of_other_targets_and_of_the_user_stay(tmp_path: Path) -> None:
    names = (".other.partial-0123abcd", ".out.partial-notes", ".out-2.partial-0123abcd")
    for name in names:
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, LONG_AGO)
    with staged_folder(tmp_path / "out"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"out", *names}
