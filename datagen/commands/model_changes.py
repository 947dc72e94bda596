"""models export, import, rm, deprecate: what changes the models of a home. Added to the group in
models.py."""

from __future__ import annotations

from pathlib import Path

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.model_facts import (
    find_model_named,
    model_content,
    print_model,
    refuse_revoked,
    unknown_told,
)
from datagen.commands.opening import has_catalog, open_library, open_settings
from datagen.commands.output import print_json
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError

_folder = DataPath(path_type=Path, file_okay=False)


@click.command("export")
@click.argument("name", metavar="NAME[@VERSION]")
@click.argument("folder", metavar="DIR", type=_folder)
@click.option("--half", is_flag=True, help="Weights in half precision; says what that changes.")
@shared_options
def export(name: str, folder: Path, half: bool, home: Path | None, as_json: bool) -> None:
    """Write a model directory, which others can import. A revoked model is refused."""
    settings = open_settings(home)
    model = find_model_named(name, settings)
    refuse_revoked(model, settings)
    if folder.exists():
        raise InputError(f"{folder} exists, and a model never changes; name another folder")
    if half:
        from datagen.half_precision import write_half

        written = write_half(model, folder)
    else:
        from datagen.generators.model_directory import load_model
        from datagen.home_models import copy_model

        copy_model(model, folder)
        written = load_model(folder)
    if as_json:
        print_json(model_content(written))
        return
    click.echo(f"model {model.name} is in {written.path}\n")
    print_model(written)


@click.command("import")
@click.argument("folder", metavar="DIR", type=_folder)
@shared_options
def import_(folder: Path, home: Path | None, as_json: bool) -> None:
    """Check a model directory and copy it into the home.

    The name of the directory is the model's; if there is another model of that name, it is the next
    version of it.
    """
    settings = open_settings(home)
    from datagen.generators.model_directory import describe_model
    from datagen.home_models import import_model

    if has_catalog(settings):
        refuse_revoked(describe_model(folder), settings)
    model, is_new = import_model(folder, settings.models_dir)
    if as_json:
        print_json(model_content(model) | {"is_new": is_new})
        return
    what = "is in" if is_new else "was there before, in"
    click.echo(f"model {model.name} {what} {model.path}\n")
    print_model(model)


@click.command("deprecate")
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--reason", required=True, help="Why; whoever looks is told.")
@shared_options
def deprecate(name: str, reason: str, home: Path | None, as_json: bool) -> None:
    """Pass over a model where a recipe names no version; it can be used on by name."""
    settings = open_settings(home)
    refuse_remote(settings, "models deprecate")
    from datagen.home_models import deprecate

    with unknown_told(name, settings):
        model = deprecate(settings.models_dir, name, reason=reason)
    if as_json:
        print_json(model_content(model))
    else:
        click.echo(f"model {model.name} is deprecated: {reason}")


@click.command("rm")
@click.argument("name", metavar="NAME[@VERSION]")
@shared_options
def remove(name: str, home: Path | None, as_json: bool) -> None:
    """Remove a model that nothing depends on, or that is deprecated.

    What was made with it stays; single images of that cannot be made again.
    """
    settings = open_settings(home)
    refuse_remote(settings, "models rm")
    from datagen.home_models import remove_model

    with unknown_told(name, settings):
        if has_catalog(settings):
            with open_library(settings) as library:
                model = remove_model(library.catalog, settings.models_dir, name)
        else:
            model = remove_model(None, settings.models_dir, name)
    if as_json:
        print_json({"name": model.name, "digest": model.digest, "removed": True})
    else:
        click.echo(f"model {model.name} ({model.digest[:12]}) is removed")
