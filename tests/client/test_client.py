"""The client against the real service."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from datagen.catalog.jobs import list_jobs
from datagen.client import AsyncClient, Client
from datagen.client.results import Event, Job, Progress
from datagen.errors import (
    AuthError,
    ConflictError,
    ForbiddenError,
    InputError,
    JobError,
    ModelError,
    NotFoundError,
    RevokedError,
)
from datagen.faults import InvalidRecipe
from datagen.resources import shipped_models_dir
from tests.api.conftest import Api, recipe


@contextmanager
def working(api: Api, uid: str) -> Iterator[None]:
    """A worker beside the test, until the job has ended."""
    thread = threading.Thread(target=api.work, args=[uid])
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()
            ]
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    ours, theirs = methods(Client), methods(AsyncClient)
    assert ours.keys() == theirs.keys()
    assert {name: [p[:2] for p in found] for name, found in ours.items()} == {
        name: [p[:2] for p in found] for name, found in theirs.items()
    }


# --- recipes --------------------------------------------------------------------------------------


def test_a_recipe_is_validated_with_all_its_faults_and_their_lines(
    client: Client, tmp_path: Path
) -> None:
    found = client.validate(recipe())
    assert found.valid
    assert found.resolved is not None
    assert found.resolved["generator"]["model"] == "noise"
    path = tmp_path / "bad.yaml"
    path.write_text("version: 1\nname: small\nimage_size: [8, 4]\nclasses: []\n")
    faults = client.validate(path).errors
    assert {fault.field for fault in faults} >= {"classes", "generator", "image_size[1]"}
    assert {fault.line for fault in faults if fault.field == "classes"} == {4}


def test_a_plan_says_counts_and_sizes(client: Client) -> None:
    plan = client.plan(recipe())
    assert plan.counts["cat"] == {"train": 48, "val": 9, "test": 3}
    assert (plan.num_images, plan.shards) == (100, 5)
    assert plan.dataset_bytes > 0
    assert plan.cost.currency == "USD"


def test_faults_that_only_the_service_sees_have_field_file_and_line(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "version: 1\nname: small\nimage_size: [8, 8]\nclasses: [{name: a, count: 1}]\n"
        "generator: {model: nois}\n"
    )
    with pytest.raises(InvalidRecipe, match=r"recipe\.yaml:5: generator\.model: 'nois'") as caught:
        client.submit(path)
    assert [p.field for p in caught.value.problems] == ["generator.model"]
    assert list(client.jobs()) == []


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_submitted_once_worked_and_waited_for(api: Api, client: Client) -> None:
    job = client.submit(recipe())
    assert (job.state, job.name, job.version, job.kind) == ("RUNNING", "small", 1, "dataset")
    assert client.submit(recipe()).id == job.id
    told: list[Progress] = []
    with working(api, job.id):
        done = client.wait(job.id, on_progress=told.append)
    assert done.state == "PUBLISHED"
    assert done.counts == {
        "cat": {"train": 48, "val": 9, "test": 3},
        "dog": {"train": 32, "val": 6, "test": 2},
    }
    assert done.digest is not None
    assert done.progress is not None
    assert done.progress.classes["cat"].made == 60
    assert done.cost is not None
    assert done.cost.bytes > 0
    assert told[-1].classes["dog"].made == 40


def test_the_async_client_does_the_same(api: Api) -> None:
    key = api.key()

    async def make() -> tuple[Job, list[Event], list[Job]]:
        async with AsyncClient(api.url, key) as client:
            job = await client.submit(recipe())
            await anyio.to_thread.run_sync(api.work, job.id)
            done = await client.wait(job.id)
            events = [event async for event in client.events(job.id)]
            return done, events, [found async for found in client.jobs(name="small")]

    done, events, listed = anyio.run(make)
    assert done.state == "PUBLISHED"
    assert [job.id for job in listed] == [done.id]
    kinds = [event.type for event in events if event.id is not None]
    assert kinds[0] == "job.created"
    assert kinds[-1] == "job.published"


def test_events_come_once_each_while_a_job_runs(api: Api, client: Client) -> None:
    job = client.submit(recipe())
    with working(api, job.id):
        events = list(client.events(job.id))
    ids = [int(event.id) for event in events if event.id is not None]
    assert ids == sorted(set(ids))
    kinds = [event.type for event in events if event.id is not None]
    assert kinds[0] == "job.created"
    assert kinds[-1] == "job.published"
    assert {"judge", "pack"} <= {e.body.get("stage") for e in events if e.type == "job.stage"}
    assert any(event.progress is not None for event in events)
    later = list(client.events(job.id, after=str(ids[-2])))
    assert [event.id for event in later if event.id] == [str(ids[-1])]


def test_listing_fetches_page_after_page(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [client.submit(recipe({"name": f"set-{i}"})).id for i in range(5)]
    monkeypatch.setattr("datagen.client.calls.PAGE_LIMIT", 2)
    assert [job.id for job in client.jobs()] == ids[::-1]
    assert [job.id for job in client.jobs(name="set-3", state="RUNNING")] == [ids[3]]
    assert list(client.jobs(created_before="2020-01-01T00:00:00Z")) == []


def test_a_cancelled_job_is_not_published_and_the_next_submission_is_another(
    api: Api, client: Client
) -> None:
    job = client.submit(recipe())
    assert client.cancel(job.id).state == "CANCELLED"
    assert client.cancel(job.id).state == "CANCELLED"
    with pytest.raises(JobError, match="CANCELLED"):
        client.wait(job.id)
    again = client.submit(recipe())
    assert (again.id != job.id, again.state) == (True, "RUNNING")
    assert client.submit(recipe()).id == again.id
    with working(api, again.id):
        client.wait(again.id)
    with pytest.raises(ConflictError, match="PUBLISHED"):
        client.cancel(again.id)


def test_a_job_that_has_not_failed_is_not_retried(client: Client) -> None:
    job = client.submit(recipe())
    with pytest.raises(ConflictError):
        client.retry(job.id)


def test_a_failed_job_is_an_error_that_tells_why_and_can_be_retried(
    api: Api, client: Client
) -> None:
    strict = [{"filter": "blank", "min_contrast": 0.5}]
    job = client.submit(recipe({"filters": strict, "limits": {"max_attempts_per_class": 1}}))
    with working(api, job.id), pytest.raises(JobError, match="class") as caught:
        client.wait(job.id)
    assert caught.value.exit_code == 4
    assert client.retry(job.id).state == "RUNNING"


def test_priority_changes_and_a_job_grows(api: Api, client: Client) -> None:
    job = client.submit(recipe())
    assert client.set_priority(job.id, "interactive").priority == "interactive"
    with working(api, job.id):
        client.wait(job.id)
    grown = client.top_up(job.id, {"cat": 80})
    assert (grown.id != job.id, grown.version) == (True, 2)
    assert client.top_up(job.id, {"cat": 80}).id == grown.id
    with pytest.raises(InputError, match=r"classes\.bird"):
        client.top_up(job.id, {"bird": 80})


def test_a_preview_is_the_first_images_of_each_class(api: Api, client: Client) -> None:
    found: list[str] = []

    def work() -> None:
        while not api.wakes:
            pass
        uid = next(job.id for job in _previews(api))
        found.append(uid)
        api.work(uid)

    thread = threading.Thread(target=work)
    thread.start()
    preview = client.preview(recipe())
    thread.join()
    assert preview.id == found[0]
    places = [(image.class_name, image.ordinal) for image in preview.images]
    assert places == [(name, i) for name in ("cat", "dog") for i in range(8)]
    client.discard_preview(preview.id)


def _previews(api: Api) -> Iterator[Job]:
    for row in list_jobs(api.catalog, limit=10, kind="preview"):
        with Client(api.url, api.key()) as client:
            yield client.job(row.uid)


# --- who may --------------------------------------------------------------------------------------


def test_another_tenants_job_does_not_exist(api: Api, client: Client) -> None:
    job = client.submit(recipe())
    with (
        Client(api.url, api.key(tenant="other")) as stranger,
        pytest.raises(NotFoundError, match=job.id),
    ):
        stranger.job(job.id)


def test_a_wrong_key_and_a_small_one_are_told_apart(api: Api) -> None:
    with Client(api.url, "dg_wrong") as client, pytest.raises(AuthError) as caught:
        client.submit(recipe())
    assert type(caught.value) is AuthError
    with Client(api.url, api.key("read")) as client, pytest.raises(ForbiddenError, match="submit"):
        client.submit(recipe())


def test_keys_are_made_listed_and_revoked(api: Api, client: Client) -> None:
    made = client.create_key("ci", ["read"], expires_in_days=30)
    assert made.key is not None
    with Client(api.url, made.key) as other:
        assert list(other.jobs()) == []
        client.revoke_key(made.id)
        with pytest.raises(AuthError):
            other.usage()
    listed = {key.id: key for key in list(client.keys())}
    assert listed[made.id].revoked_at is not None
    assert listed[made.id].key is None


def test_usage_tells_cost_and_quota(client: Client) -> None:
    client.submit(recipe())
    usage = client.usage()
    assert (usage.tenant, usage.running_jobs, usage.images_last_day) == ("acme", 1, 100)


# --- schedules and webhooks -----------------------------------------------------------------------


def test_schedules_are_made_paused_resumed_and_deleted(client: Client) -> None:
    made = client.create_schedule(
        "nightly", cron="30 2 * * *", recipe=recipe(), timezone="Europe/Berlin"
    )
    assert len(made.next_fire_times) == 5
    assert (made.new_seed, made.paused, made.timezone) == (True, False, "Europe/Berlin")
    assert client.pause_schedule(made.id).next_fire_times == ()
    assert not client.resume_schedule(made.id).paused
    assert [each.name for each in client.schedules()] == ["nightly"]
    client.delete_schedule(made.id)
    with pytest.raises(NotFoundError):
        client.schedule(made.id)


def test_a_cron_expression_that_is_none_is_refused_by_its_field(client: Client) -> None:
    with pytest.raises(InputError, match="cron"):
        client.create_schedule("nightly", cron="sometimes", recipe=recipe())


def test_webhooks_are_made_listed_and_deleted(client: Client) -> None:
    made = client.create_webhook("https://93.184.215.14/hook", ["job.published"])
    assert made.secret is not None
    assert made.secret.startswith("whsec_")
    assert [(each.id, each.secret) for each in client.webhooks()] == [(made.id, None)]
    assert list(client.deliveries(made.id)) == []
    client.delete_webhook(made.id)
    assert list(client.webhooks()) == []


def test_a_webhook_to_a_private_address_is_refused(client: Client) -> None:
    with pytest.raises(InputError, match="url"):
        client.create_webhook("http://127.0.0.1/hook", ["*"])


# --- data sets and models -------------------------------------------------------------------------


def test_a_published_version_is_found_read_and_pulled(
    api: Api, client: Client, tmp_path: Path
) -> None:
    job = api.publish()
    api.publish({"classes": [{"name": "cat", "count": 61}, {"name": "dog", "count": 40}]})
    [dataset] = client.datasets()
    assert (dataset.name, dataset.versions, dataset.latest) == ("small", 2, 2)
    assert [found.version for found in client.versions("small")] == [2, 1]
    first = client.version("small@1")
    assert (first.digest, first.num_samples) == (job["digest"], 100)
    assert client.manifest("small@1").digest == job["digest"]
    assert {file.path for file in client.files("small@1")} > {"manifest.json", "README.md"}
    dogs = list(client.samples("small@1", class_name="dog", split="val"))
    assert [sample.class_name for sample in dogs] == ["dog"] * 6
    behind = client.lineage_of_sample("small@1", dogs[0].key)
    assert behind["sample"]["image_sha256"] == dogs[0].image_sha256
    assert client.lineage_of_model("noise")["num_versions"] == 2
    difference = client.diff("small@1", "small@2")
    assert difference["images"]["added"] == 1
    pulled = client.pull("small@1", tmp_path / "out", layout="imagefolder")
    assert pulled.digest == job["digest"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 100


def test_a_pull_from_s3_goes_past_the_service(server_api: Api, tmp_path: Path) -> None:
    job = server_api.publish()
    with Client(server_api.url, server_api.key("read")) as client:
        entries = client.files("small")
        assert all("X-Amz-Signature" in (entry.url or "") for entry in entries)
        pulled = client.pull("small", tmp_path / "out")
    assert pulled.digest == job["digest"]
    assert len(list((tmp_path / "out").glob("*.tar"))) == 5


def test_a_revoked_version_is_pulled_by_nobody(api: Api, client: Client, tmp_path: Path) -> None:
    job = api.publish()
    planned = client.revoke("small@1", "consent withdrawn", dry_run=True)
    assert [each.digest for each in planned.versions] == [job["digest"]]
    client.pull("small", tmp_path / "before")
    assert client.deprecate("small@1", "newer one").deprecated_reason == "newer one"
    done = client.revoke("small@1", "consent withdrawn")
    assert (done.digest, done.already, done.dry_run) == (job["digest"], False, False)
    assert client.revoke("small@1", "consent withdrawn").already
    with pytest.raises(RevokedError, match=job["digest"]):
        client.pull("small@1", tmp_path / "after")
    assert not (tmp_path / "after").exists()


def test_a_model_is_registered_and_listed(client: Client, tmp_path: Path) -> None:
    shipped = shipped_models_dir() / "fashion-mnist-cgan"
    registered = client.register_model("my-cgan", shipped)
    assert (registered.name, registered.generator) == ("my-cgan", "cgan")
    assert client.model("my-cgan").digest == registered.digest
    assert {"noise", "my-cgan"} <= {found.name for found in client.models()}
    assert client.deprecate_model("my-cgan", "a better one").deprecated_reason == "a better one"
    with pytest.raises(ModelError, match=r"config\.json"):
        client.register_model("empty", tmp_path)


def test_the_async_client_registers_as_well(api: Api) -> None:
    key = api.key()

    async def register() -> str:
        async with AsyncClient(api.url, key) as client:
            shipped = shipped_models_dir() / "fashion-mnist-cgan"
            return (await client.register_model("my-cgan", shipped)).digest

    with Client(api.url, key) as client:
        assert anyio.run(register) == client.model("my-cgan").digest
