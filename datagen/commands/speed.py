"""bench: how fast each model is alone, and how fast the whole path is with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings, pin_threads
from datagen.commands.output import plural, print_json, print_table
from datagen.commands.progress import progress_bar

if TYPE_CHECKING:
    from datagen.bench import Measurement


@click.command()
@click.option(
    "--generators",
    default="",
    metavar="A,B,...",
    help="Generators or models; all generators that have a model, if left out.",
)
@click.option(
    "--images",
    "num_images",
    type=click.IntRange(10, 10_000_000),
    help="Images a round; as many as take some seconds, if left out.",
)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--augment", is_flag=True, help="With the transforms of fashion-quickstart.")
@shared_options
def bench(
    generators: str,
    num_images: int | None,
    rounds: int,
    augment: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Measure images per second.

    Each model alone and the whole path run in turn, in one process, several times; medians are
    printed. Nothing is written to the home.
    """
    settings = open_settings(home)
    pin_threads(settings)
    from datagen.bench import choose_models, machine, run_bench

    names = [name.strip() for name in generators.split(",") if name.strip()]
    models = choose_models(names, settings.models_dir)
    with progress_bar() as report:
        measured = run_bench(
            settings,
            models=models,
            num_images=num_images,
            rounds=rounds,
            augment=augment,
            report=report,
        )
    about = machine(settings)
    if as_json:
        keys = names or [each.generator for each in measured]
        content = {key: asdict(each) for key, each in zip(keys, measured, strict=True)}
        print_json({"machine": about, "rounds": rounds, "generators": content})
    else:
        _print_measured(measured, about, rounds)


def _print_measured(measured: list[Measurement], about: dict[str, Any], rounds: int) -> None:
    print_table(
        ["generator", "model", "images/s", "model alone", "ratio", "overhead core-us", "images"],
        [
            [
                each.generator,
                each.model,
                f"{each.images_per_s:,.1f}",
                f"{each.model_images_per_s:,.1f}",
                f"{each.ratio:.3f}",
                f"{each.overhead_core_us:,.0f}",
                each.num_images,
            ]
            for each in measured
        ],
    )
    click.echo()
    for each in measured:
        click.echo(f"{each.generator}: {_recipe_text(each)}")
    click.echo(
        f"medians of {plural(rounds, 'round')}, one worker with "
        f"{plural(about['torch_threads'], 'thread')}, {about['device']}; {about['cpu']}, "
        f"{plural(about['cores'], 'core')}, load {about['load']:.1f}"
    )


def _recipe_text(each: Measurement) -> str:
    recipe = each.recipe
    height, width = recipe["image_size"]
    filters = " + ".join(f["filter"] for f in recipe["filters"]) or "none"
    transforms = " + ".join(a["transform"] for a in recipe["augmentations"]) or "none"
    return (
        f"{width} x {height} pixels, {plural(len(recipe['classes']), 'class', 'classes')}, "
        f"filters {filters}, augmentations {transforms}, PNG in shards of "
        f"{recipe['output']['shard_size']}, {each.num_attempts:,} attempts"
    )
