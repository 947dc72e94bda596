"""The last steps: two finalisers, a crash between manifest and commit, and cancels at every step.

A job is cancelled or published, never both, and a cancelled one never has a manifest.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from dataclasses import replace

import pytest

from datagen.catalog.jobs import cancel_job
from datagen.catalog.rows import CANCELLED, PUBLISHED, PUBLISHING
from datagen.errors import ConflictError
from tests.faults.conftest import DigestOf
from tests.faults.fleet import Fleet, signal_to, wait_until
from tests.faults.recipes import small_recipe
from tests.faults.s3_proxy import faulty_s3
from tests.faults.test_workers import FAILPOINTS
from tests.servers import S3Server

# Where the manifest is being put, or was: too late to cancel.
FINISHING = tuple(name for name in FAILPOINTS if name.startswith("finish."))
TOO_LATE = ("finish.before_manifest", "finish.before_commit", "finish.after_commit")


@pytest.mark.parametrize("name", ["finish.before_publishing", "finish.before_manifest"])
def test_two_finalisers_publish_once(fleet: Fleet, digest_of: DigestOf, name: str) -> None:
    """Both stand at the same step, then go on at the same moment."""
    job = fleet.submit(small_recipe())
    both = fleet.start(job, num_workers=2, failpoints=f"{name}=stop*2")
    fleet.wait_fired(name, 2)
    for process in both:
        signal_to(process, signal.SIGCONT)
    assert fleet.wait_exits(*both) == [0, 0]
    fleet.assert_published(job, digest_of(small_recipe()))


def test_a_crash_between_manifest_and_commit_replays_to_the_same_bytes(
    fleet: Fleet, digest_of: DigestOf
) -> None:
    job = fleet.submit(small_recipe())
    [victim] = fleet.start(job, failpoints="finish.before_commit=kill*1")
    assert fleet.wait_exits(victim) == [-signal.SIGKILL]
    [key] = fleet.manifests(job)
    before = fleet.store.get(key)
    assert fleet.state_of(job) == PUBLISHING
    assert fleet.wait_exits(*fleet.start(job)) == [0]
    assert fleet.store.get(key) == before
    fleet.assert_published(job, digest_of(small_recipe()))


@pytest.mark.parametrize(
    ("name", "then"),
    [(name, then) for name in FINISHING for then in ("goes on", "dies")]
    + [
        pytest.param(name, "goes on", marks=pytest.mark.soak)
        for name in FAILPOINTS
        if name not in FINISHING
    ],
)
def test_a_job_is_cancelled_or_published_never_both(
    fleet: Fleet, digest_of: DigestOf, name: str, then: str
) -> None:
    job = fleet.submit(small_recipe())
    [worker] = fleet.start(job, failpoints=f"{name}=stop*1")
    fleet.wait_fired(name)
    if name in TOO_LATE:
        with pytest.raises(ConflictError):
            cancel_job(fleet.catalog, job.id)
    else:
        assert cancel_job(fleet.catalog, job.id).state == CANCELLED
    if then == "dies":
        signal_to(worker, signal.SIGKILL)
        assert fleet.wait_exits(*fleet.start(job)) == [0]
    else:
        signal_to(worker, signal.SIGCONT)
        assert fleet.wait_exits(worker) == [0]
    if name in TOO_LATE:
        fleet.assert_published(job, digest_of(small_recipe()))
    else:
        assert fleet.state_of(job) == CANCELLED
        fleet.assert_nothing_published(job)


def test_a_cancelled_recipe_can_be_submitted_again(fleet: Fleet, digest_of: DigestOf) -> None:
    job = fleet.submit(small_recipe())
    [worker] = fleet.start(job, failpoints="pack.before_put=stop*1")
    fleet.wait_fired("pack.before_put")
    cancel_job(fleet.catalog, job.id)
    again = fleet.submit(small_recipe())
    assert again.id != job.id
    fleet.start(again)
    signal_to(worker, signal.SIGCONT)
    fleet.wait_ended(again)
    fleet.wait_exits()
    fleet.assert_published(again, digest_of(small_recipe()))
    fleet.assert_nothing_published(job)


def test_a_store_that_refuses_after_the_manifest_was_put_fails_no_job(
    fleet: Fleet, digest_of: DigestOf, s3_server: S3Server
) -> None:
    """The reply to the put was lost, then the keys were refused: who cannot know whether there is a
    manifest must go on trying, and nobody may cancel."""
    job = fleet.submit(small_recipe())
    with faulty_s3(s3_server.endpoint_url) as proxy:
        proxy.forbidden = "/manifest.json"
        fleet.settings = replace(fleet.settings, s3_endpoint_url=proxy.url)
        [worker] = fleet.start(job)
        wait_until(lambda: proxy.num_fired["forbidden"] >= 4, "the manifest was refused")
        assert len(fleet.manifests(job)) == 1
        assert fleet.state_of(job) == PUBLISHING
        with pytest.raises(ConflictError):
            cancel_job(fleet.catalog, job.id)
        proxy.forbidden = ""
        assert fleet.wait_exits(worker) == [0]
    fleet.assert_published(job, digest_of(small_recipe()))


@pytest.mark.slow
def test_cancels_race_the_finaliser(fleet: Fleet, digest_of: DigestOf) -> None:
    """Eight jobs; each is cancelled a little after its worker came to its last step, which takes a
    little while: sometimes the one is first, sometimes the other."""
    draw = random.Random(3)
    outcomes = []
    for number in range(8):
        document = small_recipe(f"race-{number}")
        job = fleet.submit(document)
        name = "finish.before_publishing"
        pause_s = draw.uniform(0.0, 0.1)
        fired = fleet.num_fired(name)
        [worker] = fleet.start(job, failpoints=f"{name}=sleep:0.05")
        fleet.wait_fired(name, fired + 1)
        time.sleep(pause_s)
        with contextlib.suppress(ConflictError):
            cancel_job(fleet.catalog, job.id)
        assert fleet.wait_exits(worker) == [0]
        outcomes.append(fleet.state_of(job))
        if outcomes[-1] == PUBLISHED:
            fleet.assert_published(job, digest_of(document))
        else:
            assert outcomes[-1] == CANCELLED
            fleet.assert_nothing_published(job)
    assert set(outcomes) == {PUBLISHED, CANCELLED}, outcomes
