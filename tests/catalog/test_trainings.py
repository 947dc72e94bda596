"""The same cases on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.idempotency import KeyReusedError
from datagen.catalog.tenants import Quota, set_quota
from datagen.catalog.training_claims import (
    begin_registering,
    claim_training,
    claim_training_wake,
    commit_checkpoint,
    fail_training,
    has_waiting,
    publish_training,
    release_training,
    renew_training,
    requeue_expired,
)
from datagen.catalog.trainings import (
    NewTraining,
    Training,
    cancel_training,
    count_trainings,
    create_training,
    get_training,
    list_training_events,
    list_trainings,
    retry_training,
)
from datagen.catalog.webhooks import create_webhook, list_deliveries
from datagen.errors import ConflictError, LeaseLostError, NotFoundError, QuotaError

NEW = NewTraining(
    name="toy",
    recipe='{"name":"toy"}',
    recipe_digest="a" * 64,
    num_images=96,
    idempotency_key="k",
    created_by="ops",
)


@pytest.fixture
def acme(any_catalog: Catalog) -> Catalog:
    return any_catalog.of("acme")


def submit(catalog: Catalog, number: int = 0) -> Training:
    """number: another model by another request."""
    new = replace(NEW, name=f"toy-{number}", idempotency_key=f"k{number}")
    training, is_new = create_training(catalog, new)
    assert is_new
    return training


def claim(
    catalog: Catalog, owner: str = "one", *, lease_s: float = 60, max_tries: int = 3
) -> Training:
    found = claim_training(catalog, owner=owner, lease_s=lease_s, max_tries=max_tries)
    assert found is not None
    return found


def events_of(catalog: Catalog, training: Training) -> list[str]:
    found = list_training_events(catalog, training.id, after_id=0, limit=50)
    return [event.type.removeprefix("training.") for event in found]


def test_a_key_gives_one_training_and_one_recipe_alone(acme: Catalog) -> None:
    first, is_new = create_training(acme, NEW)
    again, is_new_again = create_training(acme, NEW)
    assert (is_new, is_new_again, again.uid) == (True, False, first.uid)
    with pytest.raises(KeyReusedError):
        create_training(acme, replace(NEW, recipe='{"name":"other"}'))
    other = acme.of("other")
    assert create_training(other, NEW)[1], "keys are each tenant's own"


def test_a_model_is_trained_by_one_recipe_at_a_time(acme: Catalog) -> None:
    first, _ = create_training(acme, NEW)
    same, is_new = create_training(acme, replace(NEW, idempotency_key="another"))
    assert (same.uid, is_new) == (first.uid, False)
    changed = replace(NEW, idempotency_key="third", recipe='{"seed":2}')
    with pytest.raises(ConflictError, match="has not ended"):
        create_training(acme, changed)
    cancel_training(acme, first.uid)
    assert create_training(acme, changed)[1]


def test_many_at_once_with_one_key_make_one_training(acme: Catalog) -> None:
    found: list[tuple[Training, bool]] = []
    threads = [
        threading.Thread(target=lambda: found.append(create_training(acme, NEW))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({training.uid for training, _ in found}) == 1
    assert [is_new for _, is_new in found].count(True) == 1


def test_a_quota_bounds_what_waits_and_runs(acme: Catalog) -> None:
    set_quota(acme, "acme", Quota(max_running_jobs=1))
    first = submit(acme, 1)
    with pytest.raises(QuotaError, match="of 1"):
        submit(acme, 2)
    fail_training(acme, claim(acme), error="no")
    submit(acme, 2)
    with pytest.raises(QuotaError):
        retry_training(acme, first.uid)


def test_lists_are_the_tenants_own_newest_first(acme: Catalog) -> None:
    uids = [submit(acme, number).uid for number in range(3)]
    submit(acme.of("other"))
    found = list_trainings(acme, limit=2)
    assert [each.uid for each in found] == [uids[2], uids[1]]
    assert [each.uid for each in list_trainings(acme, limit=2, before_id=found[-1].id)] == uids[:1]
    assert [each.uid for each in list_trainings(acme, limit=9, name="toy-1")] == [uids[1]]
    assert list_trainings(acme, limit=9, states=["FAILED"]) == []
    assert count_trainings(acme) == {"QUEUED": 3}
    with pytest.raises(NotFoundError):
        get_training(acme.of("other"), uids[0])


def test_the_one_that_waits_longest_is_claimed_and_only_once(any_catalog: Catalog) -> None:
    first, second = submit(any_catalog.of("acme")), submit(any_catalog.of("other"))
    claims: list[Training | None] = []

    def work(owner: str) -> None:
        claims.append(claim_training(any_catalog, owner=owner, lease_s=60, max_tries=3))

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = [each.uid for each in claims if each is not None]
    # Of those that look at one row together, PostgreSQL lets the others pass it over.
    assert sorted(taken) == sorted({first.uid, second.uid} & set(taken))
    assert first.uid in taken
    state = get_training(any_catalog, first.uid)
    assert (state.state, state.fence, state.tries) == ("RUNNING", 1, 1)


def test_nothing_waits_nothing_is_claimed(acme: Catalog) -> None:
    assert claim_training(acme, owner="one", lease_s=60, max_tries=3) is None
    assert not has_waiting(acme)
    submit(acme)
    assert has_waiting(acme)


def test_whatever_a_lost_claim_writes_is_refused(acme: Catalog) -> None:
    submit(acme)
    lost = claim(acme, "one", lease_s=-1)
    assert requeue_expired(acme, max_tries=3) == 1
    held = claim(acme, "one")
    assert held.fence == 2
    assert not renew_training(acme, lost, lease_s=60, progress="{}")
    with pytest.raises(LeaseLostError):
        commit_checkpoint(acme, lost, {"a": "b"}, images_seen=8)
    with pytest.raises(LeaseLostError):
        begin_registering(acme, lost, "d" * 64)
    with pytest.raises(LeaseLostError):
        publish_training(acme, lost)
    fail_training(acme, lost, error="late")
    release_training(acme, lost, error="late", count_try=True)
    assert get_training(acme, held.uid) == held


def test_a_silent_worker_gives_way_and_too_many_fail_it(acme: Catalog) -> None:
    training = submit(acme)
    for number in (1, 2):
        assert claim(acme, lease_s=-1, max_tries=2).tries == number
        assert requeue_expired(acme, max_tries=2) == 1
        assert requeue_expired(acme, max_tries=2) == 0
    found = get_training(acme, training.uid)
    assert found.state == "FAILED"
    assert "begun 2 times without a new checkpoint" in str(found.error)
    assert "fell silent" in str(found.error)
    assert events_of(acme, training) == ["created", "started", "requeued", "started", "failed"]


def test_a_checkpoint_begins_the_tries_afresh_if_it_has_got_on(acme: Catalog) -> None:
    training = submit(acme)

    def die_after(images_seen: int) -> None:
        held = claim(acme, lease_s=-1, max_tries=2)
        commit_checkpoint(acme, held, {"best.safetensors": "c" * 64}, images_seen=images_seen)
        requeue_expired(acme, max_tries=2)

    for number in range(1, 5):
        die_after(16 * number)
    found = get_training(acme, training.uid)
    assert (found.state, found.files) == ("QUEUED", {"best.safetensors": "c" * 64})
    assert (found.checkpoint_images_seen, found.tries) == (64, 1)
    die_after(64)
    assert get_training(acme, training.uid).state == "FAILED"


def test_one_that_was_given_back_after_a_fault_lets_others_go_first(acme: Catalog) -> None:
    first, second = submit(acme, 1), submit(acme, 2)
    release_training(acme, claim(acme), error="Stopped: ", count_try=False)
    held = claim(acme)
    assert held.uid == first.uid, "a worker that stopped costs no place"
    release_training(acme, held, error="RuntimeError: odd", count_try=True)
    assert [claim(acme).uid, claim(acme).uid] == [second.uid, first.uid]


def test_given_back_it_waits_again_at_once(acme: Catalog) -> None:
    submit(acme)
    release_training(acme, claim(acme), error="Stopped: ", count_try=False)
    held = claim(acme)
    assert (held.tries, held.fence) == (1, 2)
    release_training(acme, held, error="RuntimeError: odd", count_try=True)
    assert claim(acme).tries == 2


def test_a_cancelled_one_is_lost_to_its_worker(acme: Catalog) -> None:
    submit(acme)
    held = claim(acme)
    assert cancel_training(acme, held.uid).state == "CANCELLED"
    assert cancel_training(acme, held.uid).state == "CANCELLED"
    assert not renew_training(acme, held, lease_s=60)
    with pytest.raises(LeaseLostError):
        begin_registering(acme, held, "d" * 64)
    assert events_of(acme, held) == ["created", "started", "cancelled"]
    with pytest.raises(ConflictError):
        retry_training(acme, held.uid)


def test_cancelled_or_published_never_both(acme: Catalog) -> None:
    submit(acme)
    held = claim(acme)
    begin_registering(acme, held, "d" * 64)
    with pytest.raises(ConflictError, match="being registered"):
        cancel_training(acme, held.uid)
    done = publish_training(acme, held)
    assert (done.state, done.model_digest) == ("PUBLISHED", "d" * 64)
    assert done.ended_at is not None
    with pytest.raises(ConflictError, match="PUBLISHED"):
        cancel_training(acme, held.uid)


def test_one_that_was_given_back_while_registering_is_not_cancelled(acme: Catalog) -> None:
    submit(acme)
    held = claim(acme)
    begin_registering(acme, held, "d" * 64)
    release_training(acme, held, error="RuntimeError: odd", count_try=True)
    with pytest.raises(ConflictError, match="it is QUEUED"):
        cancel_training(acme, held.uid)
    again = claim(acme)
    assert again.model_digest == "d" * 64
    fail_training(acme, again, error="no")
    with pytest.raises(ConflictError, match="it is FAILED"):
        cancel_training(acme, held.uid)
    assert retry_training(acme, held.uid).model_digest == "d" * 64


def test_a_request_that_is_sent_again_is_the_same_after_newer_versions(acme: Catalog) -> None:
    def asking(init: str, pinned: str, wards: str = "wards@1") -> NewTraining:
        def recipe(model: str, source: str) -> str:
            return json.dumps({"data": {"registered": source}, "init": model})

        return replace(NEW, recipe=recipe(pinned, wards), asked=recipe(init, "wards"))

    first, _ = create_training(acme, asking("toy", "toy@1"))
    again, is_new = create_training(acme, asking("toy", "toy@2", "wards@2"))
    assert (again.uid, is_new) == (first.uid, False)
    by_recipe = replace(asking("toy", "toy@2", "wards@2"), idempotency_key="other")
    assert create_training(acme, by_recipe)[0].uid == first.uid
    with pytest.raises(KeyReusedError):
        create_training(acme, asking("toy@2", "toy@2"))


def test_a_failed_one_goes_on_from_its_checkpoint(acme: Catalog) -> None:
    training = submit(acme)
    with pytest.raises(ConflictError, match="only a FAILED"):
        retry_training(acme, training.uid)
    held = claim(acme)
    commit_checkpoint(acme, held, {"a": "b"}, images_seen=8)
    fail_training(acme, held, error="the disk is full")
    assert get_training(acme, training.uid).error == "the disk is full"
    assert retry_training(acme, training.uid).state == "QUEUED"
    again = claim(acme)
    assert (again.files, again.tries, again.error) == ({"a": "b"}, 1, None)


def test_a_retry_gives_way_to_a_newer_training_of_the_model(acme: Catalog) -> None:
    create_training(acme, NEW)
    failed = claim(acme)
    fail_training(acme, failed, error="no")
    create_training(acme, replace(NEW, idempotency_key="newer", recipe='{"seed":2}'))
    with pytest.raises(ConflictError, match="has not ended"):
        retry_training(acme, failed.uid)


def test_workers_are_told_of_what_waits_now_and_then(acme: Catalog) -> None:
    first, second = submit(acme, 1), submit(acme, 2)
    assert claim_training_wake(acme, not_after_s=60) == [first.id, second.id]
    assert claim_training_wake(acme, not_after_s=60) == []
    assert claim_training_wake(acme, not_after_s=-1) == [first.id, second.id]
    claim(acme)
    assert claim_training_wake(acme, not_after_s=-1) == [second.id]


def test_webhooks_hear_of_an_end(acme: Catalog) -> None:
    hook = create_webhook(
        acme, url="https://example.com/", secret="s", events=["training.failed"], created_by=None
    )
    submit(acme)
    fail_training(acme, claim(acme), error="no")
    cancelled = submit(acme, 2)
    cancel_training(acme, cancelled.uid)
    [delivery] = list_deliveries(acme, hook.id, limit=9)
    body = json.loads(delivery.body)
    assert (delivery.event_type, body["data"]["error"]) == ("training.failed", "no")
