"""ls, show, pull, verify, diff, remake: what is done with published versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import (
    Library,
    address_text,
    has_catalog,
    open_library,
    open_settings,
)
from datagen.commands.output import (
    plural,
    print_json,
    print_table,
    size_text,
    time_text,
)
from datagen.commands.progress import progress_bar
from datagen.errors import InputError, VerifyError

if TYPE_CHECKING:
    from datagen.catalog.rows import VersionRow
    from datagen.verify import Verification

_version_argument = click.argument("version", metavar="NAME[@VERSION]")


@click.command("ls")
@click.argument("name", required=False)
@shared_options
def list_(name: str | None, home: Path | None, as_json: bool) -> None:
    """List the versions of all data sets, or of one."""
    settings = open_settings(home)
    rows: list[dict[str, Any]] = []
    if has_catalog(settings):
        with open_library(settings) as library:
            from datagen.catalog.versions import list_versions

            rows = [_describe(library, row) for row in list_versions(library.catalog, name)]
    if as_json:
        print_json({"versions": rows})
    elif rows:
        print_table(
            ["data set", "images", "size", "published", "digest"],
            [
                [
                    f"{row['name']}@{row['version']}",
                    row["num_samples"],
                    size_text(row["size_bytes"]),
                    row["published_at"],
                    row["digest"][:12],
                ]
                for row in rows
            ],
        )
    else:
        what = f"data set {name!r}" if name else "data set"
        click.echo(f"no {what} in {settings.home}", err=True)


def _describe(library: Library, row: VersionRow) -> dict[str, Any]:
    from datagen.versions import version_prefix

    prefix = version_prefix(library.settings.tenant, row.name, row.version)
    return {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "num_samples": row.num_samples,
        "size_bytes": row.size_bytes,
        "seconds": row.seconds,
        "published_at": time_text(row.published_at),
        "recipe_digest": row.recipe_digest,
        "manifest_sha256": row.manifest_sha256,
        "path": address_text(library.store.url(prefix.rstrip("/"))),
    }


@click.command()
@_version_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    default="webdataset",
    show_default=True,
    help="webdataset, imagefolder or parquet.",
)
@shared_options
def pull(version: str, out: Path, layout: str, home: Path | None, as_json: bool) -> None:
    """Write a version into a new folder, in a layout that loaders read."""
    from datagen.formats import FORMATS
    from datagen.recipe import suggest

    if layout not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"--format {layout!r}: expected {known}{suggest(layout, FORMATS)}")
    with open_library(open_settings(home)) as library:
        from datagen.versions import open_version

        opened = open_version(library.catalog, library.store, library.settings.tenant, version)
        total = opened.manifest.num_samples
        with progress_bar() as report:
            for done in FORMATS[layout](opened.reader, out):
                report("pull", done, total)
        name = f"{opened.row.name}@{opened.row.version}"
    if as_json:
        print_json(
            {
                "name": opened.row.name,
                "version": opened.row.version,
                "digest": opened.row.digest,
                "format": layout,
                "num_samples": total,
                "path": str(out.absolute()),
            }
        )
    else:
        click.echo(f"{name}: {plural(total, 'image')} written to {out} as {layout}")


@click.command()
@_version_argument
@shared_options
@click.pass_context
def verify(ctx: click.Context, version: str, home: Path | None, as_json: bool) -> None:
    """Read a version back and name all that is missing or changed."""
    with open_library(open_settings(home)) as library:
        from datagen.verify import verify_version
        from datagen.versions import find_version

        row = find_version(library.catalog, version)
        with progress_bar() as report:
            result = verify_version(
                library.catalog,
                library.store,
                row,
                tenant=library.settings.tenant,
                report=lambda done, total: report("verify", done, total),
            )
    if as_json:
        print_json(_verification_json(result))
    else:
        _print_verification(result)
    if result.findings:
        ctx.exit(VerifyError.exit_code)


def _verification_json(result: Verification) -> dict[str, Any]:
    from dataclasses import asdict

    content = asdict(result)
    return {"sound": not result.findings, **content}


def _print_verification(result: Verification) -> None:
    for finding in result.findings:
        click.echo(f"{finding.problem} {finding.kind} {finding.name}: {finding.detail}")
    name = f"{result.name}@{result.version}"
    read = (
        f"{plural(result.num_samples, 'image')} and {plural(result.num_objects, 'object')} "
        f"({size_text(result.num_bytes)}) read back"
    )
    if result.findings:
        click.echo(f"{name} is damaged: {plural(len(result.findings), 'finding')}; {read}")
    else:
        click.echo(f"{name} is sound: {read}, digest {result.digest}")
