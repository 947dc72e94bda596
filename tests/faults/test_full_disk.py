"""A full or read-only disk, for real: the run stops cleanly and goes on when there is room."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.recipe import canonical_json
from tests.faults.test_kill import DATAGEN
from tests.recipes import noise_recipe

RECIPE = {
    "name": "full",
    "image_size": [64, 64],
    "classes": [{"name": "cat", "count": 1500}],
}


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"mount is needed in CI: {done.stderr}")
        pytest.skip(f"cannot mount a file system: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "full.json"
    path.write_bytes(canonical_json(noise_recipe(RECIPE).recipe.to_json()))
    return path


def run(recipe: Path, home: Path, store: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if store is not None:
        environment["DATAGEN_STORE_URL"] = store.as_uri()
    return subprocess.run(
        [DATAGEN, "run", str(recipe), "--home", str(home), "--workers", "2", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )


@pytest.mark.parametrize("where", ["store", "home"])
def test_a_full_disk_stops_the_run_and_room_lets_it_go_on(
    recipe: Path, tmp_path: Path, small_disk: Path, where: str
) -> None:
    """The store alone on the small disk, or the catalog with it."""
    home, store = (tmp_path / "home", small_disk) if where == "store" else (small_disk / "h", None)
    stopped = run(recipe, home, store)
    assert stopped.returncode == 6, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "full" in stopped.stderr or "space" in stopped.stderr
    assert not list(small_disk.rglob("manifest.json"))
    mount("-o", "remount,size=200m", str(small_disk))
    resumed = run(recipe, home, store)
    assert resumed.returncode == 0, resumed.stderr
    undisturbed = run(recipe, tmp_path / "calm")
    assert json.loads(resumed.stdout)["digest"] == json.loads(undisturbed.stdout)["digest"]


def test_a_read_only_store_is_refused_before_anything_is_written(
    recipe: Path, tmp_path: Path, small_disk: Path
) -> None:
    mount("-o", "remount,ro", str(small_disk))
    refused = run(recipe, tmp_path / "home", small_disk)
    assert refused.returncode in (2, 6)
    assert "Traceback" not in refused.stderr
    assert "read-only" in refused.stderr.lower()
    assert not (tmp_path / "home" / "catalog.sqlite3").exists()
