"""refilter: a new version out of the attempts that are there, by other filters or by a review."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_library, open_settings, pin_threads
from datagen.commands.output import (
    duration_text,
    plural,
    print_counts,
    print_facts,
    print_json,
    print_rejections,
)
from datagen.commands.progress import progress_bar
from datagen.commands.remote import open_client
from datagen.commands.service import show_job

if TYPE_CHECKING:
    from datagen.catalog.rows import VersionRow
    from datagen.embedded import RunResult
    from datagen.refilter import Changes, Refilter
    from datagen.settings import Settings


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@click.option(
    "--set",
    "settings_given",
    multiple=True,
    metavar="FILTER.OPTION=VALUE",
    help="Such as blank.min_contrast=0.05; FILTER=off takes a filter away. Several at once.",
)
@click.option(
    "--review",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="MARKS.JSON",
    help="Marks of the report's gallery: images marked drop or wrong_label go.",
)
@click.option(
    "--drop-flagged", is_flag=True, help="Near copies of the newest evaluation go as well."
)
@click.option(
    "--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes."
)
@shared_options
def refilter(
    version: str,
    settings_given: tuple[str, ...],
    review: Path | None,
    drop_flagged: bool,
    workers: int,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a new version with other filters, or without the images that a reviewer refused.

    Attempts that were made before are used as they are: the model makes only what is missing. The
    result is what a fresh run of the changed recipe would be.
    """
    settings = open_settings(home)
    changes = _changes(settings_given, review, drop_flagged=drop_flagged)
    if settings.api_url is not None:
        with open_client(settings) as client:
            job = client.refilter(
                version, options=changes.options, marks=changes.marks, drop_flagged=drop_flagged
            )
        show_job(job, as_json)
        return
    pin_threads(settings)
    planned, row = _plan(version, changes, settings)
    result = _run(planned, settings, workers=workers)
    _keep_marks(row, changes, settings)
    source = f"{row.name}@{row.version}"
    if as_json:
        print_json({**asdict(result), "source": source, "dropped": planned.num_dropped})
    else:
        _print_result(result, source, planned.num_dropped)


def _changes(given: tuple[str, ...], review: Path | None, *, drop_flagged: bool) -> Changes:
    from datagen.refilter import Changes, parse_setting
    from datagen.review import load_marks

    options = dict(parse_setting(text) for text in given)
    marks = None if review is None else load_marks(review)
    return Changes(options, marks, str(review or "marks"), drop_flagged)


def _plan(version: str, changes: Changes, settings: Settings) -> tuple[Refilter, VersionRow]:
    """And the version that it starts from."""
    with open_library(settings) as library:
        from datagen.deployment_rules import DeploymentRules
        from datagen.refilter import plan_refilter
        from datagen.registry import models_dirs
        from datagen.versions import find_version

        catalog, store = library.catalog, library.store
        row = find_version(catalog, version)
        planned = plan_refilter(
            catalog,
            store,
            row,
            changes,
            lambda names: models_dirs(catalog, store, settings, names),
            DeploymentRules.of(settings),
        )
        return planned, row


def _keep_marks(row: VersionRow, changes: Changes, settings: Settings) -> None:
    """With the version that they are of, now that there is one without what they refuse."""
    with open_library(settings) as library:
        from datagen.commands.keys import OPERATOR
        from datagen.refilter import keep_marks

        keep_marks(library.catalog, library.store, row, changes, by=OPERATOR)


def _run(planned: Refilter, settings: Settings, *, workers: int) -> RunResult:
    from datagen.embedded import run_recipe

    try:
        with progress_bar() as report:
            return run_recipe(
                planned.resolved,
                settings,
                workers=workers,
                on_progress=lambda progress: report(progress.stage, progress.done, progress.total),
            )
    except KeyboardInterrupt:
        click.echo("the same command goes on where this one stopped", err=True)
        raise


def _print_result(result: RunResult, source: str, num_dropped: int) -> None:
    version = f"{result.name}@{result.version}"
    if result.reused:
        click.echo(f"{version} exists: it is what {source} becomes with these changes\n")
    else:
        click.echo(f"{version} made of {source} in {duration_text(result.seconds)}\n")
    print_counts(result.counts)
    click.echo()
    if any(result.rejections.values()):
        print_rejections(result.rejections, kept=result.counts)
        click.echo()
    facts: dict[str, Any] = {
        "dropped": f"{plural(num_dropped, 'image')} of {source}",
        "generated": f"{plural(result.images_generated, 'image')}; all others were there",
        "data set": result.path,
        "digest": result.digest,
        "next": f"datagen diff {source} {version}",
    }
    print_facts(facts)
