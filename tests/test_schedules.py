"""Fire times across clock changes; one job per fire time, whoever ticks and whatever dies."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.jobs import cancel_job, get_job_by_uid, list_jobs
from datagen.catalog.rows import CANCELLED, Job
from datagen.catalog.schedules import (
    Fire,
    NewSchedule,
    Schedule,
    create_schedule,
    delete_schedule,
    get_schedule,
    last_fires,
    set_paused,
)
from datagen.catalog.tables import schedule_fires, schedules
from datagen.plan import seed_of_fire
from datagen.recipe import Recipe, canonical_json
from datagen.resolve import resolve
from datagen.schedules import (
    check_cron,
    check_timezone,
    fire_due,
    latest_fire_time,
    next_fire_times,
)
from datagen.settings import Settings, load_settings
from datagen.store import open_store
from tests.recipes import noise_recipe
from tests.schema import lay_tables

BERLIN = "Europe/Berlin"  # 2026: forward at 02:00 on 29 March, back at 03:00 on 25 October


def at(text: str, zone: str = BERLIN, fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp())


def wall_times(cron: str, after: int, count: int, zone: str = BERLIN) -> list[str]:
    """As the clock on the wall shows them, with the offset from UTC."""
    found = next_fire_times(cron, zone, after=after, count=count)
    return [f"{datetime.fromtimestamp(t, ZoneInfo(zone)):%d %H:%M %z}" for t in found]


# --- cron and time zones --------------------------------------------------------------------------


def test_fire_times_follow_the_clock_on_the_wall() -> None:
    assert wall_times("30 6 * * MON-FRI", at("2026-03-26 12:00"), 3) == [
        "27 06:30 +0100",
        "30 06:30 +0200",  # the clocks went forward on Sunday
        "31 06:30 +0200",
    ]


def test_a_time_that_the_clocks_skip_fires_once_after_the_gap() -> None:
    assert wall_times("30 2 * * *", at("2026-03-28 12:00"), 2) == [
        "29 03:00 +0200",
        "30 02:30 +0200",
    ]
    assert wall_times("15,30 2 * * *", at("2026-03-28 12:00"), 2) == [
        "29 03:00 +0200",
        "30 02:15 +0200",
    ]


def test_a_time_that_the_clocks_repeat_fires_once() -> None:
    assert wall_times("30 2 * * *", at("2026-10-24 12:00"), 2) == [
        "25 02:30 +0200",
        "26 02:30 +0100",
    ]


@pytest.mark.parametrize("minute", [10, 30, 50])
def test_nothing_fires_again_when_asked_within_the_repeated_hour(minute: int) -> None:
    after = at(f"2026-10-25 02:{minute}", fold=1)
    assert wall_times("30 2 * * *", after, 1) == ["26 02:30 +0100"]


def test_every_hour_and_minute_follow_real_time() -> None:
    hours = wall_times("0 * * * *", at("2026-10-25 01:30"), 3)
    assert hours == ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]
    minutes = next_fire_times("* * * * *", BERLIN, after=at("2026-10-25 01:59"), count=180)
    assert {b - a for a, b in pairwise(minutes)} == {60}


def test_a_midnight_that_does_not_exist_fires_after_the_gap() -> None:
    """Egypt moves its clocks at midnight."""
    after = at("2026-04-23 12:00", "Africa/Cairo")
    assert wall_times("0 0 * * *", after, 2, "Africa/Cairo") == ["24 01:00 +0300", "25 00:00 +0300"]


@given(st.integers(0, 2**31), st.sampled_from(["*/7 1-3 * * *", "30 2 * * *", "* 2 * * 0"]))
def test_fire_times_rise_and_lie_ahead(after: int, cron: str) -> None:
    found = [after, *next_fire_times(cron, "America/New_York", after=after, count=5)]
    assert len(found) == 6
    assert found == sorted(set(found))


def test_an_expression_may_end() -> None:
    assert next_fire_times("0 0 29 2 *", "UTC", after=at("2026-01-01", "UTC"), count=1) == [
        at("2028-02-29", "UTC")
    ]


@pytest.mark.parametrize(
    ("cron", "days", "enough"),
    [
        ("* * * * *", 1, 1500),
        ("7 3 * * *", 400, 500),
        ("0 0 1 * *", 400, 20),
        ("0 12 29 2 *", 400, 1),
        ("*/5 2 * 10 0", 400, 200),
    ],
)
def test_the_latest_fire_time_is_the_last_that_was_missed(
    cron: str, days: int, enough: int
) -> None:
    first = next_fire_times(cron, BERLIN, after=at("2023-10-01 12:00"), count=1)[0]
    now = first + days * 86_400
    times = [first, *next_fire_times(cron, BERLIN, after=first, count=enough)]
    assert times[-1] > now
    expected = max(moment for moment in times if moment <= now)
    assert latest_fire_time(cron, BERLIN, first=first, now=now) == expected


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("60 * * * *", r"another minute than '60': 0-59"),
        ("* 24 * * *", r"another hour than '24': 0-23"),
        ("* * 0 * *", r"another day-of-month than '0'"),
        ("* * * JANUARY *", r"another month than 'JANUARY': 1-12 or JAN-DEC"),
        ("* * * * MOON", r"another day-of-week than 'MOON'"),
        ("*/0 * * * *", r"another minute than '\*/0'"),
        ("5-1 * * * *", r"another minute than '5-1'"),
        ("٣ * * * *", r"another minute than '٣'"),
        ("0 0 31 2 *", r"a day that exists: no month 2 has a day 31"),
        ("@daily", r"five parts, minute hour .*; here are 1"),
        ("* * * * * *", r"five parts, .*; here are 6"),
        ("", r"here are 0"),
    ],
)
def test_a_bad_expression_names_its_part(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cron(cron)


@given(st.text(alphabet="0123456789*/,-#LW MONJAé²", max_size=40))
def test_any_accepted_expression_can_be_computed(text: str) -> None:
    try:
        cron = check_cron(text)
    except ValueError:
        return
    next_fire_times(cron, BERLIN, after=0, count=2)


def test_an_unknown_time_zone_is_refused_with_the_nearest() -> None:
    assert check_timezone("Asia/Kolkata") == "Asia/Kolkata"
    with pytest.raises(ValueError, match="did you mean 'Europe/Berlin'"):
        check_timezone("Europe/Berlim")
    for hostile in ("../../etc/passwd", "/etc/localtime", "", "Europe", "UTC\0"):
        with pytest.raises(ValueError, match="IANA"):
            check_timezone(hostile)


# --- firing ---------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    settings = load_settings({}, home=tmp_path / "home")
    if request.param == "postgresql":
        settings = replace(settings, database_url=request.getfixturevalue("postgres_url"))
    opened = Service(settings)
    yield opened
    opened.catalog.close()


class Service:
    """A catalog of all tenants, and a beat that can be ticked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        lay_tables(settings.database_url)
        self.catalog = Catalog(settings.database_url, tenant=None)
        self.tenant = self.catalog.of("acme")
        self.store = open_store(settings.store_url)
        self.woken: list[tuple[str, int, int]] = []

    def tick(self) -> int:
        def wake(queue: str, job_id: int, num_messages: int) -> None:
            self.woken.append((queue, job_id, num_messages))

        return fire_due(self.catalog, self.store, self.settings, wake)

    def schedule(self, changes: dict[str, Any] | None = None, **other: Any) -> Schedule:
        """Every hour, five minutes ago; nothing ticked for the last three."""
        content = {"recipe": noise_recipe(changes).recipe.to_json(), "new_seed": True} | other
        last = self.minutes_ago(5)
        new = NewSchedule(
            name=str(content.get("name", "hourly")),
            cron=f"{last // 60 % 60} * * * *",
            timezone=BERLIN,
            recipe=canonical_json(content["recipe"]).decode(),
            new_seed=bool(content["new_seed"]),
            priority="batch",
            next_fire_at=last - 3 * 3600,
        )
        return create_schedule(self.tenant, new)

    def minutes_ago(self, num_minutes: int) -> int:
        return self.now() // 60 * 60 - num_minutes * 60

    def now(self) -> int:
        with self.catalog.reading() as connection:
            return int(now_s(connection))

    def make_due(self, schedule: Schedule) -> None:
        """It shall have fired ten minutes ago as well."""
        due = self.minutes_ago(10)
        with self.catalog.transaction() as connection:
            connection.execute(
                update(schedules)
                .where(schedules.c.id == schedule.id)
                .values(cron=f"{due // 60 % 60} * * * *", next_fire_at=due)
            )

    def expire_locks(self) -> None:
        with self.catalog.transaction() as connection:
            connection.execute(update(schedule_fires).values(locked_until=0.0))

    def jobs(self) -> list[Job]:
        return list_jobs(self.tenant, limit=100)

    def fires(self, schedule: Schedule) -> list[Fire]:
        return last_fires(self.tenant, [schedule.id], limit=100)[schedule.id]


