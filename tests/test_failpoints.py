from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datagen.errors import CatalogUnavailableError, InputError
from datagen.failpoints import arm, failpoint


@pytest.fixture(autouse=True)
def _disarmed() -> object:
    yield
    arm("", None)


def test_an_unarmed_failpoint_does_nothing(tmp_path: Path) -> None:
    arm("generate.batch=error:no", tmp_path)
    failpoint("pack.before_put")
    assert list(tmp_path.iterdir()) == []


def test_a_rule_fires_as_often_as_it_says_and_leaves_a_file_each_time(tmp_path: Path) -> None:
    arm("a.b=error:bang*2; c.d=memory; e.f=unavailable*1", tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="bang"):
            failpoint("a.b")
    failpoint("a.b")
    with pytest.raises(MemoryError):
        failpoint("c.d")
    with pytest.raises(CatalogUnavailableError):
        failpoint("e.f")
    assert {path.name for path in tmp_path.iterdir()} == {"a.b.0", "a.b.1", "c.d.0", "e.f.0"}


def test_a_signal_ends_the_process_after_the_file_was_left(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from datagen.failpoints import arm, failpoint\n"
        f"arm('x.y=kill*1', Path({str(tmp_path)!r})); failpoint('x.y')"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    assert (tmp_path / "x.y.0").exists()
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("text", ["a.b", "a.b=explode", "=kill", "a.b=kill*x"])
def test_a_malformed_rule_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="DATAGEN_FAILPOINTS"):
        arm(text, None)
