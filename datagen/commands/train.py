"""train: a model made from a team's images."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.model_facts import model_content, print_model
from datagen.commands.opening import open_catalog, open_settings
from datagen.commands.output import print_json
from datagen.commands.progress import Report, progress_bar
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.generators.model_directory import Model
    from datagen.registrar import Registrar
    from datagen.settings import Settings
    from datagen.training.checkpoint import Progress
    from datagen.training.data_check import DataCheck
    from datagen.training.model_recipe import DataSource, ModelRecipe

_folder = DataPath(path_type=Path, file_okay=False)
_images = DataPath(path_type=Path)


@click.command()
@click.argument("recipe", metavar="MODEL_RECIPE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=_images, help="The real images, in place of the recipe's.")
@click.option("--out", type=_folder, help="Model directory to write; else models/NAME of the home.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(0, 1e9),
    help="Stop training then, and write the best weights so far; 0 writes them at once.",
)
@click.option(
    "--max-images",
    "--num-images",
    "max_images",
    type=click.IntRange(1, 10**12),
    help="Real images to show to the model, in place of the recipe's.",
)
@click.option("--init", metavar="MODEL", help="Start from this model's weights.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from a checkpoint, and stop if there is none: for scripts. Without it, too, a "
    "training goes on where there is one.",
)
@click.option("--check", "check_only", is_flag=True, help="Only check the images, and train not.")
@shared_options
def train(
    recipe: Path,
    data: Path | None,
    out: Path | None,
    max_seconds: float | None,
    max_images: int | None,
    init: str | None,
    resume: bool,
    check_only: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Train a model on real images, which are checked first.

    An interrupted training goes on from its last checkpoint when the same command is given again.
    """
    if max_seconds is not None and math.isnan(max_seconds):
        raise click.BadParameter("nan is no number of seconds", param_hint="--max-seconds")
    settings = open_settings(home)
    from datagen.training.model_recipe import load_model_recipe

    wanted = load_model_recipe(recipe)
    if data is not None:
        wanted = wanted.model_copy(update={"data": wanted.data.model_copy(update={"path": data})})
    if check_only:
        _check_only(wanted, settings, as_json=as_json)
        return
    checks: list[DataCheck] = []

    def on_check(check: DataCheck) -> None:
        checks.append(check)
        if not as_json:
            from datagen.training.data_check import check_text

            click.echo(check_text(check) + "\n", err=True)

    try:
        model, is_new = _train(
            wanted,
            settings,
            out=out,
            max_seconds=max_seconds,
            max_images=max_images,
            init=init,
            must_resume=resume,
            on_check=on_check,
        )
    except KeyboardInterrupt:
        click.echo("the same command goes on from the last checkpoint", err=True)
        raise
    if not checks:  # one of several processes: the first speaks
        return
    if as_json:
        checked = {"data_check": checks[0].model_dump(mode="json")}
        print_json(model_content(model) | checked | {"is_new": is_new})
    else:
        what = "is in" if is_new else "is the same as before, in"
        click.echo(f"model {model.name} {what} {model.path}\n")
        print_model(model)


def _train(
    wanted: ModelRecipe,
    settings: Settings,
    *,
    out: Path | None,
    max_seconds: float | None,
    max_images: int | None,
    init: str | None,
    must_resume: bool,
    on_check: Callable[[DataCheck], None],
) -> tuple[Model, bool]:
    """And whether the model is new: the same one may be there already."""
    from datagen.home_models import keep_if_new, next_folder
    from datagen.training.session import find_parent, train_model

    work = settings.home / "training" / wanted.name
    if out is not None:
        _check_writable(out)
    if must_resume:
        _check_begun(work)
    total = max_images or wanted.schedule.num_images
    with progress_bar() as report, _open_images(wanted, settings) as (located, registrar):
        report("read images", 0, total)
        parent = find_parent(located, init, [settings.models_dir])
        if parent is not None:
            registrar.check_parent(parent)
        model = train_model(
            located,
            out=out or next_folder(settings.models_dir, wanted.name),
            work=work,
            admit=registrar.admit,
            max_seconds=max_seconds,
            num_images=max_images,
            init=init,
            must_resume=must_resume,
            models_dirs=[settings.models_dir],
            device=settings.device,
            report=_Reporter(report, total),
            on_check=on_check,
        )
        is_new = True
        if registrar.has_admitted:
            if out is None:
                model, is_new = keep_if_new(model, settings.models_dir)
            registrar.record(model)
    return model, is_new