def test_of_the_missed_times_only_the_latest_is_fired(service: Service) -> None:
    schedule = service.schedule()
    assert schedule.next_fire_at is not None
    assert service.tick() == 1
    [fire] = service.fires(schedule)
    [job] = service.jobs()
    assert fire.fire_at == schedule.next_fire_at + 3 * 3600
    assert (fire.job_uid, fire.error, job.priority) == (job.uid, None, "batch")
    [(queue, job_id, _)] = service.woken
    assert (queue, job_id) == (f"{job.generate_queue}.batch", job.id)
    assert get_schedule(service.tenant, schedule.id).next_fire_at == fire.fire_at + 3600
    assert service.tick() == 0


def test_each_fire_makes_a_new_version_from_a_seed_of_its_own(service: Service) -> None:
    schedule = service.schedule()
    service.tick()
    service.make_due(schedule)
    assert service.tick() == 1
    assert sorted(job.version for job in service.jobs()) == [1, 2]
    for fire in service.fires(schedule):
        [job] = [job for job in service.jobs() if job.uid == fire.job_uid]
        seed = seed_of_fire(schedule.id, fire.fire_at)
        assert f'"seed":{seed}' in job.recipe_body
        assert 0 <= seed < 2**63


def test_without_a_new_seed_each_fire_finds_the_version_that_exists(service: Service) -> None:
    schedule = service.schedule(new_seed=False)
    service.tick()
    service.make_due(schedule)
    assert service.tick() == 1
    [job] = service.jobs()
    assert [fire.job_uid for fire in service.fires(schedule)] == [job.uid, job.uid]
    assert '"seed":7' in job.recipe_body


