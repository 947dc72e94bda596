"""evaluate: what a data set is worth, measured against real images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.opening import (
    address_text,
    has_catalog,
    open_library,
    open_settings,
    pin_threads,
)
from datagen.commands.out_folder import out_folder, write_files
from datagen.commands.output import duration_text, print_facts, print_json
from datagen.commands.progress import progress_bar
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from datagen.evaluation.assess import Assessment
    from datagen.evaluation.evaluate import Options
    from datagen.settings import Settings

_DATA = DataPath(path_type=Path)
_NAME_OR_DATA = DataPath(path_type=str)
_NUM_STEPS = 8


@dataclass(frozen=True)
class _Sources:
    """Where the real images are."""

    reference: str
    held_out: Path | None
    baseline: Path | None


@click.command()
@click.argument("target", type=_NAME_OR_DATA, metavar="NAME[@VERSION]|DIR")
@click.option(
    "--reference",
    type=_NAME_OR_DATA,
    required=True,
    metavar="DATA",
    help="Real images: a name or a folder.",
)
@click.option("--held-out", type=_DATA, metavar="DATA", help="Real images that no model has seen.")
@click.option("--baseline", type=_DATA, metavar="DATA", help="Other images to compare with.")
@click.option(
    "--quick",
    is_flag=True,
    help="About two minutes on two free cores: smaller samples, fewer repeats.",
)
@click.option("--trainer", metavar="CMD", help="Your training program: see docs/utility.md.")
@click.option("--features", metavar="NAME", help="Of fidelity: see docs/metrics.md.")
@click.option(
    "--margin",
    type=click.FloatRange(0.0001, 0.5),
    default=0.01,
    show_default=True,
    help="Accuracies that differ by less count as equal.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; else 2, or the cores.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.html and evaluation.json here.",
)
@shared_options
def evaluate(
    target: str,
    reference: str,
    held_out: Path | None,
    baseline: Path | None,
    quick: bool,
    trainer: str | None,
    features: str | None,
    margin: float,
    seed: int,
    workers: int | None,
    out: Path | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Measure a data set, or any folder of images by class: labels, fidelity, worth, copies.

    Of a version the report is attached: `datagen report NAME --open` shows it. Of a folder it is
    written to --out, ./NAME-evaluation by default.
    """
    started = time.monotonic()
    settings = open_settings(home)
    refuse_remote(settings, "evaluate")
    pin_threads(settings)
    from datagen.evaluation.evaluate import Options
    from datagen.evaluation.utility import CommandTrainer
    from datagen.features import FeatureCache, check_extractor

    # Refused now, not after minutes.
    if trainer is not None:
        CommandTrainer(trainer, ())
    if features is not None:
        check_extractor(features)
    options = Options(
        quick=quick,
        seed=seed,
        margin=margin,
        workers=workers or min(2, os.cpu_count() or 1),
        features=features,
        trainer=trainer,
        cache=FeatureCache(settings.home / "features") if settings.home.is_dir() else None,
    )
    sources = _Sources(reference, held_out, baseline)
    with progress_bar() as report:
        steps = _steps(report)
        if _is_version(target, settings):
            found, path = _evaluate_version(target, sources, options, settings, out, steps)
        else:
            found, path = _evaluate_folder(target, sources, options, settings, out, steps)
    if as_json:
        seconds = dict(found.evaluation.seconds)
        print_json({**found.evaluation.to_json(), "seconds": seconds, "report": path})
    else:
        _print(found, path, home, seconds=time.monotonic() - started)


def _steps(report: Callable[[str, int, int], None]) -> Callable[[str], None]:
    seen: list[str] = []

    def step(text: str) -> None:
        seen.append(text)
        report(text, min(len(seen), _NUM_STEPS), _NUM_STEPS)

    return step


def _is_version(target: str, settings: Settings) -> bool:
    """A version of that name goes before a folder of that name; ./NAME is always a folder."""
    from datagen.versions import find_version

    if not has_catalog(settings) or "/" in target:
        return False
    with open_library(settings) as library:
        try:
            find_version(library.catalog, target)
        except InputError:
            return False
        except NotFoundError:
            if Path(target).is_dir():
                return False
            raise
    return True


def _evaluate_version(
    target: str,
    sources: _Sources,
    options: Options,
    settings: Settings,
    out: Path | None,
    on_progress: Callable[[str], None],
) -> tuple[Assessment, str]:
    """Returns the assessment and where the report is."""
    from datagen.assessment import assess_version
    from datagen.evaluation.named_data import resolve_data
    from datagen.versions import open_version

    with (
        open_library(settings) as library,
        nullcontext() if out is None else out_folder(out),
    ):
        opened = open_version(library.catalog, library.store, settings.tenant, target)
        found, report = assess_version(
            library.catalog,
            library.store,
            opened,
            resolve_data(sources.reference, settings),
            options,
            held_out=sources.held_out,
            baseline=sources.baseline,
            on_progress=on_progress,
        )
        path = address_text(library.store.url(report.key))
        return found, path if out is None else _write(found, out)


def _evaluate_folder(
    target: str,
    sources: _Sources,
    options: Options,
    settings: Settings,
    out: Path | None,
    on_progress: Callable[[str], None],
) -> tuple[Assessment, str]:
    """Returns as _evaluate_version does."""
    from datagen.assessment import assess_folder
    from datagen.evaluation.named_data import resolve_data

    folder = Path(target)
    if not folder.exists():
        raise NotFoundError(
            f"{target!r} is neither a data set of {settings.home} nor a folder; `datagen ls` lists "
            "the data sets"
        )
    target_folder = out or Path(f"{folder.resolve().name}-evaluation")
    with out_folder(target_folder):
        found = assess_folder(
            folder,
            resolve_data(sources.reference, settings),
            options,
            held_out=sources.held_out,
            baseline=sources.baseline,
            on_progress=on_progress,
        )
        return found, _write(found, target_folder)


def _write(found: Assessment, out: Path) -> str:
    """Returns the path of the report."""
    files = {"report.html": found.report.encode(), "evaluation.json": found.to_bytes()}
    write_files(out, files)
    return str(out / "report.html")


def _print(found: Assessment, path: str, home: Path | None, *, seconds: float) -> None:
    evaluation = found.evaluation
    subject = evaluation.subject
    click.echo(evaluation.headline)
    click.echo()
    print_facts(found.figures())
    click.echo()
    for note in subject.notes:
        click.echo(f"note: {note}")
    facts = {"took": duration_text(seconds), "report": path}
    if subject.version is not None:
        version = f"{subject.name}@{subject.version}"
        at = f" --home {home}" if home else ""
        facts |= {
            "next": f"datagen report {version} --open{at}",
            "": f"datagen refilter {version} --review marks.json{at}",
            " ": f"datagen approve {version} --use TEXT --by NAME{at}",
        }
    print_facts(facts)
