"""train, models: models made from real images, and those that recipes may name."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.opening import open_catalog, open_settings, pin_threads
from datagen.commands.output import (
    duration_text,
    plural,
    print_facts,
    print_json,
    print_table,
    size_text,
)
from datagen.commands.progress import progress_bar
from datagen.errors import InputError, ModelError, NotFoundError, StoreError

if TYPE_CHECKING:
    from datagen.generators.model_directory import Model
    from datagen.settings import Settings
    from datagen.sources import Registrar
    from datagen.training.model_recipe import DataFormat, DataSource, ModelRecipe

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
    "--num-images",
    type=click.IntRange(1, 10**12),
    help="Real images to show to the model, in place of the recipe's.",
)
@click.option("--check", "check_only", is_flag=True, help="Only check the images, and train not.")
@shared_options
def train(
    recipe: Path,
    data: Path | None,
    out: Path | None,
    max_seconds: float | None,
    num_images: int | None,
    check_only: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Train a model on real images, which are checked first.

    An interrupted training goes on from its last checkpoint when the same command is given again.
    """
    settings = open_settings(home)
    from datagen.training.model_recipe import load_model_recipe

    wanted = load_model_recipe(recipe)
    if data is not None:
        wanted = wanted.model_copy(update={"data": wanted.data.model_copy(update={"path": data})})
    if check_only:
        if wanted.data.registered is None:  # then nothing is looked up, or made
            with _local_images(wanted.data, settings) as images:
                _check(wanted, images, as_json=as_json)
            return
        with _open_images(wanted, settings) as (located, _):
            _check(located, located.data.place, as_json=as_json)
        return
    from datagen.home_models import keep_if_new, next_folder
    from datagen.training.data_check import DataCheck, check_text
    from datagen.training.session import train_model

    total = num_images or wanted.schedule.num_images
    checks: list[DataCheck] = []

    def on_check(check: DataCheck) -> None:
        checks.append(check)
        if not as_json:
            click.echo(check_text(check) + "\n", err=True)

    try:
        with progress_bar() as report, _open_images(wanted, settings) as (located, registrar):
            report("read images", 0, total)
            model = train_model(
                located,
                out=out or next_folder(settings.models_dir, wanted.name),
                work=settings.home / "training" / wanted.name,
                admit=registrar.admit,
                max_seconds=max_seconds,
                num_images=num_images,
                report=lambda progress, losses: report("train", progress.images_seen, total),
                on_check=on_check,
            )
            is_new = True
            if registrar.has_admitted:
                if out is None:
                    model, is_new = keep_if_new(model, settings.models_dir)
                registrar.record(model)
    except KeyboardInterrupt:
        click.echo("the same command goes on from the last checkpoint", err=True)
        raise
    if as_json:
        checked = {"data_check": checks[0].model_dump(mode="json")}
        print_json(_model_content(model) | checked | {"is_new": is_new})
    else:
        what = "is in" if is_new else "is the same as before, in"
        click.echo(f"model {model.name} {what} {model.path}\n")
        _print_model(model)


@contextmanager
def _open_images(
    wanted: ModelRecipe, settings: Settings
) -> Iterator[tuple[ModelRecipe, Registrar]]:
    """The recipe with its images where they can be read, and what registers them."""
    from datagen.sources import Registrar

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
    from datagen.training.data_check import check_data, check_text
    from datagen.training.dataset import read_training_images, real_images, split_held_out

    source = wanted.data.model_copy(update={"path": data})
    reading = read_training_images(source)
    check = check_data(reading)
    if as_json:
        print_json(check.model_dump(mode="json"))
    else:
        click.echo(check_text(check))
    split_held_out(
        real_images(reading),
        held_out=source.held_out,
        seed=wanted.seed,
        groups=reading.images.groups,
    )


@click.group()
def models() -> None:
    """List, describe and add the models that recipes may name."""


