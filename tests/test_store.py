"""What only a directory can show: full and read-only disks, what a killed writer leaves."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import datagen
from datagen.errors import (
    ObjectMissingError,
    RetryableError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from datagen.store import DirectoryStore, open_store
from datagen.store.directory import LEFTOVER_AGE_S, TEMPORARY_FOLDER

REPOSITORY = Path(datagen.__file__).parents[1]
KILOBYTE = b"x" * 1024


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        reason = "only root may mount; RLIMIT_FSIZE stands in, in its own test"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    yield folder
    subprocess.run(["umount", folder], check=True)


def leftovers(root: Path) -> list[Path]:
    return list((root / TEMPORARY_FOLDER).iterdir())


def keys(store: DirectoryStore) -> list[str]:
    return [found.key for found in store.list("")]


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def test_nothing_is_made_before_the_first_object(root: Path) -> None:
    store = open_store(root.as_uri())

    assert keys(DirectoryStore(root)) == []
    assert store.size("a") is None
    store.delete("a")
    with pytest.raises(ObjectMissingError):
        store.get("a")
    assert not root.exists()


def test_an_address_may_hold_any_character(tmp_path: Path) -> None:
    root = tmp_path / "ü %20 #?&"

    open_store(root.as_uri()).put_new("a b", b"x")

    assert (root / "a b").read_bytes() == b"x"


def test_an_object_is_a_plain_file_of_its_key(root: Path, store: DirectoryStore) -> None:
    store.put_new("local/shards/0.tar", b"data")

    path = root / "local" / "shards" / "0.tar"
    assert path.read_bytes() == b"data"
    assert path.stat().st_nlink == 1
    assert leftovers(root) == []


def test_a_removed_folder_is_made_again(root: Path, store: DirectoryStore) -> None:
    store.put_new("a/b", b"1")
    shutil.rmtree(root)

    assert store.put_new("a/b", b"2") is True
    assert store.get("a/b") == b"2"


def test_a_full_disk_keeps_nothing_of_the_object_and_goes_on_with_room(small_disk: Path) -> None:
    root = small_disk / "objects"
    store = DirectoryStore(root)
    store.put_new("kept", KILOBYTE * 300)

    with pytest.raises(StoreFullError, match=r"make room in .*objects") as caught:
        store.put_new("too/large", KILOBYTE * 900)

    assert isinstance(caught.value, RetryableError)
    assert keys(store) == ["kept"]
    assert leftovers(root) == []
    assert store.size("too/large") is None
    remount(small_disk, "size=4m")
    assert store.put_new("too/large", KILOBYTE * 900) is True
    assert store.get("too/large") == KILOBYTE * 900


def test_check_says_that_the_disk_is_full(small_disk: Path) -> None:
    store = DirectoryStore(small_disk)
    store.check()
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while file.write(KILOBYTE):
            pass

    with pytest.raises(StoreFullError, match="No space left"):
        store.check()


def test_a_write_cut_by_a_limit_keeps_nothing(root: Path, store: DirectoryStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFullError, match="File too large"):
            store.put_new("a", KILOBYTE * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert keys(store) == []
    assert leftovers(root) == []
    assert store.put_new("a", KILOBYTE * 200) is True


def test_a_read_only_disk_can_be_read_but_not_written(small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "objects")
    store.put_new("a", b"x")
    remount(small_disk, "ro")

    for attempt in (
        store.check,
        lambda: store.put_new("b", b"x"),
        lambda: store.put_new("c/d", b"x"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(StoreError, match=r"Read-only.*allow writing.*DATAGEN_STORE_URL") as e:
            attempt()
        assert not isinstance(e.value, RetryableError)
    assert store.get("a") == b"x"
    assert store.put_new("a", b"x") is False
    assert keys(store) == ["a"]


@pytest.fixture
def forbidden_folder() -> Iterator[Path]:
    """A folder that this process may read and not write, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="datagen-store-", dir="/tmp"))
    (folder / "a").write_bytes(b"x")
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(pwd.getpwnam("nobody").pw_uid)
    yield folder
    if os.getuid() == 0:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_without_permission_is_refused(forbidden_folder: Path) -> None:
    store = DirectoryStore(forbidden_folder)

    for attempt in (store.check, lambda: store.put_new("b", b"x"), lambda: store.delete("a")):
        with pytest.raises(StoreError, match=r"Permission denied.*allow writing") as caught:
            attempt()
        assert not isinstance(caught.value, RetryableError)
    assert store.get("a") == b"x"


def test_a_file_in_place_of_the_root_is_refused(root: Path, store: DirectoryStore) -> None:
    root.write_bytes(b"not a folder")

    for attempt in (store.check, lambda: store.put_new("a", b"x")):
        with pytest.raises(StoreError, match="a file lies where a folder is needed"):
            attempt()
    assert store.size("a") is None
    assert keys(store) == []
    assert root.read_bytes() == b"not a folder"


def test_a_key_below_or_above_another_is_refused(store: DirectoryStore) -> None:
    store.put_new("a/b", b"x")

    for key in ("a/b/c", "a"):
        with pytest.raises(StoreError, match="a file lies where a folder is needed"):
            store.put_new(key, b"y")
    assert keys(store) == ["a/b"]
    assert store.get("a/b") == b"x"


def test_links_and_foreign_files_are_not_listed(
    root: Path, store: DirectoryStore, tmp_path: Path
) -> None:
    store.put_new("a/b", b"x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "a" / "link").symlink_to(tmp_path / "outside" / "secret")
    (root / "a" / ".hidden").write_bytes(b"x")
    (root / "a" / "new\nline").write_bytes(b"x")
    os.mkfifo(root / "a" / "pipe")

    assert keys(store) == ["a/b"]


PUT_FOREVER = """
import sys
from pathlib import Path
from datagen.store import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
data = b"0123456789abcdef" * (1 << 22)  # 64 MiB
number = 0
while True:
    store.put_new(f"killed/{number}", data)
    store.delete(f"killed/{number}")
    number += 1
"""


def kill_in_mid_put(root: Path) -> None:
    """kill -9 while a temporary file is being written, until one is left behind."""
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", PUT_FOREVER, str(root)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        while not (root / TEMPORARY_FOLDER).is_dir() or not leftovers(root):
            assert child.poll() is None
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        if leftovers(root):
            return
    raise AssertionError("no kill hit a put")


def test_what_a_killed_writer_leaves_is_never_seen(root: Path, store: DirectoryStore) -> None:
    kill_in_mid_put(root)

    found = keys(store)
    assert found in ([], ["killed/0"])
    if found:
        assert store.size("killed/0") == 1 << 26
    assert store.put_new("killed/again", b"x") is True
    assert keys(store) == [*found, "killed/again"]


def test_check_removes_old_leftovers_alone(root: Path, store: DirectoryStore) -> None:
    kill_in_mid_put(root)
    (left,) = leftovers(root)
    store.check()
    assert leftovers(root) == [left]

    old_s = left.stat().st_mtime - LEFTOVER_AGE_S - 60
    os.utime(left, (old_s, old_s))
    store.check()

    assert leftovers(root) == []


def test_a_fault_of_the_disk_may_be_tried_again(root: Path, store: DirectoryStore) -> None:
    store.put_new("a", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(StoreUnavailableError, match="Too many open files"):
            store.get("a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert store.get("a") == b"x"
