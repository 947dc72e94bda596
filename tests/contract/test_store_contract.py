"""Every store through the same cases: a directory, and a bucket of a real S3 server."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import datagen
from datagen.errors import (
    InputError,
    ObjectExistsError,
    ObjectMissingError,
    RetryableError,
    StoreError,
)
from datagen.store import Store, open_store

REPOSITORY = Path(datagen.__file__).parents[1]
NUM_RACERS = 16

BAD_KEYS = [
    "",
    "/",
    "/absolute",
    "folder/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "a/..",
    "./a",
    "a/.hidden",
    ".tmp/a",
    "a\0b",
    "a\nb",
    "a\x7f",
    "\ud800",
    "a" * 256,
    "é" * 128,
    "/".join(["a" * 100] * 11),
]


@dataclass(frozen=True)
class Address:
    url: str
    endpoint_url: str | None

    def open(self) -> Store:
        return open_store(self.url, endpoint_url=self.endpoint_url)

    def child(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Runs code in a new process, where `store` is another store of this address."""
        opening = (
            "import sys\nfrom datagen.store import open_store\n"
            f"store = open_store({self.url!r}, endpoint_url={self.endpoint_url!r})\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", opening + code, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(params=["directory", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    if request.param == "directory":
        return Address((tmp_path / "objects").as_uri(), None)
    return Address(
        str(request.getfixturevalue("s3_url")), str(request.getfixturevalue("s3_endpoint"))
    )


@pytest.fixture
def store(address: Address) -> Store:
    return address.open()


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def put_all(store: Store, names: list[str]) -> None:
    with ThreadPoolExecutor(NUM_RACERS) as pool:
        assert all(pool.map(lambda name: store.put_new(name, name.encode()), names))


@pytest.mark.parametrize("num_bytes", [0, 1, 500_000, 9_000_001])
def test_what_is_put_comes_back(store: Store, num_bytes: int) -> None:
    data = random.Random(num_bytes).randbytes(num_bytes)

    assert store.put_new("local/shards/00000.tar", data) is True

    assert store.get("local/shards/00000.tar") == data
    assert store.size("local/shards/00000.tar") == num_bytes
    with store.open("local/shards/00000.tar") as stream:
        assert stream.read() == data


def test_an_equal_object_is_success(store: Store, address: Address) -> None:
    assert store.put_new("a/b", b"same") is True
    assert store.put_new("a/b", b"same") is False
    assert address.open().put_new("a/b", b"same") is False


@pytest.mark.parametrize("other", [b"", b"othe", b"other", b"other and longer"])
def test_another_object_is_refused_and_the_first_stays(store: Store, other: bytes) -> None:
    store.put_new("a/b", b"first")

    with pytest.raises(ObjectExistsError) as caught:
        store.put_new("a/b", other)

    assert not isinstance(caught.value, RetryableError)
    for part in (store.url("a/b"), "5 bytes", hashlib.sha256(other).hexdigest()[:16]):
        assert part in str(caught.value)
    assert store.get("a/b") == b"first"


def test_one_of_many_threads_creates_an_equal_object(store: Store) -> None:
    for number in range(3):
        with ThreadPoolExecutor(NUM_RACERS) as pool:
            outcomes = Counter(
                pool.map(lambda _, n=number: store.put_new(f"race/{n}", b"x" * 1000), range(16))
            )

        assert outcomes == {True: 1, False: NUM_RACERS - 1}


def test_one_of_many_threads_creates_a_different_object(store: Store) -> None:
    def race(racer: int, key: str) -> int | None:
        try:
            assert store.put_new(key, b"%d" % racer * 500) is True
        except ObjectExistsError:
            return None
        return racer

    for number in range(3):
        key = f"race/{number}"
        with ThreadPoolExecutor(NUM_RACERS) as pool:
            outcomes = list(pool.map(race, range(NUM_RACERS), [key] * NUM_RACERS))

        winners = [racer for racer in outcomes if racer is not None]
        assert len(winners) == 1
        assert store.get(key) == b"%d" % winners[0] * 500


RACE = """
import json
from datagen.errors import ObjectExistsError
won = []
store.size("warm-up")
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    try:
        assert store.put_new(f"race/{number}", sys.argv[1].encode() * 1000)
        won.append(number)
    except ObjectExistsError:
        pass
print(json.dumps(won))
"""


def test_one_of_several_processes_creates_an_object(store: Store, address: Address) -> None:
    racers = {name: address.child(RACE, name) for name in "abcd"}
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {name: json.loads(racer.communicate()[0]) for name, racer in racers.items()}

    assert sorted(number for numbers in won.values() for number in numbers) == list(range(25))
    for name, numbers in won.items():
        assert all(store.get(f"race/{number}") == name.encode() * 1000 for number in numbers)


def test_ranges(store: Store) -> None:
    data = bytes(range(256)) * 100
    store.put_new("a", data)

    for start, length in ((0, 1), (0, 25_600), (100, 512), (25_599, 1), (77, 0), (25_600, 0)):
        assert store.get_range("a", start, length) == data[start : start + length]


@pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (5000, 1)])
def test_a_range_past_the_end_is_an_error(store: Store, start: int, length: int) -> None:
    store.put_new("a", b"0123456789")

    with pytest.raises(StoreError, match=f"ends before byte {start + length}"):
        store.get_range("a", start, length)


def test_a_range_of_an_empty_object(store: Store) -> None:
    store.put_new("a", b"")

    assert store.get_range("a", 0, 0) == b""
    with pytest.raises(StoreError, match="ends before byte 1"):
        store.get_range("a", 0, 1)


def test_a_stream_is_read_in_parts(store: Store) -> None:
    data = random.Random(0).randbytes(3_000_001)
    store.put_new("a", data)

    with store.open("a") as stream:
        assert stream.read(10) == data[:10]
        assert stream.read(2_000_000) == data[10:2_000_010]
        rest = io.BytesIO()
        shutil.copyfileobj(stream, rest, 65_536)
    assert rest.getvalue() == data[2_000_010:]


def test_a_tar_is_read_from_a_stream(store: Store) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 70_000
            tar.addfile(member, io.BytesIO(name.encode() * 70_000))
    store.put_new("shard.tar", packed.getvalue())

    with store.open("shard.tar") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    assert read == {"a": b"a" * 70_000, "b": b"b" * 70_000}


def test_a_stream_may_be_left_early_and_often(store: Store) -> None:
    store.put_new("a", b"x" * 5_000_000)

    for _ in range(40):  # more than the connections that are kept
        with store.open("a") as stream:
            assert stream.read(1) == b"x"
    assert stream.closed
    assert store.get("a") == b"x" * 5_000_000


def test_a_stream_goes_forwards_only(store: Store) -> None:
    store.put_new("a", b"0123456789")

    with store.open("a") as stream:
        assert not stream.seekable()
        with pytest.raises(OSError):
            stream.seek(0)


def test_listing_is_in_byte_order_with_sizes(store: Store) -> None:
    names = ["a", "b-", "b/c", "b/c-d/e", "b/c/d", "b0", "B", "é", "z z/+%20&=?#"]
    names.remove("b/c")  # beside b/c/d only S3 could keep it
    put_all(store, names)

    found = list(store.list(""))

    assert [info.key for info in found] == sorted(names, key=str.encode)
    assert [info.size_bytes for info in found] == [
        len(name.encode()) for name in sorted(names, key=str.encode)
    ]


def test_listing_by_prefix(store: Store) -> None:
    put_all(store, ["run-1/a", "run-1/b/c", "run-10/a", "run-2/a", "run"])

    assert keys(store, "run-1/") == ["run-1/a", "run-1/b/c"]
    assert keys(store, "run-1") == ["run-1/a", "run-1/b/c", "run-10/a"]
    assert keys(store, "run-1/b/c") == ["run-1/b/c"]
    assert keys(store, "run-1/b/cc") == []
    assert keys(store, "run") == ["run", "run-1/a", "run-1/b/c", "run-10/a", "run-2/a"]
    assert keys(store, "none/of/these") == []
    assert keys(store, "run/a") == []


def test_an_unused_store_lists_nothing(store: Store) -> None:
    assert keys(store) == []
    assert keys(store, "local/") == []


def test_listing_goes_over_many_pages(store: Store) -> None:
    names = [f"many/{number:05d}" for number in range(1100)]  # S3 gives 1,000 at a time
    put_all(store, names)

    assert keys(store, "many/") == names


def test_a_store_sees_only_what_lies_below_it(address: Address) -> None:
    below, beside = (
        Address(address.url + end, address.endpoint_url).open() for end in ("/t", "/tt")
    )
    below.put_new("a", b"below")
    beside.put_new("a", b"beside")

    assert keys(below) == ["a"]
    assert below.get("a") == b"below"
    assert keys(address.open()) == ["t/a", "tt/a"]


def test_deletion(store: Store) -> None:
    store.put_new("a/b", b"first")

    store.delete("a/b")

    assert store.size("a/b") is None
    assert keys(store) == []
    with pytest.raises(ObjectMissingError):
        store.get("a/b")
    assert store.put_new("a/b", b"second") is True
    assert store.get("a/b") == b"second"


def test_deleting_what_is_not_there_is_no_error(store: Store) -> None:
    store.put_new("a/b", b"x")

    for key in ("a/c", "none", "a", "a/b/c"):
        store.delete(key)

    assert keys(store) == ["a/b"]


def test_a_missing_object_is_named(store: Store) -> None:
    store.put_new("a/b", b"x")

    for key in ("none", "a", "a/b/c", "a/none"):
        assert store.size(key) is None
        calls: list[Callable[[], object]] = [
            partial(store.get, key),
            partial(store.open, key),
            partial(store.get_range, key, 0, 1),
            partial(store.get_range, key, 0, 0),
        ]
        for call in calls:
            with pytest.raises(ObjectMissingError) as caught:
                call()
            assert store.url(key) in str(caught.value)
            assert not isinstance(caught.value, RetryableError)


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_bad_key_is_refused_by_every_call(store: Store, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put_new(key, b"x"),
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 1),
        lambda: store.open(key),
        lambda: store.size(key),
        lambda: store.delete(key),
        lambda: store.url(key),
    ]
    if key not in ("", "folder/"):
        calls.append(lambda: keys(store, key))
    for call in calls:
        with pytest.raises(StoreError, match=r"object key .* expected a relative path") as caught:
            call()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "key",
    ["a" * 255, "é" * 127, "/".join(["b" * 240] * 4), "ü/ é+ %20&x=1;~'()*!@$,:", "a..b/c..", "-"],
)
def test_an_unusual_key_is_kept_as_it_is(store: Store, key: str) -> None:
    assert store.put_new(key, b"x") is True
    assert store.put_new(key, b"x") is False

    assert keys(store) == [key]
    assert keys(store, key) == [key]
    assert store.get(key) == b"x"


