"""Random histories of one job against a model of it: claims, commits, crashes, expired leases,
cancels, retries. Workers may wake at any time with a claim that they lost long ago.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hypothesis import event
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import func, select, update

from datagen.catalog.attempts import commit_generated, commit_judged
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import cancel_job, get_job, restart_job, retry_job
from datagen.catalog.rows import (
    ACTIVE_STATES,
    CANCELLED,
    DONE,
    FAILED,
    FINISH,
    GENERATE,
    JUDGE,
    LEASED,
    PACK,
    PENDING,
    PUBLISHED,
    PUBLISHING,
    QUARANTINED,
    RUNNING,
    NewObject,
    NewUnit,
    Unit,
)
from datagen.catalog.samples import commit_packed
from datagen.catalog.schema import migrate
from datagen.catalog.tables import dataset_versions, job_events, units
from datagen.catalog.units import (
    advance_job,
    begin_publishing,
    claim_unit,
    fail_unit,
    release_unit,
    renew_lease,
)
from datagen.catalog.versions import commit_published
from datagen.errors import ConflictError, LeaseLostError
from datagen.resolve import resolve
from datagen.settings import load_settings
from datagen.submission import Request, new_job, submit
from tests.faults.recipes import small_recipe

MAX_TRIES = 3
MAX_ROUNDS = 2
NUM_FIRST_UNITS = 1
NUM_SHARDS = 2
Place = tuple[str, int, int]


@cache
def empty_database() -> Path:
    """Migrated once; every history works on a copy."""
    folder = Path(tempfile.mkdtemp(prefix="datagen-histories-"))
    atexit.register(shutil.rmtree, folder)
    path = folder / "empty.sqlite3"
    catalog = Catalog(f"sqlite:///{path}")
    migrate(catalog)
    catalog.close()
    return path


@dataclass
class ModelUnit:
    state: str = PENDING
    fence: int = 0
    owner: str | None = None
    tries: int = 0
    expired: bool = False

    def is_held_by(self, owner: str) -> bool:
        return self.state == LEASED and self.owner == owner


@dataclass
class Claim:
    """What a worker holds, or believes to hold. may_put: it was allowed to publish."""

    unit: Unit
    epoch: int
    may_put: bool = False


@dataclass
class Model:
    """epoch: restarts so far; claims of earlier ones are void whatever they say."""

    state: str = RUNNING
    epoch: int = 0
    has_manifest: bool = False
    units: dict[Place, ModelUnit] = field(default_factory=dict)

    def open_units(self, *places: Place) -> None:
        for place in places:
            self.units.setdefault(place, ModelUnit())

    def of(self, claim: Claim) -> ModelUnit | None:
        """The unit, if the claim still holds it."""
        unit = claim.unit
        found = self.units.get((unit.kind, unit.round, unit.position))
        if claim.epoch != self.epoch or found is None:
            return None
        held = (found.state, found.owner, found.fence) == (LEASED, unit.owner, unit.fence)
        return found if held else None

    def claimable(self, owner: str) -> Place | None:
        if self.state not in ACTIVE_STATES:
            return None
        held = [place for place, unit in self.units.items() if unit.is_held_by(owner)]
        pending = [place for place, unit in self.units.items() if unit.state == PENDING]
        lapsed = [p for p, unit in self.units.items() if unit.state == LEASED and unit.expired]
        return next(iter([*held, *pending, *lapsed]), None)

    def has_open(self) -> bool:
        return any(unit.state in (PENDING, LEASED) for unit in self.units.values())


class JobHistory(RuleBasedStateMachine):
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="datagen-history-"))
        shutil.copy(empty_database(), self.folder / "catalog.sqlite3")
        self.settings = load_settings({}, home=self.folder)
        self.catalog = Catalog(self.settings.database_url)
        self.resolved = resolve(small_recipe(), [])
        self.job_id = submit(self.catalog, self.resolved, self.settings, Request()).id
        self.model = Model()
        self.model.open_units(*first_places())

    def teardown(self) -> None:
        event(f"ended {self.model.state}")
        self.catalog.close()
        shutil.rmtree(self.folder)

    # --- workers

    @rule(target=claims, number=st.integers(0, 2))
    def claim(self, number: int) -> Claim:
        """A void claim stands for none: bundles cannot be skipped."""
        # Few names: a worker claims again what it holds or has lost, and the fence alone tells.
        owner = f"worker-{number}"
        place = self.model.claimable(owner)
        unit = claim_unit(
            self.catalog, job_id=self.job_id, owner=owner, lease_s=1000.0, max_tries=MAX_TRIES
        )
        if place is None:
            assert unit is None
            return nothing(owner)
        known = self.model.units[place]
        is_again = known.is_held_by(owner)
        if known.tries >= MAX_TRIES and not is_again and self.model.state != PUBLISHING:
            assert unit is None
            known.state, self.model.state = QUARANTINED, FAILED
            return nothing(owner)
        assert unit is not None
        assert (unit.kind, unit.round, unit.position) == place
        known.state, known.owner, known.expired = LEASED, owner, False
        known.fence += 1
        known.tries += not is_again
        assert (unit.fence, unit.tries) == (known.fence, known.tries)
        return Claim(unit, self.model.epoch)

    @rule(claim=claims, refill=st.booleans())
    def commit(self, claim: Claim, refill: bool) -> None:
        """The work is done; whether it counts is for the fence to say."""
        unit = claim.unit
        if unit.kind == FINISH:
            return
        following: list[Place] = []
        if unit.kind == JUDGE:
            again = refill and unit.round < MAX_ROUNDS
            kind, number, round_ = (
                (GENERATE, 1, unit.round + 1) if again else (PACK, NUM_SHARDS, unit.round)
            )
            following = [(kind, round_, position) for position in range(number)]
        self._commit(claim, lambda: self._commit_work(unit, following), following)

    @rule(claim=claims)
    def begin_to_publish(self, claim: Claim) -> None:
        if claim.unit.kind != FINISH:
            return
        is_held = self.model.of(claim) is not None
        if is_held and self.model.state == PUBLISHING:
            claim.may_put = True  # it goes on with what the first one recorded
            return
        expected = is_held and self.model.state == RUNNING
        try:
            begin_publishing(self.catalog, claim.unit, "{}")
        except LeaseLostError:
            assert not expected
        else:
            assert expected
            self.model.state = PUBLISHING
            claim.may_put = True

    @rule(claim=claims)
    def put_manifest(self, claim: Claim) -> None:
        """Even long after: a frozen worker may wake between the two."""
        if claim.may_put:
            self.model.has_manifest = True

    @rule(claim=claims)
    def publish(self, claim: Claim) -> None:
        if not (claim.may_put and self.model.has_manifest):
            return
        if self._commit(claim, lambda: self._commit_published(claim.unit), []):
            self.model.state = PUBLISHED

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        known = self.model.of(claim)
        assert renew_lease(self.catalog, claim.unit, lease_s=1000.0) == (known is not None)
        if known is not None:
            known.expired = False

    @rule(claim=claims, count_try=st.booleans())
    def give_back(self, claim: Claim, count_try: bool) -> None:
        release_unit(self.catalog, claim.unit, error="given back", count_try=count_try)
        known = self.model.of(claim)
        if known is not None:
            known.state, known.owner = PENDING, None
            known.tries = claim.unit.tries - (not count_try)

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        """A permanent error of the work; none is met once the manifest is being put."""
        if claim.may_put:
            return
        fail_unit(self.catalog, claim.unit, error="no good")
        known = self.model.of(claim)
        if known is not None:
            known.state = QUARANTINED
            if self.model.state in ACTIVE_STATES:
                self.model.state = FAILED

    @rule(num_steps=st.integers(1, 12))
    def go_on_undisturbed(self, num_steps: int) -> None:
        """Else few histories would come to an end."""
        for _ in range(num_steps):
            claim = self.claim(0)
            if claim.epoch < 0:
                self.advance()
            elif claim.unit.kind == FINISH:
                self.begin_to_publish(claim)
                self.put_manifest(claim)
                self.publish(claim)
            else:
                self.commit(claim, refill=False)

    # --- time, sweepers, users

    @rule(claim=claims)
    def lease_runs_out(self, claim: Claim) -> None:
        """Also what a crash comes to."""
        known = self.model.of(claim)
        if known is None:
            return
        known.expired = True
        with self.catalog.transaction() as connection:
            connection.execute(
                update(units).where(units.c.id == claim.unit.id).values(lease_until=1.0)
            )

    @rule()
    def advance(self) -> None:
        opens = self.model.state == RUNNING and not self.model.has_open()
        assert advance_job(self.catalog, self.job_id) == opens
        if opens:
            last = max(round_ for _, round_, _ in self.model.units)
            packed = any(kind == PACK for kind, _, _ in self.model.units)
            self.model.open_units((FINISH if packed else JUDGE, last, 0))

    @rule(is_rare=st.integers(0, 7).map(lambda drawn: drawn == 7))
    def cancel(self, is_rare: bool) -> None:
        """Else it would end most histories before anything happened."""
        if not is_rare:
            return
        try:
            assert cancel_job(self.catalog, self.job_id).state == CANCELLED
        except ConflictError:
            assert self.model.state in (PUBLISHING, PUBLISHED, FAILED)
        else:
            assert self.model.state in (RUNNING, CANCELLED)
            self.model.state = CANCELLED

    @rule()
    def retry(self) -> None:
        try:
            retry_job(self.catalog, self.job_id)
        except ConflictError:
            assert self.model.state != FAILED
            return
        assert self.model.state == FAILED
        self.model.state = RUNNING
        for known in self.model.units.values():
            if known.state != DONE:
                known.tries = 0
            if known.state == QUARANTINED:
                known.state, known.owner = PENDING, None

    @precondition(lambda self: self.model.epoch < 2)
    @rule()
    def restart(self) -> None:
        new = new_job(self.resolved, self.settings, Request())
        first = [NewUnit(*place, None) for place in first_places()]
        try:
            restart_job(self.catalog, self.job_id, new, first)
        except ConflictError:
            assert self.model.state not in (RUNNING, FAILED)
            return
        assert self.model.state in (RUNNING, FAILED)
        self.model.state = RUNNING
        self.model.epoch += 1
        self.model.units.clear()
        self.model.open_units(*first_places())

    # --- what always holds

    @invariant()
    def the_catalog_is_as_the_model(self) -> None:
        job = get_job(self.catalog, self.job_id)
        assert job is not None
        assert job.state == self.model.state
        assert (job.error is not None) == (job.state == FAILED)
        with self.catalog.reading() as connection:
            rows = connection.execute(select(units).order_by(units.c.id)).all()
            found = {(row.kind, row.round, row.position): row for row in rows}
            assert list(found) == list(self.model.units)
            for place, known in self.model.units.items():
                row = found[place]
                assert (row.state, row.fence) == (known.state, known.fence)
                assert row.state == DONE or row.tries == known.tries

    @invariant()
    def a_version_is_there_if_published_alone(self) -> None:
        with self.catalog.reading() as connection:
            num_versions = connection.execute(
                select(func.count()).select_from(dataset_versions)
            ).scalar_one()
            kinds = list(
                connection.execute(select(job_events.c.type).order_by(job_events.c.id)).scalars()
            )
        assert num_versions == (self.model.state == PUBLISHED)
        assert kinds.count("job.published") == num_versions
        assert kinds.count("job.cancelled") == (self.model.state == CANCELLED)
        if self.model.state == PUBLISHED:
            assert all(known.state == DONE for known in self.model.units.values())

    @invariant()
    def a_manifest_is_there_while_publishing_or_published_alone(self) -> None:
        """A job that was cancelled, or failed, never has one."""
        if self.model.has_manifest:
            assert self.model.state in (PUBLISHING, PUBLISHED)

    # --- helpers

    def _commit(self, claim: Claim, act: Callable[[], None], following: list[Place]) -> bool:
        known = self.model.of(claim)
        expected = known is not None and self.model.state in ACTIVE_STATES
        try:
            act()
        except LeaseLostError:
            assert not expected
            return False
        assert expected
        assert known is not None
        known.state = DONE
        self.model.open_units(*following)
        return True

    def _commit_work(self, unit: Unit, following: list[Place]) -> None:
        job = get_job(self.catalog, self.job_id)
        assert job is not None
        if unit.kind == GENERATE:
            commit_generated(
                self.catalog,
                unit,
                context_id=job.context_id,
                stored=None,
                made=[],
                rescored=[],
                num_generated=0,
                seconds=1.0,
            )
        elif unit.kind == JUDGE:
            commit_judged(
                self.catalog,
                unit,
                next_stage=following[0][0],
                next_units=[NewUnit(*place, None) for place in following],
                shortfall=None,
                seconds=1.0,
            )
        else:
            key = f"shard-{unit.round}-{unit.position}"
            shard = NewObject(key, "shard", unit.position, "train", 0, "0" * 64, 1)
            commit_packed(self.catalog, unit, shard, [], seconds=1.0)

    def _commit_published(self, unit: Unit) -> None:
        commit_published(
            self.catalog,
            unit,
            digest="0" * 64,
            manifest_sha256="1" * 64,
            num_samples=0,
            size_bytes=1,
            stored=[],
            seconds=1.0,
        )


def first_places() -> list[Place]:
    return [(GENERATE, 0, position) for position in range(NUM_FIRST_UNITS)]


def nothing(owner: str) -> Claim:
    """A claim on a unit that is not there."""
    return Claim(Unit(10**9, 0, "none", 0, 0, None, owner, 0, 1), -1)


JobHistory.TestCase.settings = hypothesis_settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestJobHistory = JobHistory.TestCase
