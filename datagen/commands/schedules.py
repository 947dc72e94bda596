"""schedules: recipes that the service runs again and again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import print_facts, print_json, print_table
from datagen.commands.remote import open_client
from datagen.commands.service import PRIORITIES
from datagen.errors import NotFoundError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.results import Schedule

_schedule_argument = click.argument("schedule", metavar="SCHEDULE")


@click.group()
def schedules() -> None:
    """Recipes that the service runs by the clock. SCHEDULE is a name or an id."""


@schedules.command("ls")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the schedules."""
    with open_client(open_settings(home)) as client:
        found = list(client.schedules())
    if as_json:
        print_json({"schedules": [asdict(each) for each in found]})
    elif found:
        header = ["schedule", "cron", "time zone", "next", "id"]
        rows = [[s.name, s.cron, s.timezone, _next_fire(s), s.id] for s in found]
        print_table(header, rows)
    else:
        click.echo("no schedules", err=True)


@schedules.command("show")
@_schedule_argument
@shared_options
def show(schedule: str, home: Path | None, as_json: bool) -> None:
    """Describe a schedule: the fires to come, and those that were."""
    with open_client(open_settings(home)) as client:
        found = _find(client, schedule)
    _print(found, as_json)


@schedules.command("create")
@click.argument("name")
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False), metavar="RECIPE")
@click.option("--cron", required=True, help='Such as "30 2 * * MON-FRI".')
@click.option("--timezone", default="UTC", show_default=True, help="Such as Europe/Berlin.")
@click.option("--same-seed", is_flag=True, help="Make the same images each time: one version.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Else batch.")
@shared_options
def create(
    name: str,
    recipe: Path,
    cron: str,
    timezone: str,
    same_seed: bool,
    priority: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Run a recipe by the clock; each fire makes a new version, from a seed of its own."""
    with open_client(open_settings(home)) as client:
        made = client.create_schedule(
            name,
            cron=cron,
            recipe=recipe,
            timezone=timezone,
            new_seed=not same_seed,
            priority=priority,
        )
    _print(made, as_json)


@schedules.command("pause")
@_schedule_argument
@shared_options
def pause(schedule: str, home: Path | None, as_json: bool) -> None:
    """Fire no more, until resumed; what is missed is not made up for."""
    with open_client(open_settings(home)) as client:
        changed = client.pause_schedule(_find(client, schedule).id)
    _print(changed, as_json)


@schedules.command("resume")
@_schedule_argument
@shared_options
def resume(schedule: str, home: Path | None, as_json: bool) -> None:
    """Fire again."""
    with open_client(open_settings(home)) as client:
        changed = client.resume_schedule(_find(client, schedule).id)
    _print(changed, as_json)


@schedules.command("delete")
@_schedule_argument
@shared_options
def delete(schedule: str, home: Path | None, as_json: bool) -> None:
    """Delete a schedule; the jobs that it made stay."""
    with open_client(open_settings(home)) as client:
        found = _find(client, schedule)
        client.delete_schedule(found.id)
    if as_json:
        print_json({"id": found.id, "name": found.name, "deleted": True})
    else:
        click.echo(f"schedule {found.name} is deleted")


def _find(client: Client, schedule: str) -> Schedule:
    for each in client.schedules():
        if schedule in (each.id, each.name):
            return each
    raise NotFoundError(
        f"schedule {schedule!r} does not exist; `datagen schedules ls` lists those that do"
    )


def _print(found: Schedule, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    facts = {
        "schedule": found.name,
        "id": found.id,
        "cron": f"{found.cron} ({found.timezone})",
        "seed": "a new one each time" if found.new_seed else "the recipe's",
        "priority": found.priority,
        "next": "paused" if found.paused else ", ".join(found.next_fire_times) or "never",
    }
    for fire in found.last_fires:
        facts[f"fired {fire.fire_at}"] = fire.error or f"job {fire.job_id}"
    print_facts(facts)


def _next_fire(found: Schedule) -> str:
    return "paused" if found.paused else next(iter(found.next_fire_times), "never")
