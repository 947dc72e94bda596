"""keys: of the service that DATAGEN_API_URL names or, without it, of a database directly."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.keys import keys as direct_keys
from datagen.commands.opening import open_settings
from datagen.commands.output import print_json, print_table
from datagen.commands.remote import open_client
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.client.results import Key

_SCOPES = ("read", "submit", "admin")


def _refuse_tenant(_: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        raise InputError(
            f"--{parameter.name} {value!r}: a service makes and lists keys of your own tenant "
            "alone; as the operator of its database, unset DATAGEN_API_URL"
        )


# Of the operator's form: given here, it deserves more than "No such option".
_no_tenant = click.option("--tenant", hidden=True, expose_value=False, callback=_refuse_tenant)


class _Switch(click.Group):
    """The same words, to the service or to the database."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return _form().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _form().get_command(ctx, cmd_name)


def _form() -> click.Group:
    return direct_keys if open_settings(None).api_url is None else _remote


@click.group(cls=_Switch)
def keys() -> None:
    """API keys: make, list, revoke.

    Of the service that DATAGEN_API_URL names, by an admin key; else of the database, as its
    operator.
    """


@click.group()
def _remote() -> None:
    """API keys of your tenant."""


@_remote.command("create")
@_no_tenant
@click.option("--name", required=True, help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPES),
    multiple=True,
    default=("submit",),
    show_default=True,
    help="What it may do; admin includes submit, and submit read.",
)
@click.option("--expires-days", type=click.IntRange(1, 3650), help="It opens nothing after that.")
@shared_options
def create(
    name: str, scopes: tuple[str, ...], expires_days: int | None, home: Path | None, as_json: bool
) -> None:
    """Make a key, and show it this once."""
    with open_client(open_settings(home)) as client:
        made = client.create_key(name, scopes, expires_in_days=expires_days)
    if as_json:
        print_json({**_content(made), "key": made.key})
    else:
        click.echo(made.key)
        click.echo("write it down: only its hash is kept, and nobody can show it again", err=True)


@_remote.command("list")
@_no_tenant
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the keys, revoked ones as well; never the keys themselves."""
    with open_client(open_settings(home)) as client:
        found = list(client.keys())
    if as_json:
        print_json({"keys": [_content(key) for key in found]})
        return
    header = ("key", "name", "scopes", "created", "expires", "revoked")
    rows = [
        (
            k.id,
            k.name,
            " ".join(k.scopes),
            k.created_at or "",
            k.expires_at or "",
            k.revoked_at or "",
        )
        for k in found
    ]
    print_table(header, rows)


@_remote.command("revoke")
@click.argument("key_id", metavar="KEY_ID")
@shared_options
def revoke(key_id: str, home: Path | None, as_json: bool) -> None:
    """Revoke a key, at once and for good."""
    with open_client(open_settings(home)) as client:
        client.revoke_key(key_id)
    if as_json:
        print_json({"id": key_id, "state": "revoked"})
    else:
        click.echo(f"key {key_id} is revoked")


def _content(key: Key) -> dict[str, Any]:
    content = asdict(key)
    del content["key"]
    return content
