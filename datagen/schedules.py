"""Schedules: when cron expressions fire, and one job for each time that they do.

A beat only ticks: it calls fire_due, as often as it likes, with as many others as it likes. Of the
fire times that passed while nothing ticked, only the latest is fired. Called by workers/beat and,
for the checks and the next fire times, by the API.
"""

from __future__ import annotations

import json
import logging
import zoneinfo
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import islice, takewhile

from datagen.catalog.catalog import Catalog
from datagen.catalog.schedules import (
    ClaimedFire,
    Schedule,
    claim_abandoned_fires,
    claim_fire,
    due_schedules,
    finish_fire,
    job_of_fire,
)
from datagen.deployment_rules import DeploymentRules
from datagen.errors import DatagenError, RetryableError
from datagen.failpoints import failpoint
from datagen.faults import suggest
from datagen.plan import seed_of_fire
from datagen.recipe import Recipe
from datagen.registry import models_dirs
from datagen.resolve import model_requests, resolve_recipe
from datagen.settings import Settings
from datagen.store import Store
from datagen.submission import Request, submit
from datagen.sweeper import Wake, wake_job

# How long a beat may take from a fire's row to its job before another beat takes over.
LOCK_S = 60.0
_BATCH = 100  # schedules of one tick

_PARTS = {
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, such as MON-FRI, MON#1 or 5L",
}

_log = logging.getLogger("datagen.schedules")


def check_cron(text: str) -> str:
    """Returns the expression with single blanks.

    Raises ValueError that names the part at fault and completes "expected ...".
    """
    parts = text.split()
    if len(parts) != len(_PARTS):
        raise ValueError(
            f"five parts, {' '.join(_PARTS)}, such as '30 2 * * MON-FRI'; here are {len(parts)}"
        )
    for place, (name, allowed) in enumerate(_PARTS.items()):
        alone = ["*"] * len(_PARTS)
        alone[place] = parts[place]
        if not _is_cron(" ".join(alone)):
            raise ValueError(
                f"another {name} than {parts[place]!r}: {allowed}, lists as 1,2, ranges as 1-5, "
                "steps as */2"
            )
    cron = " ".join(parts)
    if not _is_cron(cron):
        raise ValueError(f"a day that exists: no month {parts[3]} has a day {parts[2]}")
    return cron


def check_timezone(name: str) -> str:
    """Raises ValueError that completes "expected ..."."""
    known = _known_timezones()
    if name not in known:
        raise ValueError(
            f"a time zone of the IANA database, such as Europe/Berlin or UTC{suggest(name, known)}"
        )
    return name


def next_fire_times(cron: str, timezone: str, *, after: float, count: int) -> list[int]:
    """Seconds since the epoch; fewer than `count` where the expression ends."""
    return list(islice(_fire_times(cron, timezone, after=after), count))


def latest_fire_time(cron: str, timezone: str, *, first: int, now: float) -> int:
    """The last fire time in [first, now]; first is one. Years of every minute are not walked."""
    span_s = 3600.0
    while True:
        after = max(first, now - span_s)
        times = takewhile(lambda at: at <= now, _fire_times(cron, timezone, after=after))
        latest = max(times, default=None)
        if latest is not None:
            return latest
        if after == first:
            return first
        span_s *= 24


def fire_due(catalog: Catalog, store: Store, settings: Settings, wake: Wake) -> int:
    """Makes the jobs of all that is due, and of fires whose beat died before it made theirs.

    catalog: of all tenants. Returns the number of fires that got a job.
    Raises RetryableError; what was begun then is taken up again once its lock has ended.
    """
    fires = claim_abandoned_fires(catalog, lock_s=LOCK_S, limit=_BATCH)
    made = sum(_make_job(fire, catalog, store, settings, wake) for fire in fires)
    now, due = due_schedules(catalog, limit=_BATCH)
    for schedule in due:
        fire = _claim(catalog, schedule, now)
        if fire is not None:
            failpoint("schedule.after_claim")
            made += _make_job(fire, catalog, store, settings, wake)
    return made


def _claim(catalog: Catalog, schedule: Schedule, now: float) -> ClaimedFire | None:
    assert schedule.next_fire_at is not None
    cron, timezone = schedule.cron, schedule.timezone
    try:
        fire_at = latest_fire_time(cron, timezone, first=schedule.next_fire_at, now=now)
        following = next_fire_times(cron, timezone, after=now, count=1)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError):
        # Its zone left the time zone database. Others must fire all the same.
        _log.exception("schedule %s cannot be computed", schedule.id)
        return None
    next_fire_at = following[0] if following else None
    return claim_fire(catalog, schedule, fire_at, next_fire_at=next_fire_at, lock_s=LOCK_S)


def _make_job(
    fire: ClaimedFire, catalog: Catalog, store: Store, settings: Settings, wake: Wake
) -> bool:
    """Returns whether there is a job. Why there is none is kept with the fire."""
    try:
        job_id = job_of_fire(catalog, fire) or _submit(fire, catalog, store, settings)
    except RetryableError:
        raise
    except DatagenError as error:
        finish_fire(catalog, fire, error=str(error))
        return False
    except Exception as error:  # the edge of a task: recorded, and the other schedules go on
        _log.exception("schedule %s", fire.schedule.id)
        finish_fire(catalog, fire, error=f"{type(error).__name__}: {error}")
        return False
    failpoint("schedule.after_submit")
    finish_fire(catalog, fire, job_id=job_id)
    wake_job(catalog, job_id, wake)
    return True


def _submit(fire: ClaimedFire, catalog: Catalog, store: Store, settings: Settings) -> int:
    schedule = fire.schedule
    content = json.loads(schedule.recipe)
    if schedule.new_seed:
        content["seed"] = seed_of_fire(schedule.id, fire.fire_at)
    recipe = Recipe.model_validate(content)
    mine, theirs = catalog.of(schedule.tenant), settings.of(schedule.tenant)
    folders = models_dirs(mine, store, theirs, model_requests(recipe))
    request = Request(
        priority=schedule.priority,
        created_by=schedule.created_by,
        idempotency_key=fire.idempotency_key,
    )
    rules = DeploymentRules.of(theirs, serves=True)
    return submit(mine, resolve_recipe(recipe, folders, rules), theirs, request).id


def _fire_times(cron: str, timezone: str, *, after: float) -> Iterator[int]:
    """Fixed times follow Debian's cron: one that a clock change skips fires right after the gap,
    one that it repeats fires once. `* * * * *` and its like follow real time."""
    from cronsim import CronSim

    latest = int(after)
    start = datetime.fromtimestamp(latest, zoneinfo.ZoneInfo(timezone))
    for moment in CronSim(cron, start):
        at = int(moment.timestamp())
        # Asked within the repeated hour, CronSim begins with its first pass, which is over.
        if at > latest:
            latest = at
            yield at


def _is_cron(expression: str) -> bool:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(expression, datetime(2000, 1, 1))
    except CronSimError:
        return False
    return expression.isascii()


@cache
def _known_timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
