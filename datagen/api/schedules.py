"""Schedules: recipes that are run again and again, by cron and time zone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, BaseModel, Field, StrictBool

from datagen.api.dependencies import Context, Reader, Submitter, audit
from datagen.api.job_view import Priority, time_text
from datagen.api.paging import Page, Paging
from datagen.api.priorities import check_priority
from datagen.api.problems import problem_responses
from datagen.api.recipe_body import Body, RecipeObject, read_recipe, resolve_in
from datagen.catalog.schedules import (
    NewSchedule,
    Schedule,
    create_schedule,
    database_time,
    delete_schedule,
    get_schedule,
    last_fires,
    list_schedules,
    set_paused,
)
from datagen.recipe import canonical_json
from datagen.schedules import check_cron, check_timezone, next_fire_times

NUM_FIRES = 5  # shown, of those to come and of those that were

ScheduleId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits")]


class ScheduleRequest(Body):
    """new_seed: each fire makes a new version, from a seed of its own; else it finds the version
    that exists."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    cron: Annotated[str, Field(max_length=255), AfterValidator(check_cron)] = Field(
        description="minute hour day-of-month month day-of-week", examples=["30 2 * * MON-FRI"]
    )
    timezone: Annotated[str, Field(max_length=63), AfterValidator(check_timezone)] = Field(
        default="UTC", description="Of the IANA database", examples=["Europe/Berlin"]
    )
    recipe: RecipeObject
    new_seed: StrictBool = True
    priority: Priority = "batch"


class ScheduleChange(Body):
    """What was missed while it was paused is not made up for."""

    paused: StrictBool


class FireView(BaseModel):
    """job_id and error: both null while the job is being made."""

    fire_at: str
    job_id: str | None
    error: str | None


class ScheduleView(BaseModel):
    """next_fire_times: the next five; none while it is paused. last_fires: the newest five."""

    id: str
    name: str
    cron: str
    timezone: str
    recipe: dict[str, Any]
    new_seed: bool
    priority: Priority
    paused: bool
    next_fire_times: list[str]
    last_fires: list[FireView]
    created_at: str


def router() -> APIRouter:
    routes = APIRouter(prefix="/schedules", tags=["schedules"])
    _add_reading(routes)
    _add_changing(routes)
    return routes


def _add_reading(routes: APIRouter) -> None:
    @routes.get("")
    def list_all_schedules(context: Reader, page: Paging) -> Page[ScheduleView]:
        """By name."""
        after = page.after(context.tenant, "schedules", (str,))
        found = list_schedules(
            context.catalog,
            limit=page.limit + 1,
            after_name=str(after[0]) if after else None,
        )
        last = found[page.limit - 1].name if len(found) > page.limit else None
        items = _views(context, found)
        return page.page(items, context.tenant, "schedules", None if last is None else [last])

    @routes.get("/{schedule_id}")
    def read_schedule(context: Reader, schedule_id: ScheduleId) -> ScheduleView:
        return _view(context, get_schedule(context.catalog, schedule_id))


def _add_changing(routes: APIRouter) -> None:
    @routes.post("", status_code=201, responses=problem_responses(409, 429))
    def make_schedule(
        context: Submitter, body: ScheduleRequest, response: Response
    ) -> ScheduleView:
        """The recipe is checked now and resolved again at each fire."""
        recipe = read_recipe(body.recipe)
        check_priority(body.priority, recipe.num_images)
        resolve_in(context, recipe)
        new = NewSchedule(
            name=body.name,
            cron=body.cron,
            timezone=body.timezone,
            recipe=canonical_json(recipe.to_json()).decode(),
            new_seed=body.new_seed,
            priority=body.priority,
            next_fire_at=_next_fire_at(context, body.cron, body.timezone),
            created_by=context.principal.actor,
        )
        schedule = create_schedule(context.catalog, new)
        detail = {"name": new.name, "cron": new.cron, "timezone": new.timezone}
        audit(context, "schedule.create", schedule.id, detail)
        response.headers["Location"] = f"/v1/schedules/{schedule.id}"
        return _view(context, schedule)

    @routes.patch("/{schedule_id}")
    def pause_schedule(
        context: Submitter, schedule_id: ScheduleId, body: ScheduleChange
    ) -> ScheduleView:
        known = get_schedule(context.catalog, schedule_id)
        schedule = set_paused(
            context.catalog,
            schedule_id,
            paused=body.paused,
            next_fire_at=_next_fire_at(context, known.cron, known.timezone),
        )
        action = "schedule.pause" if body.paused else "schedule.resume"
        audit(context, action, schedule_id, {"name": known.name})
        return _view(context, schedule)

    @routes.delete("/{schedule_id}", status_code=204)
    def remove_schedule(context: Submitter, schedule_id: ScheduleId) -> None:
        """The jobs that it made stay."""
        delete_schedule(context.catalog, schedule_id)
        audit(context, "schedule.delete", schedule_id, {})


def _next_fire_at(context: Context, cron: str, timezone: str) -> int | None:
    now = database_time(context.catalog)
    return next(iter(next_fire_times(cron, timezone, after=now, count=1)), None)


def _view(context: Context, schedule: Schedule) -> ScheduleView:
    [view] = _views(context, [schedule])
    return view


def _views(context: Context, found: Sequence[Schedule]) -> list[ScheduleView]:
    now = database_time(context.catalog)
    fires = last_fires(context.catalog, [schedule.id for schedule in found], limit=NUM_FIRES)
    views = []
    for each in found:
        count = 0 if each.paused else NUM_FIRES
        coming = next_fire_times(each.cron, each.timezone, after=now, count=count)
        views.append(
            ScheduleView(
                id=each.id,
                name=each.name,
                cron=each.cron,
                timezone=each.timezone,
                recipe=json.loads(each.recipe),
                new_seed=each.new_seed,
                priority=each.priority,  # type: ignore[arg-type]  # pydantic checks it
                paused=each.paused,
                next_fire_times=[time_text(moment) for moment in coming],
                last_fires=[
                    FireView(fire_at=time_text(f.fire_at), job_id=f.job_uid, error=f.error)
                    for f in fires[each.id]
                ],
                created_at=time_text(each.created_at),
            )
        )
    return views
