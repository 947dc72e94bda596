"""report: the page that an evaluation attached to a version."""

from __future__ import annotations

import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import Library, address_text, open_library, open_settings
from datagen.commands.output import print_facts, print_json, size_text
from datagen.commands.remote import open_client
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.settings import Settings


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--open", "opens", is_flag=True, help="Show it in the browser.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it here; else where the store is no folder, to ./NAME-VERSION-report.html.",
)
@shared_options
def report(version: str, opens: bool, out: Path | None, home: Path | None, as_json: bool) -> None:
    """Write or open the newest report of a version; `datagen evaluate` makes one."""
    settings = open_settings(home)
    if settings.api_url is None:
        with open_library(settings) as library:
            found = _from_home(library, version, out)
    else:
        found = _from_service(version, settings, out)
    if as_json:
        print_json(found)
    else:
        print_facts(
            {
                "report": found["path"],
                "of": f"{found['name']}@{found['version']}, made {found['created_at']}",
                "size": size_text(found["size_bytes"]),
            }
        )
    if opens and not webbrowser.open(Path(found["path"]).absolute().as_uri()):
        click.echo("no browser was found; open the file yourself", err=True)


def _from_home(library: Library, version: str, out: Path | None) -> dict[str, Any]:
    from datagen.attachments import REPORT, attachment_json, need_attachment, read_attachment
    from datagen.versions import find_version

    row = find_version(library.catalog, version)
    newest = need_attachment(library.catalog, row, kind=REPORT)
    data = read_attachment(library.store, newest)
    address = library.store.url(newest.key)
    if out is None and address.startswith("file:"):
        path = address_text(address)
    else:
        path = _write(out or Path(f"{row.name}-{row.version}-report.html"), data)
    named = {"name": row.name, "version": row.version, "path": path}
    return named | attachment_json(newest)


def _from_service(version: str, settings: Settings, out: Path | None) -> dict[str, Any]:
    with open_client(settings) as client:
        found = client.version(version)
        exact = f"{found.name}@{found.version}"
        newest = client.report(exact)
        data = client.attached(exact, newest)
    path = _write(out or Path(f"{found.name}-{found.version}-report.html"), data)
    named = {"name": found.name, "version": found.version, "path": path}
    return named | asdict(newest)


def _write(path: Path, data: bytes) -> str:
    """A report that was written before gives way; any other file does not."""
    try:
        if path.exists() and not path.read_bytes().lstrip()[:9].lower() == b"<!doctype":
            raise InputError(f"{path}: exists and is no report; name another file with --out")
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return str(path.absolute())