@models.command("ls")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the models of the home and those that are shipped."""
    settings = open_settings(home)
    from datagen.generators.model_directory import load_model, model_names

    rows: list[dict[str, Any]] = []
    for name, path in model_names([settings.models_dir]).items():
        try:
            rows.append(_model_content(load_model(path)))
        except ModelError as error:
            rows.append({"name": name, "path": str(path), "error": str(error)})
    if as_json:
        print_json({"models": rows})
        return
    table = [
        [r["name"], r["generator"], _classes_text(r), _size_text(r), r["digest"][:12], r["path"]]
        for r in rows
        if "error" not in r
    ]
    print_table(["model", "generator", "classes", "image size", "digest", "path"], table)
    for row in rows:
        if "error" in row:
            click.echo(f"not usable: {row['error']}", err=True)


@models.command("show")
@click.argument("name")
@shared_options
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Describe one model."""
    model = _find(name, open_settings(home))
    if as_json:
        print_json(_model_content(model))
    else:
        click.echo(f"{model.name}\n")
        _print_model(model)


@models.command("add")
@click.argument("folder", metavar="DIR", type=_folder)
@shared_options
def add(folder: Path, home: Path | None, as_json: bool) -> None:
    """Check a model directory and copy it into the home, under the name of the directory."""
    model = _copy_model(folder, open_settings(home).models_dir)
    if as_json:
        print_json(_model_content(model))
    else:
        click.echo(f"model {model.name} is in {model.path}\n")
        _print_model(model)


