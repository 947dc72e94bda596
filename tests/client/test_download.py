"""Pulling a published version over HTTP: whole and proven, or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from datagen.client import AsyncClient, Client
from datagen.client.results import Pulled
from datagen.errors import DatagenError, InputError, RevokedError, VerifyError
from datagen.formats import FORMATS, NEEDS
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest
from datagen.settings import load_settings
from datagen.store import open_store
from tests.client.faulty_server import FaultyServer, Turn, answer, cut, faulty_server, problem
from tests.client.test_patience import KEY
from tests.published import publish

API = "/v1/datasets/small/versions"


@dataclass(frozen=True)
class Published:
    """prefix: of the version in the store of the home."""

    home: Path
    prefix: str
    manifest: Manifest

    def bytes_of(self, path: str) -> bytes:
        return (self.home / "objects" / self.prefix / path).read_bytes()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """100 images in five shards."""
    home = tmp_path_factory.mktemp("pull") / "home"
    publish(load_settings({}, home=home))
    prefix = "local/datasets/small/1/"
    manifest = (home / "objects" / prefix / "manifest.json").read_bytes()
    return Published(home, prefix, Manifest.from_bytes(manifest))


@dataclass(frozen=True)
class Served:
    """A server that offers the version as a service does, with presigned addresses /store/..."""

    server: FaultyServer
    published: Published

    @property
    def shards(self) -> list[str]:
        return [entry.path for entry in self.published.manifest.shards]

    def spoil(self, path: str, turn: Turn, *, everywhere: bool = True) -> None:
        self.server.routes[f"/store/{path}"] = turn
        if everywhere:
            self.server.routes[f"{API}/1/objects/{path}"] = turn

    def restore(self, path: str) -> None:
        self.spoil(path, answer(self.published.bytes_of(path)))

    def offer_manifest(self, data: bytes, *, sha256: str | None = None) -> None:
        version = {
            **{"name": "small", "version": 1, "digest": self.published.manifest.digest},
            **{"num_samples": 100, "size_bytes": 1, "seconds": 1, "recipe_digest": "0" * 64},
            "published_at": "2026-01-01T00:00:00Z",
            "manifest_sha256": sha256 or hashlib.sha256(data).hexdigest(),
        }
        self.server.routes |= {f"{API}/{v}": answer(version) for v in ("latest", "1")}
        self.server.routes[f"{API}/1/manifest"] = answer(data)

    def objects_asked_for(self) -> list[str]:
        """Paths within the version, in order, from the store or the service."""
        paths = (path.partition("?")[0] for path in self.server.paths())
        parts = [path.partition("/shards/") for path in paths]
        return [f"shards/{name}" for _, mark, name in parts if mark]


@pytest.fixture
def served(published: Published) -> Iterator[Served]:
    with faulty_server() as server:
        served = Served(server, published)
        served.offer_manifest(published.bytes_of("manifest.json"))
        manifest = published.manifest
        entries = [*manifest.shards, *manifest.index, *manifest.documents]
        files = [
            {"path": e.path, "sha256": e.sha256, "size_bytes": e.size_bytes}
            | {"url": f"{server.url}/store/{e.path}?X-Signature=1"}
            for e in entries
        ]
        server.routes[f"{API}/1/files"] = answer(files)
        server.routes[f"{API}/1/attachments"] = answer([])
        for entry in entries:
            served.restore(entry.path)
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.server.url, KEY, max_retries=0) as client:
        yield client


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("layout", [name for name in FORMATS if name not in NEEDS])
def test_a_pull_writes_what_a_pull_beside_the_store_writes(
    served: Served, client: Client, tmp_path: Path, layout: str
) -> None:
    pulled = client.pull("small", tmp_path / "pulled", layout=layout)
    store = open_store((served.published.home / "objects").as_uri())
    reader = VersionReader(store, served.published.prefix, served.published.manifest)
    for _ in FORMATS[layout](reader, tmp_path / "direct"):
        pass
    assert tree(tmp_path / "pulled") == tree(tmp_path / "direct")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["direct", "pulled"]
    path = str(tmp_path / "pulled")
    assert pulled == Pulled("small", 1, served.published.manifest.digest, layout, 100, path)


def test_a_layout_of_labels_that_there_are_not_is_refused(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="small@1 has no objects with boxes"):
        client.pull("small", tmp_path / "pulled", layout="coco")
    assert not (tmp_path / "pulled").exists()


def test_the_async_client_pulls_the_same(served: Served, client: Client, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    async def pull() -> Pulled:
        async with AsyncClient(served.server.url, KEY) as client:
            return await client.pull(
                "small@1",
                tmp_path / "a",
                on_progress=lambda done, total: told.append((done, total)),
            )

    pulled = anyio.run(pull)
    client.pull("small@1", tmp_path / "b")
    assert pulled.format == "webdataset"
    assert told[-1] == (100, 100)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def attach_report(served: Served, data: bytes, file_name: str = "report.html") -> None:
    sha256 = hashlib.sha256(b"<!doctype html>").hexdigest()
    path = f"attachments/{sha256}/report.html"
    entry = {"kind": "report", "file_name": file_name, "object": path, "sha256": sha256}
    served.server.routes[f"{API}/1/attachments"] = answer([{**entry, "size_bytes": len(data)}])
    served.server.routes[f"{API}/1/objects/{path}"] = answer(data)


def test_what_is_attached_comes_along_proven(
    served: Served, client: Client, tmp_path: Path
) -> None:
    attach_report(served, b"<!doctype html>!")
    with pytest.raises(VerifyError, match=r"attachments/.*: sha256 .*, expected"):
        client.pull("small", tmp_path / "out")
    assert left_in(tmp_path) == []
    attach_report(served, b"<!doctype html>")
    pulled = client.pull("small", tmp_path / "out")
    assert pulled.attached == ("evaluation/report.html",)
    assert (tmp_path / "out" / "evaluation" / "report.html").read_bytes() == b"<!doctype html>"
    attach_report(served, b"<!doctype html>", file_name="../../report.html")
    with pytest.raises(VerifyError, match="expected a plain file name"):
        client.pull("small", tmp_path / "again")
    assert not (tmp_path / "report.html").exists()


def test_a_service_of_before_attachments_is_pulled_from(
    served: Served, client: Client, tmp_path: Path
) -> None:
    served.server.routes[f"{API}/1/attachments"] = problem(404, "not-found", "there is no such")
    assert client.pull("small", tmp_path / "out").attached == ()


def test_the_key_goes_to_the_service_alone(served: Served, client: Client, tmp_path: Path) -> None:
    client.pull("small", tmp_path / "out")
    by_store = {
        r.path.startswith("/store/"): "Authorization" in r.headers for r in served.server.seen
    }
    assert by_store == {True: False, False: True}


def test_an_address_that_expired_or_cannot_be_reached_is_replaced_by_the_service(
    served: Served, client: Client, tmp_path: Path
) -> None:
    served.spoil(served.shards[0], answer(b"<Error/>", status=403), everywhere=False)
    served.spoil(served.shards[1], lambda request: None, everywhere=False)
    client.pull("small", tmp_path / "out")
    assert f"{API}/1/objects/{served.shards[0]}" in served.server.paths()
    assert f"{API}/1/objects/{served.shards[1]}" in served.server.paths()
    assert len(tree(tmp_path / "out")) == len(served.shards) + 1


def bad_objects(data: bytes) -> dict[str, Turn]:
    flipped = data[:700] + bytes([data[700] ^ 1]) + data[701:]
    return {
        "truncated": cut(data[:-100], missing=100),
        "truncated without a word": answer(data[:-100]),
        "empty": answer(b""),
        "flipped": answer(flipped),
        "too long": answer(data + b"x"),
        "refused": answer(b"<Error/>", status=503),
    }


@pytest.mark.parametrize("how", bad_objects(bytes(1024)))
def test_an_object_that_is_not_the_published_one_is_refused_and_not_left_behind(
    served: Served, client: Client, tmp_path: Path, how: str
) -> None:
    bad = served.shards[2]
    served.spoil(bad, bad_objects(served.published.bytes_of(bad))[how])
    with pytest.raises(DatagenError, match=bad.removesuffix(".tar")) as caught:
        client.pull("small", tmp_path / "out")
    assert caught.value.exit_code == (6 if how in ("truncated", "refused") else 5)
    assert not (tmp_path / "out").exists()
    left = left_in(tmp_path)
    assert all(hashlib.sha256(p.read_bytes()).hexdigest() == p.name for p in left)
    assert hashlib.sha256(served.published.bytes_of(bad)).hexdigest() not in {p.name for p in left}


def test_the_next_pull_fetches_only_what_is_missing(
    served: Served, client: Client, tmp_path: Path
) -> None:
    *good, bad = served.shards
    served.spoil(bad, cut(b"x", missing=9))
    with pytest.raises(DatagenError):
        client.pull("small", tmp_path / "out")
    assert set(served.objects_asked_for()) == set(served.shards)
    num_kept = len(left_in(tmp_path))
    assert num_kept == len(good)
    served.restore(bad)
    served.server.seen.clear()
    client.pull("small", tmp_path / "out")
    assert served.objects_asked_for() == [bad]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_kept_object_that_was_damaged_is_fetched_again(
    served: Served, client: Client, tmp_path: Path
) -> None:
    served.spoil(served.shards[-1], cut(b"x", missing=9))
    with pytest.raises(DatagenError):
        client.pull("small", tmp_path / "out")
    left_in(tmp_path)[0].write_bytes(b"damaged")
    served.restore(served.shards[-1])
    served.server.seen.clear()
    client.pull("small", tmp_path / "out")
    assert len(served.objects_asked_for()) == 2
    assert len(tree(tmp_path / "out")) == len(served.shards) + 1


def test_a_manifest_that_is_not_the_published_one_is_refused(
    served: Served, client: Client, tmp_path: Path
) -> None:
    served.offer_manifest(served.published.bytes_of("manifest.json") + b" ", sha256="0" * 64)
    with pytest.raises(VerifyError, match=r"manifest\.json"):
        client.pull("small", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_manifest_cannot_name_files_to_write(
    served: Served, client: Client, tmp_path: Path
) -> None:
    content = json.loads(served.published.bytes_of("manifest.json"))
    content["shards"][0]["sha256"] = "../../evil"
    served.offer_manifest(json.dumps(content).encode())
    with pytest.raises(VerifyError, match="evil"):
        client.pull("small", tmp_path / "in" / "out")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "in" / "evil").exists()


def test_a_folder_that_exists_is_refused_before_anything_is_fetched(
    served: Served, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        client.pull("small", tmp_path / "out")
    assert served.objects_asked_for() == []
    assert left_in(tmp_path) == [tmp_path / "out" / "mine.txt"]


def test_an_unknown_format_is_refused_with_the_nearest(
    served: Served, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="did you mean 'parquet'"):
        client.pull("small", tmp_path / "out", layout="parket")
    assert served.objects_asked_for() == []


def test_a_revoked_version_is_refused(served: Served, client: Client, tmp_path: Path) -> None:
    served.server.routes[f"{API}/1/files"] = problem(410, "revoked", "small@1 was revoked")
    with pytest.raises(RevokedError, match="revoked"):
        client.pull("small", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_asked_for_again_before_they_run_out(
    served: Served, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.pull("small", tmp_path / "soon")
    assert served.server.paths().count(f"{API}/1/files") == 1
    monkeypatch.setattr("datagen.client.download.FRESH_S", -1.0)
    client.pull("small", tmp_path / "late")
    assert served.server.paths().count(f"{API}/1/files") == 1 + len(served.shards)