@pytest.mark.parametrize("beats", [2, 8])
def test_any_number_of_beats_make_one_job_of_a_fire_time(service: Service, beats: int) -> None:
    schedule = service.schedule()
    made: list[int] = []
    together = threading.Barrier(beats)

    def beat() -> None:
        together.wait()
        made.append(service.tick())

    threads = [threading.Thread(target=beat) for _ in range(beats)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0] * (beats - 1) + [1]
    [job] = service.jobs()
    assert [fire.job_uid for fire in service.fires(schedule)] == [job.uid]


def test_a_paused_or_deleted_schedule_fires_nothing(service: Service) -> None:
    paused, deleted = service.schedule(), service.schedule(name="weekly")
    set_paused(service.tenant, paused.id, paused=True, next_fire_at=paused.next_fire_at)
    delete_schedule(service.tenant, deleted.id)
    assert service.tick() == 0
    set_paused(service.tenant, paused.id, paused=False, next_fire_at=service.now() + 100)
    assert service.tick() == 0
    assert service.jobs() == []


def test_a_recipe_that_no_longer_resolves_leaves_its_error_and_the_schedule_goes_on(
    service: Service,
) -> None:
    schedule = service.schedule({"generator": {"model": "gone"}})
    sound = service.schedule(name="sound")
    assert service.tick() == 1
    [fire] = service.fires(schedule)
    assert fire.job_uid is None
    assert "generator.model: 'gone': expected a known model" in str(fire.error)
    assert service.fires(sound)[0].job_uid is not None
    service.expire_locks()
    assert service.tick() == 0, "what failed for good is not tried again"
    service.make_due(schedule)
    service.tick()
    assert len(service.fires(schedule)) == 2


def crash(service: Service, failpoint: str, tmp_path: Path) -> None:
    """A beat, in a process of its own, that is killed there."""
    program = (
        "import sys\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from datagen.catalog.catalog import Catalog\n"
        "from datagen.failpoints import arm\n"
        "from datagen.schedules import fire_due\n"
        "from datagen.settings import load_settings\n"
        "from datagen.store import open_store\n"
        "home, url, rule, folder = sys.argv[1:]\n"
        "settings = replace(load_settings({}, home=Path(home)), database_url=url)\n"
        "arm(rule, Path(folder))\n"
        "catalog, store = Catalog(url, tenant=None), open_store(settings.store_url)\n"
        "fire_due(catalog, store, settings, lambda *_: None)\n"
    )
    folder = tmp_path / failpoint
    folder.mkdir()
    home, url = str(service.settings.home), service.settings.database_url
    done = subprocess.run(
        [sys.executable, "-c", program, home, url, f"{failpoint}=kill*1", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -9
    assert [path.name for path in folder.iterdir()] == [f"{failpoint}.0"], "it must have fired"


def test_a_beat_that_dies_before_the_job_is_repaired(service: Service, tmp_path: Path) -> None:
    schedule = service.schedule()
    crash(service, "schedule.after_claim", tmp_path)
    assert service.jobs() == []
    [fire] = service.fires(schedule)
    assert (fire.job_uid, fire.error) == (None, None)
    assert service.tick() == 0, "its lock holds"
    service.expire_locks()
    assert service.tick() == 1
    [job] = service.jobs()
    assert service.fires(schedule) == [replace(fire, job_uid=job.uid)]
    assert service.tick() == 0


def test_a_beat_that_dies_after_the_job_makes_no_second_one(
    service: Service, tmp_path: Path
) -> None:
    """Not even when the job was cancelled meanwhile, and would be made anew by its recipe."""
    schedule = service.schedule()
    crash(service, "schedule.after_submit", tmp_path)
    [job] = service.jobs()
    assert service.fires(schedule)[0].job_uid is None
    cancel_job(service.tenant, job.id)
    service.expire_locks()
    assert service.tick() == 1
    assert [fire.job_uid for fire in service.fires(schedule)] == [job.uid]
    repaired = get_job_by_uid(service.tenant, job.uid)
    assert repaired is not None
    assert repaired.state == CANCELLED
    assert len(service.jobs()) == 1


def test_every_tenants_job_is_its_own(service: Service) -> None:
    service.schedule()
    service.tick()
    assert len(service.jobs()) == 1
    assert list_jobs(service.catalog.of("other"), limit=9) == []


def test_the_stored_recipe_is_a_recipe(service: Service) -> None:
    schedule = service.schedule()
    recipe = Recipe.model_validate_json(schedule.recipe)
    assert recipe == resolve(noise_recipe(), []).recipe