@models.command("fit-reference")
@click.argument("name", metavar="MODEL")
@click.option(
    "--data",
    type=_images,
    required=True,
    help="The real images that the model was trained on.",
)
@click.option(
    "--format",
    "data_format",
    type=click.Choice(["auto", "idx", "imagefolder", "npz", "table", "webdataset", "huggingface"]),
    default="auto",
    help="Of the folder; auto finds it out.",
)
@click.option(
    "--held-out",
    type=_images,
    help="Real images that the model never saw; else those that its training held out.",
)
@click.option("--replace", is_flag=True, help="Put it in place of the reference that is there.")
@shared_options
def fit_reference_(
    name: str,
    data: Path,
    data_format: DataFormat,
    held_out: Path | None,
    replace: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Fit what filters compare with: a classifier, a detector of copies and statistics.

    It is kept beside the model as reference.safetensors. The model and what it makes stay as they
    are.
    """
    settings = open_settings(home)
    pin_threads(settings)
    model = _find(name, settings)
    from datagen.generators.model_directory import REFERENCE_FILE, load_model
    from datagen.references.fit import fit_reference
    from datagen.references.reference import save_reference
    from datagen.training.reference_parts import load_reference_parts

    if model.reference is not None and not replace:
        raise InputError(
            f"model {name} has a reference, which recipes pin by its digest; --replace puts "
            "another in its place"
        )
    train_part, held_out_part = load_reference_parts(
        model, data, data_format=data_format, held_out=held_out
    )
    reference = fit_reference(
        train_part,
        held_out_part,
        seed=model.facts.training.seed if model.facts.training else 0,
        licence=model.facts.licence,
        source=model.facts.source,
        on_progress=lambda text: click.echo(text, err=True),
    )
    try:
        save_reference(reference, model.path / REFERENCE_FILE)
    except OSError as error:
        raise StoreError(f"model {model.path}: cannot be written ({error.strerror})") from None
    fitted = load_model(model.path)
    if as_json:
        print_json(_model_content(fitted))
    else:
        click.echo(f"reference {reference.digest[:12]} is in {fitted.reference}\n")
        _print_model(fitted)


def _copy_model(source: Path, models_dir: Path) -> Model:
    """Whole or not at all, checked before and after; a model that is there is never replaced."""
    from datagen.generators.model_directory import load_model

    name = source.resolve().name
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise InputError(
            f"model {source}: a recipe cannot name {name!r}: rename the folder to 1 to 63 "
            "lower-case letters, digits and '-'"
        )
    target = models_dir / name
    if os.path.lexists(target):
        raise InputError(f"model {target} exists, and a model never changes; remove it first")
    files = [path.name for path in load_model(source).path.iterdir()]
    models_dir.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=models_dir))
    try:
        for file in files:
            shutil.copyfile(source / file, partial / file, follow_symlinks=False)
        load_model(partial)
        partial.chmod(0o755)
        partial.rename(target)
    except OSError as error:
        raise StoreError(f"model {target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_model(target)


def _find(name: str, settings: Settings) -> Model:
    from datagen.generators.model_directory import load_model, model_names
    from datagen.recipe import suggest

    known = model_names([settings.models_dir])
    if name not in known:
        raise NotFoundError(
            f"model {name!r} does not exist{suggest(name, known)}; `datagen models ls` lists them"
        )
    return load_model(known[name])


def _model_content(model: Model) -> dict[str, Any]:
    files = [file for file in model.path.iterdir() if file.is_file()]
    return {
        "name": model.name,
        "digest": model.digest,
        "generator": model.config.generator,
        "class_names": list(model.config.class_names),
        "image_size": list(model.config.image_size) if any(model.config.image_size) else None,
        "channels": model.config.channels or None,
        "network": model.config.network,
        "size_bytes": sum(file.stat().st_size for file in files),
        "path": str(model.path.absolute()),
        "reference": _reference_content(model),
        **model.facts.model_dump(mode="json"),
    }


def _reference_content(model: Model) -> dict[str, Any] | None:
    """The figures of its reference. Raises ModelError if that is damaged."""
    if model.reference is None:
        return None
    from datagen.references.reference import load_reference

    reference = load_reference(model.reference)
    facts = reference.facts
    return {
        "digest": reference.digest,
        "size_bytes": model.reference.stat().st_size,
        "num_train": facts.num_train,
        "num_calibration": facts.num_calibration,
        "num_measured": facts.num_measured,
        "licence": facts.licence,
        "source": facts.source,
        "accuracy": facts.labels.accuracy,
        "label_thresholds": dict(zip(facts.class_names, facts.labels.thresholds, strict=True)),
        "wrong_labels_rejected": facts.labels.mean_wrong_rejected,
        "right_labels_rejected": facts.labels.mean_right_rejected,
        "outliers": facts.outliers.model_dump(),
        "quality_rejected": facts.quality.rejected,
        "near_copy": facts.copies.model_dump(mode="json"),
    }


def _classes_text(content: dict[str, Any]) -> str:
    return f"{len(content['class_names']):,}" if content["class_names"] else "any"


def _size_text(content: dict[str, Any]) -> str:
    if content["image_size"] is None:
        return "any"
    height, width = content["image_size"]
    kind = {1: "grey", 3: "RGB"}.get(content["channels"], "")
    return f"{width} x {height} {kind}".rstrip()


def _print_model(model: Model) -> None:
    content = _model_content(model)
    facts = {
        "what": content["description"] or "not described",
        "generator": content["generator"],
        "classes": ", ".join(content["class_names"][:20]) or "any",
        "images": _size_text(content),
        "size": size_text(content["size_bytes"]),
        "licence": content["licence"],
        "source": content["source"],
        "path": content["path"],
        "digest": content["digest"],
    }
    training, throughput = content["training"], content["throughput"]
    if len(content["class_names"]) > 20:
        facts["classes"] += f" and {len(content['class_names']) - 20:,} more"
    if training is not None:
        facts["trained"] = (
            f"on {plural(training['images_seen'], 'image')} in "
            f"{duration_text(training['seconds'])} ({training['device']})"
        )
    if throughput is not None:
        rate = 1 / throughput["seconds_per_image"]
        calls = plural(throughput["num_network_calls"], "network call")
        facts["speed"] = f"{rate:,.0f} images/s with {calls} ({throughput['device']}, one thread)"
    print_facts(facts | _reference_facts(content["reference"]))


def _default_copy_rate(near_copy: dict[str, Any]) -> float:
    """Of real images that are no copies, what the filter's default rejects."""
    from datagen.filters.near_copy import NearCopyOptions

    place = near_copy["rates"].index(NearCopyOptions().max_false_positive_rate)
    rate: float = near_copy["rejected"][place]
    return rate


def _reference_facts(reference: dict[str, Any] | None) -> dict[str, str]:
    if reference is None:
        return {"reference": "none: `datagen models fit-reference` makes one"}
    return {
        "reference": f"{reference['digest'][:12]}, {size_text(reference['size_bytes'])}, of "
        f"{plural(reference['num_train'], 'real image')}; its rates are of "
        f"{reference['num_measured']:,} others",
        "classifier": f"right on {reference['accuracy']:.1%}; label_agreement rejects "
        f"{reference['wrong_labels_rejected']:.1%} of wrong labels, "
        f"{reference['right_labels_rejected']:.1%} of right ones",
        "real images": f"outlier rejects {reference['outliers']['rejected']:.2%} of them, quality "
        f"{reference['quality_rejected']:.2%}, near_copy "
        f"{_default_copy_rate(reference['near_copy']):.2%}",
    }
