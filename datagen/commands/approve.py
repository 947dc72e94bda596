"""approve, approvals: a version is signed off for a named use, and who signed what."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.keys import OPERATOR
from datagen.commands.opening import Library, open_library, open_settings
from datagen.commands.output import print_json, print_table
from datagen.commands.remote import open_client
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.settings import Settings

STATES = ("reviewed", "approved", "draft")


def _day(
    _: click.Context, __: click.Parameter, value: datetime.datetime | None
) -> datetime.date | None:
    return None if value is None else value.date()


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--use", required=True, metavar="TEXT", help="What the images may be used for.")
@click.option("--by", metavar="WHO", help="Who signs; over a service, the key's name counts.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    callback=_day,
    help="The last day on which it holds, in UTC; else for good.",
)
@click.option(
    "--state",
    type=click.Choice(STATES),
    default="approved",
    show_default=True,
    help="draft takes back what was signed for this use.",
)
@click.option("--note", default="", metavar="TEXT", help="Why, for later readers.")
@shared_options
def approve(
    version: str,
    use: str,
    by: str | None,
    until: datetime.date | None,
    state: str,
    note: str,
    home: Path | None,
    as_json: bool,
) -> None:
    """Sign a version off for a named use."""
    settings = open_settings(home)
    if settings.api_url is None:
        if by is None:
            raise InputError("--by is missing: say who signs, such as --by 'Dr. A. Meyer'")
        signed = _sign_in_home(
            version, settings, use=use, by=by, until=until, state=state, note=note
        )
    else:
        if by is not None:
            raise InputError("--by: the service records the name of your key; leave it out")
        with open_client(settings) as client:
            signed = asdict(client.approve(version, state, use=use, until=until, note=note))
    if as_json:
        print_json(signed)
    else:
        until_text = f" until {signed['until']}" if signed["until"] else ""
        click.echo(
            f"{signed['name']}@{signed['version']} is {signed['state']} for {signed['use']!r}"
            f"{until_text}, by {signed['by']}"
        )


def _sign_in_home(
    version: str,
    settings: Settings,
    *,
    use: str,
    by: str,
    until: datetime.date | None,
    state: str,
    note: str,
) -> dict[str, Any]:
    with open_library(settings) as library:
        from datagen.approval import sign_off, signed_json
        from datagen.catalog.audit import append_audit
        from datagen.versions import find_version

        row = find_version(library.catalog, version)
        signed = sign_off(
            library.catalog, row, state=state, use=use, signed_by=by, until=until, note=note
        )
        content = signed_json(row, signed, holds=True)
        append_audit(
            library.catalog,
            tenant=settings.tenant,
            actor=OPERATOR,
            action=f"dataset.{state}",
            target=f"{row.name}@{row.version}",
            detail={"digest": row.digest, **content},
        )
        return content


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@shared_options
def approvals(version: str, home: Path | None, as_json: bool) -> None:
    """List who signed a data set's versions off, for what, the newest first."""
    settings = open_settings(home)
    if settings.api_url is None:
        with open_library(settings) as library:
            found = _history(library, version)
    else:
        found = _remote_history(version, settings)
    if as_json:
        print_json({"approvals": found})
    elif found:
        header = ["version", "state", "use", "by", "until", "signed", ""]
        print_table(header, [_row(each) for each in found])
    else:
        click.echo(f"nobody signed {version} off; `datagen approve` does", err=True)


def _history(library: Library, version: str) -> list[dict[str, Any]]:
    from datagen.approval import history_json
    from datagen.catalog.versions import list_versions
    from datagen.versions import find_any_version, parse_version

    name, number = parse_version(version)
    find_any_version(library.catalog, version)  # or tell what there is
    rows = [row for row in list_versions(library.catalog, name) if number in (None, row.version)]
    return history_json(library.catalog, rows)


def _remote_history(version: str, settings: Settings) -> list[dict[str, Any]]:
    with open_client(settings) as client:
        if "@" in version:
            return [asdict(each) for each in client.approvals(version)]
        names = [f"{row.name}@{row.version}" for row in client.versions(version)]
        return [asdict(each) for name in names for each in client.approvals(name)]


def _row(signed: dict[str, Any]) -> list[str | int]:
    return [
        f"{signed['name']}@{signed['version']}",
        signed["state"],
        signed["use"],
        signed["by"],
        signed["until"] or "",
        signed["signed_at"],
        " ".join(filter(None, ["" if signed["holds"] else "(past)", signed["note"]])),
    ]
