"""What is attached to a version lies beside its data, and shares its fate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.attachments import (
    EVALUATION,
    REPORT,
    attach,
    attachments_of,
    beside_data,
    need_attachment,
    path_of,
    read_attachment,
)
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import cancel_job, get_job
from datagen.catalog.rows import FAILED, Job
from datagen.catalog.schema import migrate
from datagen.catalog.tenants import Quota, set_quota, tenant_use
from datagen.catalog.units import claim_unit, fail_unit
from datagen.errors import InputError, NotFoundError, QuotaError, RevokedError, VerifyError
from datagen.figures import attach_card
from datagen.resolve import resolve
from datagen.retention import collect
from datagen.revocation import erase_all, revoke
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.submission import Request, submit
from datagen.verify import verify_version
from datagen.versions import open_version
from tests.places import PLACES, place_of
from tests.published import Home, flip_byte, open_home, publish
from tests.recipes import noise_recipe


@pytest.fixture
def home_of(home: Path, settings: Settings) -> Iterator[Home]:
    """With small@1."""
    publish(settings)
    with open_home(home) as opened:
        yield opened


def attach_report(opened: Home, data: bytes = b"<!doctype html>1") -> AttachmentRow:
    return attach(
        opened.catalog,
        opened.store,
        opened.version("small"),
        kind=REPORT,
        file_name="report.html",
        data=data,
        summary={"fid": 12.5},
    )


def test_attachments_change_neither_the_version_nor_its_digest(home_of: Home) -> None:
    row, manifest = home_of.version("small"), home_of.manifest()
    first, second = attach_report(home_of), attach_report(home_of, b"<!doctype html>2")
    assert attach_report(home_of, b"<!doctype html>2").id == second.id
    assert (home_of.version("small"), home_of.manifest()) == (row, manifest)
    assert [each.id for each in attachments_of(home_of.catalog, row)] == [second.id, first.id]
    newest = need_attachment(home_of.catalog, row, kind=REPORT)
    assert read_attachment(home_of.store, newest) == b"<!doctype html>2"
    assert newest.key == f"local/datasets/small/1/{path_of(newest)}"
    found = verify_version(home_of.catalog, home_of.store, row, tenant="local")
    assert found.findings == []
    named = len([*manifest.shards, *manifest.index, *manifest.documents])
    assert found.num_objects == 1 + named + 2


def test_one_changed_byte_or_a_lost_object_is_found(home_of: Home) -> None:
    row, attached = home_of.version("small"), attach_report(home_of)
    file = home_of.folder() / path_of(attached)
    flip_byte(file, 10)
    with pytest.raises(VerifyError, match="changed after it was attached"):
        read_attachment(home_of.store, attached)

    def findings() -> list[tuple[str, str, str]]:
        found = verify_version(home_of.catalog, home_of.store, row, tenant="local")
        return [(each.problem, each.kind, each.name) for each in found.findings]

    assert findings() == [("changed", "attachment", path_of(attached))]
    file.unlink()
    assert findings() == [("missing", "attachment", path_of(attached))]


def test_a_missing_kind_says_how_to_make_it_and_bad_names_are_refused(home_of: Home) -> None:
    row = home_of.version("small")
    with pytest.raises(NotFoundError, match="`datagen evaluate small@1 --reference DATA` makes"):
        need_attachment(home_of.catalog, row, kind=EVALUATION)
    for name in ("../x", "a/b", "", ".hidden", "x" * 128):
        with pytest.raises(InputError, match="expected a plain file name"):
            attach(
                *(home_of.catalog, home_of.store, row),
                kind=REPORT,
                file_name=name,
                data=b"",
                summary={},
            )
    with pytest.raises(InputError, match="bytes of summary, expected at most"):
        attach(
            *(home_of.catalog, home_of.store, row),
            kind=REPORT,
            file_name="r.html",
            data=b"",
            summary={"text": "x" * 2**16},
        )
    assert attachments_of(home_of.catalog, row) == []


def test_the_card_is_attached_again_with_what_was_measured(home_of: Home) -> None:
    opened = open_version(home_of.catalog, home_of.store, "local", "small")
    attach_card(home_of.catalog, home_of.store, opened, {"FID": "12.3, n 100"})
    [card] = beside_data(home_of.catalog, opened.row)
    text = read_attachment(home_of.store, card).decode()
    published = (home_of.folder() / "README.md").read_text()
    assert "| FID | 12.3, n 100 |" in text
    assert "Not evaluated" in published
    assert "Not evaluated" not in text
    # All that is not about figures is as it was published.
    assert [line for line in text.splitlines() if line not in published] == [
        "## Measured",
        "| FID | 12.3, n 100 |",
        "The report beside this card shows intervals, single images and how it was measured.",
    ]
    assert {each.file_name for each in attachments_of(home_of.catalog, opened.row)} == {
        "README.md",
        "croissant.json",
    }


def test_they_count_as_bytes_of_the_tenant(home_of: Home) -> None:
    before = tenant_use(home_of.catalog, "local").bytes
    attach_report(home_of, b"x" * 1000)
    assert tenant_use(home_of.catalog, "local").bytes == before + 1000
    set_quota(home_of.catalog, "local", Quota(max_bytes=before + 1500))
    with pytest.raises(QuotaError):
        attach_report(home_of, b"y" * 1000)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    return place_of(request, settings)


@pytest.fixture
def catalog(place: Settings) -> Iterator[Catalog]:
    opened = Catalog(place.database_url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def store(place: Settings) -> Store:
    return open_store(place.store_url, endpoint_url=place.s3_endpoint_url)


def test_revoking_a_version_takes_its_attachments_along(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    row = open_version(catalog, store, "local", "small").row
    attached = attach(
        catalog, store, row, kind=REPORT, file_name="r.html", data=b"x" * 9, summary={}
    )
    assert store.size(attached.key) == 9
    revoke(catalog, place, "small@1", reason="consent withdrawn", actor="me")
    with pytest.raises(RevokedError):
        attach(catalog, store, row, kind=REPORT, file_name="late.html", data=b"late", summary={})
    erase_all(catalog, store)
    left = [each.key for each in store.list("local/datasets/")]
    assert left == ["local/datasets/small/1/tombstone.json"]
    assert attachments_of(catalog, row) == []
    with pytest.raises(RevokedError, match="consent withdrawn"):
        read_attachment(store, attached)
    assert tenant_use(catalog, "local").bytes == 0


def evaluated(
    place: Settings, catalog: Catalog, store: Store, name: str
) -> tuple[Job, AttachmentRow]:
    """A job that is not published, with what its gates found."""
    resolved = resolve(noise_recipe({"name": name}), [place.models_dir])
    job = submit(catalog, resolved, place, Request())
    return job, attach(
        catalog, store, job, kind=EVALUATION, file_name="e.json", data=b"{}", summary={}
    )


def test_a_failed_job_keeps_what_its_gates_found_and_a_cancelled_one_nothing(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    job, attached = evaluated(place, catalog, store, "small")
    unit = claim_unit(catalog, job_id=job.id, owner="me", lease_s=60, max_tries=3)
    assert unit is not None
    fail_unit(catalog, unit, error="gate fid: 40, required <= 30")
    failed = get_job(catalog, job.id)
    assert failed is not None
    assert failed.state == FAILED
    store.put_new("local/datasets/small/1/shards/0.tar", b"left")
    collect(catalog, store, grace_s=-1)
    assert [each.key for each in store.list("local/datasets/")] == [attached.key]
    assert attachments_of(catalog, failed) == [attached]
    cancelled, _ = evaluated(place, catalog, store, "other")
    cancel_job(catalog, cancelled.id)
    collect(catalog, store, grace_s=-1)
    assert attachments_of(catalog, cancelled) == []
    assert [each.key for each in store.list("local/datasets/")] == [attached.key]
