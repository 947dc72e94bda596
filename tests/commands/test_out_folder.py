"""--out: whole files or none, and no folder left behind by what failed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from datagen.commands.out_folder import out_folder, write_files
from datagen.errors import InputError, StoreError


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """A write beyond fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_files_that_were_there(tmp_path: Path) -> None:
    write_files(tmp_path, {"report.html": b"old report", "evaluation.json": b"old"})
    with (
        files_of_at_most(100),
        pytest.raises(StoreError, match=r"--out .*: report\.html and evaluation\.json .*make room"),
    ):
        write_files(tmp_path, {"report.html": b"new", "evaluation.json": b"new" * 100})
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert left == {"report.html": b"old report", "evaluation.json": b"old"}


def test_folders_made_for_nothing_are_removed_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for out in (tmp_path / "mine", tmp_path / "new" / "deep"):
        with pytest.raises(ValueError, match="there: True"), out_folder(out):
            raise ValueError(f"there: {out.is_dir()}")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with out_folder(tmp_path / "new" / "deep"):
        pass
    assert (tmp_path / "new" / "deep").is_dir()


def test_a_file_in_the_way_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="name another folder"),
        out_folder(tmp_path / "file" / "a"),
    ):
        raise AssertionError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
