"""Quotas hold in the transaction that makes a job, whoever else submits at the same time."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import cancel_job, create_job, list_jobs, restart_job, retry_job
from datagen.catalog.rows import RUNNING, Job
from datagen.catalog.tenants import Quota, get_quota, set_quota, tenant_use
from datagen.errors import QuotaError
from datagen.resolve import resolve_recipe
from datagen.settings import Settings
from datagen.submission import Request, new_job
from tests.recipes import noise_recipe


@pytest.fixture
def acme(any_catalog: Catalog) -> Catalog:
    return any_catalog.of("acme")


def submit(catalog: Catalog, settings: Settings, seed: int) -> Job:
    """A job of 100 images."""
    resolved = resolve_recipe(noise_recipe({"seed": seed}).recipe, [settings.models_dir])
    return create_job(catalog, new_job(resolved, settings, Request()), [])


def test_a_tenant_without_a_row_is_unlimited(acme: Catalog, settings: Settings) -> None:
    assert get_quota(acme, "acme") == Quota()
    submit(acme, settings, 1)
    use = tenant_use(acme, "acme")
    assert (use.running_jobs, use.images_last_day, use.bytes) == (1, 100, 0)
    assert tenant_use(acme, "other").running_jobs == 0


def test_a_quota_is_replaced_as_a_whole(acme: Catalog) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=1, max_bytes=2**40))
    set_quota(acme, "acme", Quota(max_images_per_day=10**12, attempt_retention_days=7.5))
    assert get_quota(acme, "acme") == Quota(None, 10**12, None, 7.5)


def test_running_jobs_are_limited(acme: Catalog, settings: Settings) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=1))
    job = submit(acme, settings, 1)
    with pytest.raises(QuotaError, match="1 running jobs, of 1"):
        submit(acme, settings, 2)
    assert submit(acme, settings, 1).id == job.id, "the job that exists is no other job"
    cancel_job(acme, job.id)
    submit(acme, settings, 2)


def test_a_failed_job_runs_again_only_where_there_is_room(
    acme: Catalog, settings: Settings
) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=1))
    job = submit(acme, settings, 1)
    with acme.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'FAILED'")
    other = submit(acme, settings, 2)
    resolved = resolve_recipe(noise_recipe({"seed": 1}).recipe, [settings.models_dir])
    with pytest.raises(QuotaError, match="1 running jobs, of 1"):
        retry_job(acme, job.id)
    with pytest.raises(QuotaError, match="1 running jobs, of 1"):
        restart_job(acme, job.id, new_job(resolved, settings, Request()), [])
    cancel_job(acme, other.id)
    assert retry_job(acme, job.id).state == RUNNING


def test_images_of_a_day_are_limited_cancelled_ones_included(
    acme: Catalog, settings: Settings
) -> None:
    set_quota(acme, "acme", Quota(max_images_per_day=250))
    for seed in (1, 2):
        cancel_job(acme, submit(acme, settings, seed).id)
    with pytest.raises(QuotaError, match="200 images in the last 24 hours"):
        submit(acme, settings, 3)
    with acme.transaction() as connection:
        connection.exec_driver_sql("UPDATE jobs SET created_at = created_at - 86401")
    submit(acme, settings, 3)


def test_nothing_of_a_refused_job_is_kept(acme: Catalog, settings: Settings) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=0))
    with pytest.raises(QuotaError):
        submit(acme, settings, 1)
    with acme.reading() as connection:
        for table in ("jobs", "recipes", "contexts", "job_events"):
            count = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            assert count == 0, table


def test_many_at_once_do_not_pass_a_quota(acme: Catalog, settings: Settings) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=2))
    refused = []
    gate = threading.Barrier(5)

    def send(seed: int) -> None:
        gate.wait()
        try:
            submit(acme, replace(settings, tenant="acme"), seed)
        except QuotaError:
            refused.append(seed)

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_jobs(acme, limit=10)) == 2
    assert len(refused) == 3
