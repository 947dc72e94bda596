"""A tenant's S3 credentials read what datagen made for it, change nothing, and reach nothing of
another tenant: two identities of the real server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from datagen.engine import Worker
from datagen.errors import StoreError
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest
from datagen.resolve import resolve
from datagen.settings import load_settings
from datagen.stack.programs import ServiceMissingError, launch, stop, wait_ready
from datagen.stack.servers import S3, prepare_s3
from datagen.store import Store, open_store
from datagen.submission import Request, submit
from tests.conftest import give_up
from tests.recipes import noise_recipe
from tests.servers import temporary_folder

TENANTS = ("acme", "acme-too")
VERSION = "datasets/small/1/"


@dataclass(frozen=True)
class Place:
    s3: S3
    use: Callable[[str], Store]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    folder = temporary_folder("s3")
    server: S3 | None = None
    process: subprocess.Popen[bytes] | None = None
    try:
        server = prepare_s3(folder, run=folder, bucket="shared", tenants=TENANTS)
        process = launch(server.program)
        running = process
        wait_ready(server.program, lambda: running.poll() is None)
        yield server
    except ServiceMissingError as error:
        give_up(str(error))
    finally:
        if process is not None and server is not None:
            stop(process, server.program.stop)
            server.remove_sockets()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def place(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Both tenants have small@1, made by the service. use(name): the store with that identity's
    keys; each store keeps those it was first used with."""
    patch = pytest.MonkeyPatch()

    def use(name: str) -> Store:
        for variable, value in s3.identity(name).environment.items():
            patch.setenv(variable, value)
        opened = open_store("s3://shared", endpoint_url=s3.endpoint_url)
        assert opened.presign("made-here") is not None  # its client is made with these keys
        return opened

    home = tmp_path_factory.mktemp("home")
    settings = replace(
        load_settings({}, home=home), store_url="s3://shared", s3_endpoint_url=s3.endpoint_url
    )
    store = use("service")
    catalog = Catalog(settings.database_url, tenant=None)
    migrate(catalog)
    worker = Worker(catalog, store, settings, owner="a")
    for tenant in TENANTS:
        recipe = resolve(noise_recipe(), [settings.models_dir])
        job = submit(catalog.of(tenant), recipe, settings.of(tenant), Request())
        while worker.step(job.id):
            pass
    catalog.close()
    yield Place(s3, use)
    patch.undo()


@pytest.fixture
def mine(place: Place) -> Store:
    """With the keys of acme."""
    return place.use("acme")


def test_a_tenant_reads_its_version_with_its_own_keys(mine: Store) -> None:
    manifest = Manifest.from_bytes(mine.get(f"acme/{VERSION}manifest.json"))
    reader = VersionReader(mine, f"acme/{VERSION}", manifest)
    assert len(list(reader.iter_samples())) == 100
    assert f"acme/{VERSION}manifest.json" in [found.key for found in mine.list("acme/")]


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda s: s.put_new("acme/notes", b"mine"), "write"),
        (lambda s: s.delete(f"acme/{VERSION}manifest.json"), "delete"),
    ],
    ids=["new", "deleted"],
)
def test_a_tenants_own_keys_change_nothing(
    place: Place, mine: Store, act: Callable[[Store], object], what: str
) -> None:
    before = list(mine.list("acme/"))
    with pytest.raises(StoreError, match=f"cannot {what} .*403"):
        act(mine)
    assert list(place.use("service").list("acme/")) == before


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda s: s.get(f"acme-too/{VERSION}manifest.json"), "read"),
        (lambda s: s.get_range(f"acme-too/{VERSION}manifest.json", 0, 1), "read"),
        (lambda s: s.size(f"acme-too/{VERSION}manifest.json"), "read"),
        (lambda s: s.open(f"acme-too/{VERSION}manifest.json"), "read"),
        (lambda s: list(s.list("acme-too/")), "list"),
        (lambda s: list(s.list("")), "list"),
        (lambda s: list(s.list("acme")), "list"),
        (lambda s: s.put_new("acme-too/notes", b"mine"), "write"),
        (lambda s: s.put_new("notes", b"mine"), "write"),
        (lambda s: s.delete(f"acme-too/{VERSION}manifest.json"), "delete"),
    ],
    ids=range(10),
)
def test_another_tenants_objects_are_denied(
    place: Place, mine: Store, act: Callable[[Store], object], what: str
) -> None:
    with pytest.raises(StoreError, match=f"cannot {what} .*403"):
        act(mine)
    service = place.use("service")
    theirs = [found.key for found in service.list("acme-too/")]
    assert f"acme-too/{VERSION}manifest.json" in theirs
    assert "acme-too/notes" not in theirs


def test_an_address_that_a_tenant_signs_reaches_no_further(mine: Store) -> None:
    own = mine.presign(f"acme/{VERSION}manifest.json")
    other = mine.presign(f"acme-too/{VERSION}manifest.json")
    assert own is not None
    assert other is not None
    with urlopen(own) as reply:
        assert reply.status == 200
    with pytest.raises(HTTPError) as refused:
        urlopen(other)
    assert refused.value.code == 403
    refused.value.close()