def test_check_passes_and_leaves_nothing(store: Store) -> None:
    store.check()
    store.put_new("a", b"x")
    store.check()

    assert keys(store) == ["a"]


PUT_WHEN_TOLD = """
data = b"0123456789abcdef" * (1 << 21)  # 32 MiB
store.size("warm-up")
print("ready", flush=True)
sys.stdin.readline()
store.put_new("killed/object", data)
print("done", flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.002, 0.02, 0.06, 0.15])
def test_a_put_killed_midway_is_whole_or_absent(
    store: Store, address: Address, delay_s: float
) -> None:
    data = b"0123456789abcdef" * (1 << 21)
    child = address.child(PUT_WHEN_TOLD)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdin.write("go\n")
    child.stdin.flush()
    time.sleep(delay_s)
    child.kill()
    child.communicate()

    assert store.size("killed/object") in (None, len(data))
    assert keys(store) in ([], ["killed/object"])
    assert store.put_new("killed/object", data) in (True, False)
    assert store.get("killed/object") == data


def test_a_store_goes_on_in_a_forked_process(store: Store) -> None:
    for number in range(20):
        store.put_new(f"{number}", b"%d" % number * 10_000)
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                read = [store.get(f"{number}") for number in range(20)]
                status = 0 if read == [b"%d" % n * 10_000 for n in range(20)] else 2
            finally:
                os._exit(status)
        children.append(child)
    mine = [store.get(f"{number}") for number in range(20)]

    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert mine == [b"%d" % number * 10_000 for number in range(20)]


def test_an_object_has_an_address_for_people(store: Store, address: Address) -> None:
    assert store.url("local/a") == f"{address.url}/local/a"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "objects",
        "/absolute/path",
        "file://",
        "file:///",
        "file://host/folder",
        "file:relative",
        "http://127.0.0.1/bucket",
        "s3://",
        "s3:///prefix",
        "s3://UPPER/prefix",
        "s3://bucket/../other",
        "s3://bucket/a//b",
        "s3://bucket/prefix?region=x",
        "s3://key:secret@bucket/prefix",
    ],
)
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="DATAGEN_STORE_URL"):
        open_store(url)


@pytest.mark.parametrize("endpoint_url", ["127.0.0.1:8333", "ftp://host", "http://", "s3"])
def test_a_malformed_endpoint_is_refused(endpoint_url: str) -> None:
    with pytest.raises(InputError, match="DATAGEN_S3_ENDPOINT_URL"):
        open_store("s3://bucket/prefix", endpoint_url=endpoint_url)


def test_a_file_is_put_as_bytes_are(store: Store, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_001)
    path = tmp_path / "weights"
    path.write_bytes(data)

    assert store.put_file("models/a", path) is True
    assert store.put_file("models/a", path) is False
    assert store.put_new("models/a", data) is False

    assert store.get("models/a") == data
    path.write_bytes(data[:-1] + b"x")
    with pytest.raises(ObjectExistsError, match=str(len(data))):
        store.put_file("models/a", path)
    assert store.get("models/a") == data


def test_a_presigned_address_gives_the_object_to_anyone_or_there_is_none(store: Store) -> None:
    store.put_new("a/b c+d.tar", b"some bytes")

    address = store.presign("a/b c+d.tar")

    if address is None:  # a folder has no addresses of its own
        assert store.url("a/b c+d.tar").startswith("file:")
        return
    with urlopen(address) as reply:
        assert reply.read() == b"some bytes"


def test_a_presigned_address_is_of_one_object_for_a_time(store: Store) -> None:
    store.put_new("a", b"x")
    store.put_new("b", b"secret")

    address = store.presign("a", expires_s=1)

    if address is None:
        return
    with pytest.raises(HTTPError) as refused:
        urlopen(address.replace("/a?", "/b?"))
    assert refused.value.code == 403
    refused.value.close()
    assert "X-Amz-Expires=1&" in address
    time.sleep(2.1)
    with pytest.raises(HTTPError) as refused:
        urlopen(address)
    assert refused.value.code == 403
    refused.value.close()


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_not_presigned(store: Store, key: str) -> None:
    with pytest.raises(StoreError):
        store.presign(key)
