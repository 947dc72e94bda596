"""export: another layout of a published version, attached to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import address_text, open_library, open_settings
from datagen.commands.output import plural, print_facts, print_json, size_text
from datagen.commands.progress import progress_bar
from datagen.commands.remote import refuse_remote


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--format", "layout", required=True, help="One of those of `datagen pull`.")
@shared_options
def export(version: str, layout: str, home: Path | None, as_json: bool) -> None:
    """Attach another layout to a version, as a tar.

    Recipes that name it in output.formats have it from the start. The tar unpacks into what
    `datagen pull --format` writes; the version and its digest stay as they are.
    """
    settings = open_settings(home)
    refuse_remote(settings, "export")
    from datagen.exports import attach_export, check_layout

    check_layout(layout)
    with open_library(settings) as library, progress_bar() as report:
        from datagen.attachments import attachment_json
        from datagen.versions import open_version

        opened = open_version(library.catalog, library.store, settings.tenant, version)
        total = opened.manifest.num_samples
        made = attach_export(
            library.catalog,
            library.store,
            opened.row,
            opened.reader,
            layout,
            settings,
            on_progress=lambda done: report("export", done, total),
        )
        content = {
            "name": opened.row.name,
            "version": opened.row.version,
            "format": layout,
            "num_images": total,
            "files": [
                attachment_json(each) | {"path": address_text(library.store.url(each.key))}
                for each in made
            ],
        }
    if as_json:
        print_json(content)
    else:
        _print(content)


def _print(content: dict[str, Any]) -> None:
    name = f"{content['name']}@{content['version']}"
    click.echo(f"{name}: {plural(content['num_images'], 'image')} attached as {content['format']}")
    for file in content["files"]:
        click.echo()
        print_facts(
            {
                "file": file["path"],
                "size": size_text(file["size_bytes"]),
                "sha256": file["sha256"],
            }
        )
