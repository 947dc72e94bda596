"""references: real data that recipes and evaluations name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import plural, print_facts, print_json, print_table

if TYPE_CHECKING:
    from datagen.evaluation.named_data import NamedData

_data = DataPath(path_type=Path)


@click.group()
def references() -> None:
    """Name, list and forget the real data that evaluations compare with.

    The images stay where they are; the name keeps their digest, so that a change is noticed.
    """


@references.command("add")
@click.argument("name")
@click.argument("folder", metavar="DIR", type=_data)
@click.option(
    "--held-out",
    type=_data,
    help="Real images that no model was trained on; else the test part of DIR, if it has one.",
)
@click.option("--licence", default="", help="The terms of the images, for reports.")
@shared_options
def add(
    name: str, folder: Path, held_out: Path | None, licence: str, home: Path | None, as_json: bool
) -> None:
    """Check real images and give them a name."""
    settings = open_settings(home)
    from datagen.evaluation.named_data import add_named

    _show(add_named(name, folder, settings, held_out=held_out, licence=licence), as_json)


@references.command("list")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the real data that have a name."""
    settings = open_settings(home)
    from datagen.evaluation.named_data import list_named, to_json

    known = list_named(settings)
    if as_json:
        print_json({"references": [to_json(data) for data in known]})
        return
    rows: list[list[str | int]] = [
        [d.name, len(d.class_names), d.num_train, d.num_held_out, d.licence, str(d.train_path)]
        for d in known
    ]
    print_table(["name", "classes", "images", "held out", "licence", "path"], rows)


@references.command("show")
@click.argument("name")
@shared_options
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Describe real data, and check that they are what was added."""
    settings = open_settings(home)
    from datagen.evaluation.named_data import check_unchanged, find_named

    data = find_named(name, settings)
    check_unchanged(data)
    _show(data, as_json)


@references.command("remove")
@click.argument("name")
@shared_options
def remove(name: str, home: Path | None, as_json: bool) -> None:
    """Forget a name; the images stay."""
    settings = open_settings(home)
    from datagen.evaluation.named_data import remove_named, to_json

    data = remove_named(name, settings)
    if as_json:
        print_json(to_json(data))
    else:
        click.echo(f"{name} is forgotten; its images stay in {data.train_path}")


def _show(data: NamedData, as_json: bool) -> None:
    from datagen.evaluation.named_data import to_json

    if as_json:
        print_json(to_json(data))
        return
    print_facts(
        {
            "name": data.name,
            "classes": ", ".join(data.class_names[:20]),
            "images": plural(data.num_train, "image"),
            "held out": plural(data.num_held_out, "image") if data.num_held_out else "none",
            "licence": data.licence or "not given",
            "path": str(data.train_path),
            **({"held-out path": str(data.held_out_path)} if data.held_out_path else {}),
            "digest": data.digest,
        }
    )
