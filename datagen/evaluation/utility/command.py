"""The user's own training program as a trainer: folders in, predictions out.

The contract is in docs/utility.md; what breaks it is an InputError that names the command. Called
through training.Trainer.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.evaluation.utility.training import Examples, Probabilities, StoppedError, Task
from datagen.images import encode_png

_POLL_S = 0.1
_LAST_LINES, _LAST_BYTES = 10, 4000
_SUM_TOLERANCE = 1e-2
_MAX_PREDICTION_BYTES = 1 << 30


@dataclass(frozen=True)
class CommandTrainer:
    """command: as typed; without a shell unless `shell`. Raises InputError if it is empty, its
    quotes are unbalanced, or its program is not there."""

    command: str
    class_names: tuple[str, ...]
    time_limit_s: float = 600.0
    shell: bool = False
    runs_policies: bool = False

    def __post_init__(self) -> None:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise InputError(f"trainer {self.command!r}: {error}; close its quotes") from None
        if not words:
            raise InputError("trainer '': it is empty; expected a command to run")
        for name in self.class_names:
            if name in ("", ".", "..", "file") or "/" in name or "\0" in name:
                raise InputError(
                    f"trainer: class {name!r} cannot name a folder and a column; rename it"
                )
        if not self.shell and shutil.which(words[0]) is None:
            raise InputError(
                f"trainer {self.command!r} cannot be started: {words[0]!r} is no program that can "
                "be run; check its path"
            )

    @property
    def name(self) -> str:
        return self.command

    def predict(self, task: Task, test: NDArray[np.uint8], stop: threading.Event) -> Probabilities:
        with tempfile.TemporaryDirectory(prefix="datagen-trainer-") as folder:
            root = Path(folder)
            names = self._write(root, task.examples, test, task.seed)
            self._run(root, task.seed, stop)
            return self._read(root / "predictions.csv", names)

    def _write(
        self, root: Path, examples: Examples, test: NDArray[np.uint8], seed: int
    ) -> tuple[str, ...]:
        for class_id, class_name in enumerate(self.class_names):
            place = root / "train" / class_name
            place.mkdir(parents=True)
            for row in np.flatnonzero(examples.class_ids == class_id):
                (place / f"{row:06d}.png").write_bytes(encode_png(examples.images[row]))
        names = tuple(f"{row:06d}.png" for row in range(len(test)))
        (root / "test").mkdir()
        for name, image in zip(names, test, strict=True):
            (root / "test" / name).write_bytes(encode_png(image))
        content = {"classes": list(self.class_names), "seed": seed, "num_test": len(names)}
        (root / "task.json").write_text(json.dumps(content) + "\n")
        return names

    def _run(self, root: Path, seed: int, stop: threading.Event) -> None:
        """In a process group of its own, so that nothing of it outlives the time limit."""
        words = self.command if self.shell else shlex.split(self.command)
        arguments: str | Sequence[str] = (
            f"{words} {shlex.quote(str(root))}" if isinstance(words, str) else [*words, str(root)]
        )
        with open(root / "stderr", "wb") as errors:
            try:
                process = subprocess.Popen(
                    arguments,
                    shell=self.shell,
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                    env={**os.environ, "DATAGEN_SEED": str(seed)},
                    start_new_session=True,
                )
            except OSError as error:
                raise InputError(
                    f"trainer {self.command!r} cannot be started: {error.strerror}; expected a "
                    "program that can be run: check its path"
                ) from None
        try:
            code = self._wait(process, stop)
        finally:
            _end_group(process)
        if code is None:
            raise self._fault(
                root, f"did not end within {self.time_limit_s:g} s and was stopped: raise the limit"
            )
        if code != 0:
            raise self._fault(root, f"ended with exit code {code}; expected 0")

    def _wait(self, process: subprocess.Popen[bytes], stop: threading.Event) -> int | None:
        """Its exit code; None if its time is up."""
        until = time.monotonic() + self.time_limit_s
        while time.monotonic() < until:
            try:
                return process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if stop.is_set():
                    raise StoppedError from None
        return None

    def _fault(self, root: Path, what: str) -> InputError:
        last = _last_lines(root / "stderr")
        said = f"; its last lines:\n{last}" if last else "; it printed nothing"
        return InputError(f"trainer {self.command!r} {what}{said}")

    def _read(self, path: Path, names: tuple[str, ...]) -> Probabilities:
        """One row a test file in any order; a column for each class by its name."""
        root = path.parent
        if not path.is_file():
            raise self._fault(root, "ended with exit code 0 but wrote no predictions.csv")
        if path.stat().st_size > _MAX_PREDICTION_BYTES:
            raise self._fault(root, f"wrote a predictions.csv above {_MAX_PREDICTION_BYTES} bytes")
        expected = ["file", *self.class_names]
        rows: dict[str, list[float]] = {}
        try:
            with open(path, newline="", encoding="utf-8") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                if sorted(header) != sorted(expected):
                    raise self._fault(
                        root,
                        f"wrote predictions.csv with columns {header[:9]}; expected {expected[:9]}",
                    )
                order = [header.index(name) for name in expected]
                for row in reader:
                    rows[row[order[0]]] = [float(row[i]) for i in order[1:]]
        except (ValueError, IndexError, csv.Error) as error:
            raise self._fault(
                root, f"wrote a predictions.csv that cannot be read: {error}"
            ) from None
        missing = [name for name in names if name not in rows]
        if missing:
            raise self._fault(
                root,
                f"predicted {len(names) - len(missing)} of {len(names)} test files; missing "
                f"{missing[0]!r}",
            )
        probabilities = np.array([rows[name] for name in names], dtype=np.float64)
        sums = probabilities.sum(1)
        # Written so that NaN fails too.
        fits = (probabilities >= 0).all(1) & (np.abs(sums - 1) <= _SUM_TOLERANCE)
        if not fits.all():
            bad = names[int(np.argmin(fits))]
            raise self._fault(
                root,
                f"predicted {bad!r} with {rows[bad][:6]}; expected probabilities that sum to 1",
            )
        shares: Probabilities = (probabilities / sums[:, None]).astype(np.float32)
        return shares


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Also what the program left running behind itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_lines(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LAST_BYTES))
        text = file.read().decode(errors="replace")
    return "\n".join(text.rstrip().splitlines()[-_LAST_LINES:])
