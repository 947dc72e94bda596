"""Formats as attachments: what a recipe asks for beside shards, and what is added later."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from datagen import exports
from datagen.attachments import EXPORT, attachments_of, path_of
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.schema import migrate
from datagen.catalog.tenants import Quota, set_quota, tenant_use
from datagen.cli import main
from datagen.engine import Worker
from datagen.errors import InputError, JobError, LeaseLostError, StoreFullError
from datagen.exports import attach_export
from datagen.failpoints import arm
from datagen.formats import FORMATS
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.store import open_store
from datagen.submission import PREVIEW, Request, submit
from datagen.verify import verify_version
from datagen.versions import open_version
from tests.published import Home, copied_home, flip_byte, open_home, publish
from tests.recipes import noise_recipe

ATTACHED = [name for name in FORMATS if name != "webdataset"]
SCENES = {
    "image_size": [32, 40],
    "classes": [{"name": "star", "count": 6, "caption": "a star"}, {"name": "ring", "count": 5}],
    "generator": {"model": "procedural", "channels": 1},
    "splits": {"ratios": {"train": 0.6, "test": 0.4}},
    "output": {"formats": list(FORMATS), "shard_size": 4},
}
TWO = {"output": {"formats": ["webdataset", "imagefolder", "parquet"], "shard_size": 32}}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with small@1, which has every format; not to be changed."""
    folder = tmp_path_factory.mktemp("scenes") / "home"
    publish(load_settings({}, home=folder), SCENES)
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise") / "home"
    publish(load_settings({}, home=folder))
    return folder


@pytest.fixture
def noise_home(noise: Path, home: Path) -> Iterator[Home]:
    """With small@1, of 100 images of noise, and no export."""
    with copied_home(noise, home) as opened:
        yield opened


def exports_of(home: Home) -> dict[str, AttachmentRow]:
    """By file name."""
    rows = attachments_of(home.catalog, home.version("small"))
    assert all(each.kind == EXPORT for each in rows)
    assert len({each.file_name for each in rows}) == len(rows)
    return {each.file_name: each for each in rows}


def export(
    home: Home,
    layout: str,
    *,
    check_abort: Callable[[], None] = lambda: None,
    max_file_bytes: int | None = None,
) -> list[AttachmentRow]:
    opened = open_version(home.catalog, home.store, home.settings.tenant, "small")
    with nullcontext() if max_file_bytes is None else file_limit(max_file_bytes):
        return attach_export(
            *(home.catalog, home.store, opened.row, opened.reader, layout, home.settings),
            check_abort=check_abort,
        )


