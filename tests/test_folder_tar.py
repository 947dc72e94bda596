"""Folders as canonical tars: the same bytes for the same content, read back by tarfile."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from datagen import folder_tar
from datagen.folder_tar import move_into_tars

LARGE = 2**20

CONTENT = {
    "train/cat/b.png": b"2",
    "train/cat/a.png": b"1" * 700,
    "train/dog/c.png": b"",
    "README.md": b"x" * 512,
    "Z/deep/scène.txt": b"y",
    f"long/{'n' * 200}/{'m' * 150}.txt": b"z",
}


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT[name])
    (folder / "empty").mkdir()
    return folder


def unpacked(tars: list[Path], folder: Path) -> dict[str, bytes]:
    for tar in tars:
        with tarfile.open(tar) as opened:
            opened.extractall(folder, filter="data")
    assert (folder / "empty").is_dir()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_equal_folders_give_equal_bytes_that_tarfile_reads(tmp_path: Path) -> None:
    first = fill(tmp_path / "a", list(CONTENT))
    second = fill(tmp_path / "b", list(CONTENT)[::-1])
    for path in second.rglob("*"):
        os.utime(path, (1, 2))
        path.chmod(0o700)
    [one] = move_into_tars(first, tmp_path / "one", max_bytes=LARGE)
    [two] = move_into_tars(second, tmp_path / "two", max_bytes=LARGE)
    assert (one.name, one.stat().st_size % 10_240) == ("one.tar", 0)
    assert one.read_bytes() == two.read_bytes()
    assert list(first.iterdir()) == []
    assert unpacked([one], tmp_path / "out") == CONTENT
    with tarfile.open(one) as opened:
        members = opened.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert {m.mode for m in members} == {0o644, 0o755}
    assert [m.name for m in members][:4] == ["README.md", "Z", "Z/deep", "Z/deep/scène.txt"]


def test_names_are_sorted_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [whole] = move_into_tars(
        fill(tmp_path / "a", list(CONTENT)), tmp_path / "whole", max_bytes=LARGE
    )
    monkeypatch.setattr(folder_tar, "_NAMES", 1)
    [pieces] = move_into_tars(
        fill(tmp_path / "b", list(CONTENT)), tmp_path / "pieces", max_bytes=LARGE
    )
    assert whole.read_bytes() == pieces.read_bytes()


def test_what_is_too_large_for_one_tar_becomes_several(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", list(CONTENT))
    tars = move_into_tars(folder, tmp_path / "parts", max_bytes=2_500)
    count = len(tars)
    assert count > 2
    assert [tar.name for tar in tars] == [f"parts-{i:05d}-of-{count:05d}.tar" for i in range(count)]
    for tar in tars:
        with tarfile.open(tar) as opened:
            assert sum(m.isfile() for m in opened.getmembers()) < len(CONTENT)
    assert unpacked(tars, tmp_path / "out") == CONTENT


def test_it_can_be_stopped_between_files(tmp_path: Path) -> None:
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 4:
            raise InterruptedError

    folder = fill(tmp_path / "a", list(CONTENT))
    with pytest.raises(InterruptedError):
        move_into_tars(folder, tmp_path / "out", max_bytes=LARGE, check_abort=stop)
    assert list(folder.iterdir()) != []
