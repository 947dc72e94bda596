"""trainings: models that the service trains."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import duration_text, print_facts, print_json, print_table
from datagen.commands.progress import progress_bar
from datagen.commands.remote import open_client
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.results import Training

_STATES = ("QUEUED", "RUNNING", "PUBLISHED", "FAILED", "CANCELLED")


def _check_id(ctx: click.Context, parameter: click.Parameter, text: str) -> str:
    """Raises InputError before anything is asked."""
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise InputError(
            f"training {text!r}: expected the 32 hex digits that `datagen trainings ls` lists"
        )
    return text


_training_argument = click.argument("training_id", metavar="TRAINING", callback=_check_id)


@click.group()
def trainings() -> None:
    """Models that the service trains; `datagen train` trains here."""


@trainings.command("submit")
@click.argument("recipe", metavar="MODEL_RECIPE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--idempotency-key", metavar="KEY", help="Else derived from the recipe.")
@click.option("--wait", is_flag=True, help="Follow the training to its end, as watch does.")
@shared_options
def submit(
    recipe: Path, idempotency_key: str | None, wait: bool, home: Path | None, as_json: bool
) -> None:
    """Give a model recipe to the service.

    The same recipe again gives the training that it has; one that failed or was cancelled is begun
    anew.
    """
    with open_client(open_settings(home), waiting=wait) as client:
        training = client.submit_training(recipe, idempotency_key=idempotency_key)
        if wait:
            training = _follow(client, training.id)
    _show(training, as_json)


@trainings.command("ls")
@click.option("--state", type=click.Choice(_STATES), help="In this state alone.")
@click.option("--name", metavar="NAME", help="Of this model alone.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@shared_options
def list_(
    state: str | None, name: str | None, limit: int, home: Path | None, as_json: bool
) -> None:
    """List the newest trainings."""
    with open_client(open_settings(home)) as client:
        found = list(islice(client.trainings(state=state, name=name), limit))
    if as_json:
        print_json({"trainings": [asdict(training) for training in found]})
    elif found:
        rows = [[t.id, t.name, t.state, _images_text(t), t.created_at] for t in found]
        print_table(["training", "model", "state", "images", "created"], rows)
    else:
        click.echo("no trainings", err=True)


@trainings.command("show")
@_training_argument
@shared_options
def show(training_id: str, home: Path | None, as_json: bool) -> None:
    """Describe one: how far it is, or why it failed."""
    with open_client(open_settings(home)) as client:
        training = client.training(training_id)
    _show(training, as_json)


@trainings.command("watch")
@_training_argument
@shared_options
def watch(training_id: str, home: Path | None, as_json: bool) -> None:
    """Follow one to its end; exit code 4 if it fails."""
    with open_client(open_settings(home), waiting=True) as client:
        training = _follow(client, training_id)
    _show(training, as_json)


@trainings.command("cancel")
@_training_argument
@shared_options
def cancel(training_id: str, home: Path | None, as_json: bool) -> None:
    """Stop one, and give its checkpoint up."""
    with open_client(open_settings(home)) as client:
        training = client.cancel_training(training_id)
    _show(training, as_json)


@trainings.command("retry")
@_training_argument
@shared_options
def retry(training_id: str, home: Path | None, as_json: bool) -> None:
    """Let one that failed go on from its last checkpoint."""
    with open_client(open_settings(home)) as client:
        training = client.retry_training(training_id)
    _show(training, as_json)


def _follow(client: Client, training_id: str) -> Training:
    try:
        with progress_bar() as report:
            return client.wait_training(
                training_id,
                on_progress=lambda progress: report(
                    "train", progress.images_seen, progress.num_images
                ),
            )
    except KeyboardInterrupt:
        again = f"`datagen trainings watch {training_id}`"
        click.echo(f"the training goes on; {again} follows it again", err=True)
        raise


def _show(training: Training, as_json: bool) -> None:
    if as_json:
        print_json(asdict(training))
        return
    click.echo(f"{training.name}: training {training.id} is {training.state}\n")
    print_facts(_facts(training))


def _facts(training: Training) -> dict[str, str]:
    facts = {"recipe digest": training.recipe_digest, "created": training.created_at}
    found = {
        "started": training.started_at,
        "ended": training.ended_at,
        "error": training.error,
        "waiting for": training.waiting_for,
        "model digest": training.model_digest,
    }
    facts |= {name: text for name, text in found.items() if text is not None}
    progress = training.progress
    if progress is not None:
        facts["images seen"] = _images_text(training)
    if progress is not None and progress.losses:
        told = [f"{name} {value:.4g}" for name, value in progress.losses.items()]
        facts["losses"] = ", ".join(told)
    if progress is not None and progress.best_distance is not None:
        facts["best weights"] = (
            f"distance {progress.best_distance:.4g} after {progress.best_images_seen:,} images"
        )
    if progress is not None and progress.seconds_left is not None:
        facts["time left"] = duration_text(progress.seconds_left)
    return facts | {"next": _next(training)}


def _images_text(training: Training) -> str:
    progress = training.progress
    return "" if progress is None else f"{progress.images_seen:,} of {progress.num_images:,}"


def _next(training: Training) -> str:
    if training.state == "PUBLISHED":
        return f"generator: {{model: {training.name}}} in a recipe"
    if training.state == "FAILED":
        return f"datagen trainings retry {training.id}"
    if training.has_ended:
        return "datagen trainings submit MODEL_RECIPE"
    return f"datagen trainings watch {training.id}"
