"""submit, jobs, watch, cancel, retry, preview: what is done with the jobs of a service."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import (
    duration_text,
    plural,
    print_counts,
    print_facts,
    print_json,
    print_rejections,
    print_table,
    size_text,
)
from datagen.commands.progress import progress_bar
from datagen.commands.remote import check_job_id, open_client
from datagen.errors import JobError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.results import Job, Preview

Command = TypeVar("Command", bound=Callable[..., Any])

PRIORITIES = ("interactive", "batch")
STATES = ("RUNNING", "PUBLISHING", "PUBLISHED", "FAILED", "CANCELLED")

_recipe_argument = click.argument(
    "recipe", type=click.Path(path_type=Path, dir_okay=False), metavar="RECIPE"
)
_job_argument = click.argument(
    "job_id", metavar="JOB", callback=lambda ctx, parameter, value: check_job_id(value)
)


@click.command()
@_recipe_argument
@click.option("--priority", type=click.Choice(PRIORITIES), help="Else batch.")
@click.option("--idempotency-key", metavar="KEY", help="Else derived from the recipe.")
@click.option("--wait", is_flag=True, help="Follow the job to its end, as watch does.")
@shared_options
def submit(
    recipe: Path,
    priority: str | None,
    idempotency_key: str | None,
    wait: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Give a recipe to the service.

    The same recipe again gives the job that it has; one that failed or was cancelled is tried
    again.
    """
    with open_client(open_settings(home), waiting=wait) as client:
        job = client.submit(recipe, idempotency_key=idempotency_key, priority=priority)
        if wait:
            job = _follow(client, job.id)
    show_job(job, as_json)


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--state", type=click.Choice(STATES), help="In this state alone.")
@click.option("--name", metavar="NAME", help="Of this data set alone.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@shared_options
def jobs(
    job_id: str | None,
    state: str | None,
    name: str | None,
    limit: int,
    home: Path | None,
    as_json: bool,
) -> None:
    """List the newest jobs of the service, or describe one."""
    with open_client(open_settings(home)) as client:
        if job_id is not None:
            show_job(client.job(check_job_id(job_id)), as_json)
            return
        found = list(islice(client.jobs(state=state, name=name), limit))
    if as_json:
        print_json({"jobs": [asdict(job) for job in found]})
    elif found:
        header = ["job", "data set", "state", "priority", "created"]
        rows = [[j.id, f"{j.name}@{j.version}", j.state, j.priority, j.created_at] for j in found]
        print_table(header, rows)
    else:
        click.echo("no jobs", err=True)


@click.command()
@_job_argument
@shared_options
def watch(job_id: str, home: Path | None, as_json: bool) -> None:
    """Follow a job to its end; exit code 4 if it fails."""
    with open_client(open_settings(home), waiting=True) as client:
        job = _follow(client, job_id)
    show_job(job, as_json)


@click.command()
@_job_argument
@shared_options
def cancel(job_id: str, home: Path | None, as_json: bool) -> None:
    """Cancel a job that is not being published yet."""
    with open_client(open_settings(home)) as client:
        job = client.cancel(job_id)
    show_job(job, as_json)


@click.command()
@_job_argument
@click.option("--restart", is_flag=True, help="From the start, by the workers of now.")
@shared_options
def retry(job_id: str, restart: bool, home: Path | None, as_json: bool) -> None:
    """Let a failed job go on: its failed units are tried again."""
    with open_client(open_settings(home)) as client:
        job = client.restart(job_id) if restart else client.retry(job_id)
    show_job(job, as_json)


@click.command()
@_recipe_argument
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@shared_options
def preview(recipe: Path, out: Path, home: Path | None, as_json: bool) -> None:
    """Make the first 8 images of each class, and write them into a new folder."""
    from datagen.formats.staging import staged_folder

    with open_client(open_settings(home)) as client, staged_folder(out) as folder:
        found = client.preview(recipe)
        files = _write_pictures(found, folder)
    if as_json:
        print_json({"id": found.id, "path": str(out.absolute()), "images": files})
    else:
        click.echo(f"{plural(len(files), 'image')} written to {out}")


def _follow(client: Client, job_id: str) -> Job:
    try:
        with progress_bar() as report:
            return client.wait(
                job_id,
                on_progress=lambda progress: report(
                    progress.stage or "", progress.units_done, progress.units_total
                ),
            )
    except KeyboardInterrupt:
        click.echo(f"the job goes on; `datagen watch {job_id}` follows it again", err=True)
        raise


def _write_pictures(found: Preview, folder: Path) -> list[dict[str, Any]]:
    files = []
    for image in found.images:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", image.class_name):
            raise JobError(f"preview {found.id}: class {image.class_name!r} is no plain name")
        name = f"{image.class_name}-{image.ordinal:08d}.png"
        (folder / name).write_bytes(base64.b64decode(image.png_base64))
        files.append({"class_name": image.class_name, "ordinal": image.ordinal, "file": name})
    return files


def show_job(job: Job, as_json: bool) -> None:
    if as_json:
        print_json(asdict(job))
        return
    click.echo(f"{job.name}@{job.version}: job {job.id} is {job.state}\n")
    if job.counts is not None:
        print_counts(job.counts)
        click.echo()
    if job.counts is not None and job.progress is not None:
        rejections = {name: each.rejected for name, each in job.progress.classes.items()}
        if any(rejections.values()):
            print_rejections(rejections, kept=job.counts)
            click.echo()
    print_facts(_facts(job))


def _facts(job: Job) -> dict[str, str]:
    facts = {
        "recipe digest": job.recipe_digest,
        "priority": job.priority,
        "created": job.created_at,
    }
    if job.finished_at is not None:
        facts["finished"] = job.finished_at
    if job.error is not None:
        facts["error"] = job.error
    if job.waiting_for is not None:
        facts["waiting for"] = job.waiting_for
    if job.progress is not None and not job.has_ended:
        facts["progress"] = _progress_line(job)
    if job.cost is not None:
        facts["cost"] = (
            f"{duration_text(job.cost.device_seconds)} of a device, {size_text(job.cost.bytes)}: "
            f"{job.cost.amount:.2f} {job.cost.currency}"
        )
    if job.digest is not None:
        facts["digest"] = job.digest
    facts["next"] = _next(job)
    return facts


def _progress_line(job: Job) -> str:
    progress = job.progress
    assert progress is not None
    done = f"{progress.stage}, {progress.units_done:,} of {plural(progress.units_total, 'unit')}"
    rate = f", {progress.images_per_s:,.0f} images/s" if progress.images_per_s else ""
    left = progress.seconds_left
    return done + rate + (f", {duration_text(left)} left" if left is not None else "")


def _next(job: Job) -> str:
    version = f"{job.name}@{job.version}"
    if job.state == "PUBLISHED":
        return f"datagen pull {version} {version.replace('@', '-')} --format imagefolder"
    if job.state == "FAILED":
        return f"datagen retry {job.id}"
    return "datagen submit RECIPE" if job.has_ended else f"datagen watch {job.id}"