def files_below(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def leftovers(home: Home) -> list[Path]:
    return [*home.settings.home.glob(".*"), *home.settings.home.glob("exports/*")]


@pytest.mark.parametrize("layout", ATTACHED)
def test_a_recipes_formats_are_attached_as_what_a_pull_writes(
    scenes: Path, layout: str, tmp_path: Path
) -> None:
    with open_home(scenes) as home:
        found = exports_of(home)
        assert list(found) == [f"{each}.tar" for each in reversed(ATTACHED)]
        row = found[f"{layout}.tar"]
        path = home.folder() / path_of(row)
        assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert row.size_bytes == path.stat().st_size
        assert json.loads(row.summary) == {"format": layout, "num_images": 11}
        with tarfile.open(path) as opened:
            opened.extractall(tmp_path / "unpacked", filter="data")
        reader = open_version(home.catalog, home.store, "local", "small").reader
        list(FORMATS[layout](reader, tmp_path / "pulled"))
        assert files_below(tmp_path / "unpacked") == files_below(tmp_path / "pulled")
        assert len(list((tmp_path / "unpacked").rglob("*.*"))) > 1
        assert leftovers(home) == []


def test_the_version_does_not_know_of_its_exports(noise_home: Home, tmp_path: Path) -> None:
    with_exports = publish(load_settings({}, home=tmp_path / "other"), TWO)
    manifest = noise_home.manifest()
    assert with_exports.digest == manifest.digest
    named = [e.path for e in (*manifest.shards, *manifest.index, *manifest.documents)]
    before = (noise_home.folder() / "manifest.json").read_bytes()
    [row] = export(noise_home, "imagefolder")
    assert (noise_home.folder() / "manifest.json").read_bytes() == before
    assert path_of(row) not in named
    found = verify_version(
        noise_home.catalog, noise_home.store, noise_home.version("small"), tenant="local"
    )
    assert (found.findings, found.num_objects) == ([], 1 + len(named) + 1)


def test_made_again_later_it_is_the_same_and_counts_once(settings: Settings, home: Path) -> None:
    publish(settings, TWO)
    with open_home(home) as opened:
        before = exports_of(opened)
        used = tenant_use(opened.catalog, "local").bytes
        set_quota(opened.catalog, "local", Quota(max_bytes=used))
        [again] = export(opened, "parquet")
        assert again.id == before["parquet.tar"].id
        assert again.sha256 == before["parquet.tar"].sha256
        assert tenant_use(opened.catalog, "local").bytes == used


def test_a_finish_that_died_before_publishing_leaves_one_export_each(
    settings: Settings, home: Path
) -> None:
    arm("finish.before_publishing=error:died*1", settings.home / "fired")
    try:
        publish(settings, TWO)
    finally:
        arm("", None)
    assert len(list((settings.home / "fired").iterdir())) == 1
    with open_home(home) as opened:
        assert sorted(exports_of(opened)) == ["imagefolder.tar", "parquet.tar"]
        assert len(list((opened.folder() / "attachments").iterdir())) == 2


def test_a_preview_has_none(settings: Settings) -> None:
    with closing(Catalog(settings.database_url, settings.tenant)) as catalog:
        migrate(catalog)
        store = open_store(settings.store_url)
        worker = Worker(catalog, store, settings, owner="a")
        request = Request(kind=PREVIEW, expires_in_s=600)
        job = submit(catalog, resolve(noise_recipe(TWO), []), settings, request)
        while worker.step(job.id):
            pass
        done = get_job(catalog, job.id)
        assert done is not None
        assert done.state == "PUBLISHED"
        assert attachments_of(catalog, done) == []


def test_a_version_without_images_has_none(settings: Settings, home: Path) -> None:
    refused = {
        "filters": [{"filter": "blank", "min_contrast": 0.5}],
        "limits": {"max_attempts_per_sample": 1, "on_shortfall": "publish"},
    }
    assert publish(settings, {**SCENES, **refused}).shortfall == {"star": 6, "ring": 5}
    with open_home(home) as opened:
        assert exports_of(opened) == {}


def test_data_that_do_not_fit_a_format_fail_the_job_with_the_reason(settings: Settings) -> None:
    splits = {"ratios": {"hold-out": 0.5, "hold_out": 0.5}}
    with pytest.raises(JobError, match=r"output.formats: imagefolder: splits .*; take the format"):
        publish(settings, {**TWO, "splits": splits})
    assert list(settings.home.rglob("manifest.json")) == []
    assert publish(settings, {"splits": splits}).digest


@contextmanager
def file_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("num_bytes", [3_000, 30_000], ids=["a file", "the tar"])
def test_a_full_disk_may_be_tried_again(noise_home: Home, num_bytes: int) -> None:
    """Of the layout's files the largest has about 20 kB."""
    with pytest.raises(StoreFullError, match="File too large"):
        export(noise_home, "imagefolder", max_file_bytes=num_bytes)
    assert exports_of(noise_home) == {}
    assert leftovers(noise_home) == []
    assert [row.file_name for row in export(noise_home, "imagefolder")] == ["imagefolder.tar"]


@pytest.mark.parametrize("num_calls", [1, 50])
def test_a_lost_lease_ends_it_and_nothing_stays(noise_home: Home, num_calls: int) -> None:
    calls = []

    def check_abort() -> None:
        calls.append(1)
        if len(calls) == num_calls:
            raise LeaseLostError("lost")

    with pytest.raises(LeaseLostError):
        export(noise_home, "imagefolder", check_abort=check_abort)
    assert exports_of(noise_home) == {}
    assert leftovers(noise_home) == []


def test_what_is_too_large_for_one_tar_is_attached_as_several(
    noise_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "MAX_TAR_BYTES", 60_000)
    made = export(noise_home, "imagefolder")
    assert [row.file_name for row in made] == [
        f"imagefolder-{i:05d}-of-{len(made):05d}.tar" for i in range(len(made))
    ]
    assert len(made) > 2
    assert exports_of(noise_home).keys() == {row.file_name for row in made}
    for row in made:
        with tarfile.open(noise_home.folder() / path_of(row)) as opened:
            opened.extractall(tmp_path / "unpacked", filter="data")
    reader = open_version(noise_home.catalog, noise_home.store, "local", "small").reader
    list(FORMATS["imagefolder"](reader, tmp_path / "pulled"))
    assert files_below(tmp_path / "unpacked") == files_below(tmp_path / "pulled")


def test_what_a_killed_one_left_goes_with_the_next(noise_home: Home) -> None:
    abandoned = noise_home.settings.home / ".exports.partial-0123abcd"
    (abandoned / "files").mkdir(parents=True)
    os.utime(abandoned, (1, 1))
    export(noise_home, "parquet")
    assert leftovers(noise_home) == []


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ("webdataset", "the shards of every version are that already"),
        ("parqet", "did you mean"),
        ("coco", "has no objects"),
    ],
)
def test_what_cannot_be_made_is_refused(noise_home: Home, layout: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        export(noise_home, layout)
    assert exports_of(noise_home) == {}


def test_one_changed_byte_of_an_export_is_found(scenes: Path, tmp_path: Path) -> None:
    with copied_home(scenes, tmp_path / "home") as home:
        row = exports_of(home)["coco.tar"]
        flip_byte(home.folder() / path_of(row), row.size_bytes // 2)
        found = verify_version(home.catalog, home.store, home.version("small"), tenant="local")
        [finding] = found.findings
        assert (finding.problem, finding.kind, finding.name) == (
            *("changed", "attachment"),
            path_of(row),
        )
        assert "export again" in finding.detail


def command(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home.settings.home)])


def test_the_command_attaches_and_show_lists_it(noise_home: Home) -> None:
    done = command(noise_home, "export", "small@1", "--format", "parquet", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    [file] = content.pop("files")
    assert content == {"name": "small", "version": 1, "format": "parquet", "num_images": 100}
    assert hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest() == file["sha256"]
    assert (file["kind"], file["file_name"]) == ("export", "parquet.tar")
    shown = json.loads(command(noise_home, "show", "small", "--json").stdout)
    assert [each["object"] for each in shown["attachments"]] == [file["object"]]
    told = command(noise_home, "export", "small", "--format", "parquet")
    assert "small@1: 100 images attached as parquet" in told.stdout
    assert "parquet.tar" in command(noise_home, "show", "small").stdout
    wrong = command(noise_home, "export", "small", "--format", "webdataset")
    assert (wrong.exit_code, "already" in wrong.stderr) == (2, True)
    unknown = command(noise_home, "export", "smal", "--format", "parquet")
    assert (unknown.exit_code, "does not exist" in unknown.stderr) == (3, True)
