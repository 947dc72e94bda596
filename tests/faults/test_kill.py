"""SIGKILL, for real: the rerun goes on where the run was and ends with the same digest."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.units import unit_totals
from datagen.recipe import canonical_json
from tests.recipes import noise_recipe

DATAGEN = str(Path(sys.executable).with_name("datagen"))

RECIPE = {
    "name": "killed",
    "image_size": [32, 32],
    "classes": [{"name": "cat", "count": 6000}, {"name": "dog", "count": 3000}],
    "filters": [{"filter": "blank", "min_contrast": 0.288}, {"filter": "duplicate"}],
    "augmentations": [{"transform": "HorizontalFlip", "p": 0.5}],
    "output": {"shard_size": 256},
}


def start(recipe: Path, home: Path, *, workers: int) -> subprocess.Popen[str]:
    command = [DATAGEN, "run", str(recipe), "--home", str(home)]
    return subprocess.Popen(
        [*command, "--workers", str(workers), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def totals(home: Path) -> dict[str, float]:
    catalog = Catalog(f"sqlite:///{home / 'catalog.sqlite3'}")
    return unit_totals(catalog, 1)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "killed.json"
    path.write_bytes(canonical_json(noise_recipe(RECIPE).recipe.to_json()))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_ten_kills_at_random_moments_change_nothing(
    recipe: Path, tmp_path: Path, workers: int
) -> None:
    undisturbed = finish(start(recipe, tmp_path / "calm", workers=2))
    home = tmp_path / "home"
    draw = random.Random(workers)
    kills = 0
    while kills < 10:
        process = start(recipe, home, workers=workers)
        try:
            process.wait(timeout=draw.uniform(0.5, 3.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the run and all its workers
            kills += 1
        process.communicate()
        if process.returncode == 0:
            break
    result = finish(start(recipe, home, workers=workers))
    assert kills >= 2, "the run was too quick to be killed"
    assert result["digest"] == undisturbed["digest"]
    counted = totals(home)
    # A kill of the whole run ends every worker, each with one unit at hand at most.
    assert counted["claims"] - counted["units"] <= kills * workers


@pytest.mark.slow
def test_a_killed_parent_costs_no_unit(recipe: Path, tmp_path: Path) -> None:
    """Workers that lose their parent end after the unit at hand; a rerun waits for them."""
    home = tmp_path / "home"
    process = start(recipe, home, workers=2)
    database = home / "catalog.sqlite3"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if database.exists() and _generated(home) > 0:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    finish(start(recipe, home, workers=2))
    counted = totals(home)
    assert counted["claims"] == counted["units"]


def _generated(home: Path) -> float:
    try:
        return totals(home)["images_generated"]
    except Exception:  # the database is being made
        return 0
