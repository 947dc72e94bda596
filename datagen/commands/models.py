"""train, models: models made from real images, and those that recipes may name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.model_changes import deprecate, export, import_, remove
from datagen.commands.model_facts import (
    classes_text,
    find_model_named,
    image_size_text,
    model_content,
    print_model,
    revocations,
)
from datagen.commands.opening import open_settings, pin_threads
from datagen.commands.output import (
    print_json,
    print_table,
)
from datagen.commands.pipelines import add_pipeline
from datagen.errors import InputError, ModelError, StoreError

if TYPE_CHECKING:
    from datagen.training.model_recipe import DataFormat

_folder = DataPath(path_type=Path, file_okay=False)
_images = DataPath(path_type=Path)


@click.group()
def models() -> None:
    """List, describe and change the models that recipes may name."""


for _command in (export, import_, remove, deprecate, add_pipeline):
    models.add_command(_command)
models.add_command(import_, "add")  # as it was called first


@models.command("ls")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the models of the home and those that are shipped."""
    settings = open_settings(home)
    from datagen.generators.model_directory import load_model, model_names

    rows: list[dict[str, Any]] = []
    with revocations(settings) as reason_of:
        for name, path in model_names([settings.models_dir]).items():
            try:
                model = load_model(path)
                rows.append(model_content(model, revoked=reason_of(model)))
            except ModelError as error:
                rows.append({"name": name, "path": str(path), "error": str(error)})
    if as_json:
        print_json({"models": rows})
        return
    table = [
        [
            r["name"] + _state_text(r),
            *(r["generator"], classes_text(r), image_size_text(r), r["digest"][:12], r["path"]),
        ]
        for r in rows
        if "error" not in r
    ]
    print_table(["model", "generator", "classes", "image size", "digest", "path"], table)
    for row in rows:
        if "error" in row:
            click.echo(f"not usable: {row['error']}", err=True)


def _state_text(content: dict[str, Any]) -> str:
    if content["revoked"]:
        return " (revoked)"
    return " (deprecated)" if content["deprecated"] else ""


@models.command("show")
@click.argument("name")
@shared_options
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Describe one model."""
    settings = open_settings(home)
    model = find_model_named(name, settings)
    with revocations(settings) as reason_of:
        revoked = reason_of(model)
    if as_json:
        print_json(model_content(model, revoked=revoked))
    else:
        click.echo(f"{model.name}\n")
        print_model(model, revoked=revoked)


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
    type=click.Choice(
        [
            *("auto", "idx", "imagefolder", "npz", "table", "webdataset", "huggingface"),
            *("nifti", "dicom"),
        ]
    ),
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
    model = find_model_named(name, settings)
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
        print_json(model_content(fitted))
    else:
        click.echo(f"reference {reference.digest[:12]} is in {fitted.reference}\n")
        print_model(fitted)