def _check_writable(out: Path) -> None:
    """Before the training, not after it. Raises InputError if no folder can be made there."""
    if os.path.lexists(out):  # a training says of it that it is in the way
        return
    parent = next(path for path in out.absolute().parents if os.path.exists(path))
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=parent):
            pass
    except OSError as error:
        raise InputError(
            f"--out {out}: nothing can be written to {parent} ({error.strerror}); allow it, or "
            "name a model directory elsewhere"
        ) from None


def _check_only(wanted: ModelRecipe, settings: Settings, *, as_json: bool) -> None:
    if wanted.data.registered is None:  # then nothing is looked up, or made
        with _local_images(wanted.data, settings) as images:
            _check(wanted, images, as_json=as_json)
        return
    with _open_images(wanted, settings) as (located, _):
        _check(located, located.data.place, as_json=as_json)


class _Reporter:
    """Moves the bar, and writes a line on stderr for each evaluation: long trainings have logs."""

    def __init__(self, bar: Report, total: int) -> None:
        self._bar, self._total = bar, total
        self._num_told: int | None = None

    def __call__(self, progress: Progress, losses: dict[str, float]) -> None:
        self._bar("train", progress.images_seen, self._total)
        if self._num_told is None:  # those before a resume were told
            self._num_told = len(progress.history)
        for figures in progress.history[self._num_told :]:
            click.echo(_evaluation_text(figures, progress), err=True)
        self._num_told = len(progress.history)


def _evaluation_text(figures: dict[str, float], progress: Progress) -> str:
    rate = progress.images_seen / progress.seconds if progress.seconds else 0.0
    named = {name: value for name, value in figures.items() if name != "images"}
    told = ", ".join(f"{name} {value:.4g}" for name, value in named.items())
    return f"{figures['images']:,.0f} images, {rate:,.0f} images/s: {told}"


def _check_begun(work: Path) -> None:
    from datagen.training.loop import LATEST_FILE

    if not (work / LATEST_FILE).exists():
        raise InputError(
            f"--resume: no training has left a checkpoint in {work}; leave --resume out to begin"
        )


@contextmanager
def _open_images(
    wanted: ModelRecipe, settings: Settings
) -> Iterator[tuple[ModelRecipe, Registrar]]:
    """The recipe with its images where they can be read, and what registers them."""
    from datagen.registrar import Registrar

    with open_catalog(settings) as catalog:
        registrar = Registrar(catalog, settings, recipe_name=wanted.name, created_by=None)
        data = registrar.locate(wanted.data)
        with _local_images(data, settings, profile=registrar.profile) as images:
            data = data.model_copy(update={"path": images})
            yield wanted.model_copy(update={"data": data}), registrar


def _local_images(
    data: DataSource, settings: Settings, *, profile: str | None = None
) -> AbstractContextManager[Path]:
    from datagen.training.remote_images import local_images

    return local_images(
        data.place,
        folder=settings.home / "training",
        endpoint_url=settings.s3_endpoint_url,
        profile=profile,
    )


def _check(wanted: ModelRecipe, data: Path, *, as_json: bool) -> None:
    """Raises InputError if the images cannot be trained on, also for want of a held-out part."""
    from datagen.training.admission import refuse_synthetic
    from datagen.training.data_check import check_data, check_text
    from datagen.training.dataset import (
        check_split,
        read_training_images,
        real_images,
        split_held_out,
    )

    source = wanted.data.model_copy(update={"path": data})
    reading = read_training_images(source)
    check = check_data(reading)
    if as_json:
        print_json(check.model_dump(mode="json"))
    else:
        click.echo(check_text(check))
    refuse_synthetic(source, reading, reading.marks)
    train_part, held_out = split_held_out(
        real_images(reading),
        held_out=source.held_out,
        seed=wanted.seed,
        groups=reading.images.groups,
    )
    check_split(train_part, held_out, reading.images.class_names)
