"""validate, plan, run: what is done with a recipe."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.model_facts import refuse_revoked
from datagen.commands.opening import has_catalog, open_library, open_settings, pin_threads
from datagen.commands.output import (
    duration_text,
    plural,
    print_counts,
    print_facts,
    print_json,
    print_rejections,
    size_text,
)
from datagen.commands.progress import progress_bar
from datagen.commands.remote import plan_remote, refuse_remote, validate_remote

if TYPE_CHECKING:
    from datagen.client.results import Plan
    from datagen.embedded import RunResult
    from datagen.forecast import Cost, Forecast, Pilot
    from datagen.resolve import ResolvedRecipe
    from datagen.settings import Settings

_recipe_argument = click.argument(
    "recipe", type=click.Path(path_type=Path, dir_okay=False), metavar="RECIPE"
)
_workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes."
)


@click.command()
@_recipe_argument
@shared_options
def validate(recipe: Path, home: Path | None, as_json: bool) -> None:
    """Check a recipe, without making or writing anything."""
    settings = open_settings(home)
    validated = _validate if settings.api_url is None else validate_remote
    found = validated(recipe, settings)
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{recipe}: valid: {found['name']}, {plural(found['num_images'], 'image')} in "
        f"{plural(found['num_classes'], 'class', 'classes')}, by model {found['model']}"
    )


def _validate(recipe: Path, settings: Settings) -> dict[str, Any]:
    resolved = _resolve(recipe, settings)
    for model in filter(None, (resolved.model, resolved.conditioner_model)):
        refuse_revoked(model, settings)
    asked = resolved.recipe
    return {
        "valid": True,
        "name": asked.name,
        "num_images": asked.num_images,
        "num_classes": len(asked.classes),
        "seed": resolved.seed,
        "model": resolved.model.name,
        "model_digest": resolved.model.digest,
        "recipe_digest": resolved.digest,
    }


@click.command()
@_recipe_argument
@_workers_option
@click.option("--pilot", is_flag=True, help="Make some images, and measure on them; none is kept.")
@shared_options
def plan(recipe: Path, workers: int, pilot: bool, home: Path | None, as_json: bool) -> None:
    """Say what a recipe will make, and how long it will take."""
    settings = open_settings(home)
    if settings.api_url is not None:
        if pilot:
            refuse_remote(settings, "--pilot")
        _print_plan(*plan_remote(recipe, settings), as_json=as_json)
        return
    pin_threads(settings)
    resolved = _resolve(recipe, settings)
    from datagen.forecast import run_pilot

    measured = run_pilot(resolved, settings) if pilot else None
    cost = _forecast(resolved, settings, workers=workers, pilot=measured)
    if as_json:
        print_json({"name": resolved.recipe.name, "recipe_digest": resolved.digest, **asdict(cost)})
    else:
        _print_forecast(resolved, settings, cost)


@click.command()
@_recipe_argument
@_workers_option
@shared_options
def run(recipe: Path, workers: int, home: Path | None, as_json: bool) -> None:
    """Make the data set that a recipe asks for.

    The same recipe again returns the version that exists. An interrupted run goes on where it was
    when the same command is given again.
    """
    settings = open_settings(home)
    pin_threads(settings)
    resolved = _resolve(recipe, settings)
    from datagen.embedded import run_recipe

    expected = _forecast(resolved, settings, workers=workers)
    try:
        with progress_bar() as report:
            result = run_recipe(
                resolved,
                settings,
                workers=workers,
                on_progress=lambda progress: report(progress.stage, progress.done, progress.total),
            )
    except KeyboardInterrupt:
        click.echo("the same command goes on where this one stopped", err=True)
        raise
    if as_json:
        print_json(asdict(result))
    else:
        _print_result(resolved, result, expected, home)


def _forecast(
    resolved: ResolvedRecipe, settings: Settings, *, workers: int, pilot: Pilot | None = None
) -> Forecast:
    from datagen.forecast import forecast

    if not has_catalog(settings):
        return forecast(resolved, settings, workers=workers, catalog=None, pilot=pilot)
    with open_library(settings) as library:
        catalog = library.catalog
        return forecast(resolved, settings, workers=workers, catalog=catalog, pilot=pilot)


def _resolve(recipe: Path, settings: Settings) -> ResolvedRecipe:
    from datagen.recipe import load_recipe

    document = load_recipe(recipe)
    from datagen.deployment_rules import DeploymentRules
    from datagen.resolve import check_real_data_of, resolve

    resolved = resolve(document, [settings.models_dir], DeploymentRules.of(settings))
    check_real_data_of(document, settings)
    return resolved


def _print_plan(facts: dict[str, Any], plan: Plan, *, as_json: bool) -> None:
    """As the service forecasts it, for the workers that it has."""
    if as_json:
        named = {"name": facts["name"], "recipe_digest": facts["recipe_digest"]}
        print_json({**named, **asdict(plan)})
        return
    print_counts(plan.counts)
    click.echo()
    known = plan.seconds is not None
    amount = (plan.cost.device or 0) + plan.cost.storage_per_month
    print_facts(
        {
            "model": f"{facts['model']} ({facts['model_digest'][:12]})",
            "work": f"{plural(plan.units, 'unit')} to generate, "
            f"{plural(plan.shards, 'shard')} to pack",
            "size": f"about {size_text(plan.dataset_bytes)}, and {size_text(plan.cache_bytes)} of "
            "raw images in the cache",
            "time": f"about {duration_text(plan.seconds or 0)}"
            if known
            else "not known: nobody measured this model there yet",
            "cost": f"{amount:.2f} {plan.cost.currency}, a month of storage included"
            + ("" if plan.cost.device is not None else ", the device not"),
        }
    )


def _print_forecast(resolved: ResolvedRecipe, settings: Settings, cost: Forecast) -> None:
    print_counts(cost.counts)
    click.echo()
    facts = {
        "model": f"{resolved.model.name} ({resolved.model.digest[:12]})",
        "work": f"{plural(cost.units, 'unit')} to generate, {plural(cost.shards, 'shard')} to pack",
        "attempts": f"about {cost.attempts:,} images to make for {cost.num_images:,}",
        "size": f"about {size_text(cost.dataset_bytes)}, and {size_text(cost.cache_bytes)} of raw "
        "images in the cache",
        "time": _time_line(cost),
    }
    if settings.price_per_device_hour or settings.price_per_gb_month:
        facts["price"] = _price_line(cost.cost)
    if cost.pilot is not None:
        facts["pilot"] = _pilot_line(cost.pilot)
    if cost.published is not None:
        facts["made"] = f"{cost.published} is this very recipe: a run returns it at once"
    print_facts(facts)


def _time_line(cost: Forecast) -> str:
    if cost.seconds is None or cost.seconds_per_image is None:
        return "not known: nobody measured this model here yet; --pilot does"
    sources = {
        "pilot": "by the pilot",
        "earlier runs": "in earlier runs",
        "model card": "by the model's card",
    }
    return (
        f"about {duration_text(cost.seconds)} with {plural(cost.workers, 'worker')} "
        f"({cost.seconds_per_image * 1000:.2f} ms an image {sources[cost.seconds_basis]})"
    )


def _price_line(cost: Cost) -> str:
    device = "not known" if cost.device is None else f"{cost.device:,.2f} {cost.currency}"
    return f"{device} to make, {cost.storage_per_month:,.2f} {cost.currency} a month to keep"


def _pilot_line(pilot: Pilot) -> str:
    reasons = ", ".join(f"{reason}: {n}" for reason, n in pilot.rejected.items())
    rejected = f"rejected by {reasons}" if reasons else "none rejected"
    return f"{plural(pilot.num_images, 'image')}, {rejected}"


def _print_result(
    resolved: ResolvedRecipe, result: RunResult, expected: Forecast, home: Path | None
) -> None:
    version = f"{result.name}@{result.version}"
    num_images = sum(n for by_split in result.counts.values() for n in by_split.values())
    if result.reused:
        click.echo(f"{version} exists: {plural(num_images, 'image')}, unchanged")
    else:
        click.echo(
            f"{version} made: {plural(num_images, 'image')} in {duration_text(result.seconds)} "
            f"({num_images / result.seconds:,.0f} images/s)"
        )
    click.echo()
    print_counts(
        {c.name: result.counts[c.name] for c in resolved.recipe.classes if c.name in result.counts}
    )
    click.echo()
    if any(result.rejections.values()):
        print_rejections(result.rejections, kept=result.counts)
        click.echo()
    if result.shortfall:
        missing = ", ".join(f"{name}: {n:,}" for name, n in result.shortfall.items())
        click.echo(f"short of the recipe, as it allows: {missing}")
    forecast = {} if result.reused else {"forecast": _against_forecast(result, expected)}
    print_facts(
        {
            **forecast,
            "data set": result.path,
            "contact sheets": f"{result.path}/contact-sheets/",
            "digest": result.digest,
            "next": f"datagen pull {version} {version.replace('@', '-')} --format imagefolder"
            + (f" --home {home}" if home else ""),
        }
    )


def _against_forecast(result: RunResult, expected: Forecast) -> str:
    """What `datagen plan` would have said, and what it was."""
    was_s = duration_text(result.seconds)
    told = "" if expected.seconds is None else f"{duration_text(expected.seconds)}, took {was_s}; "
    return f"{told}{plural(expected.attempts, 'attempt')}, made {result.images_generated:,}"
