"""keys, audit, tenants: what an operator does to a service's database directly, without its API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import print_json, print_table, time_text
from datagen.errors import InputError, VerifyError

if TYPE_CHECKING:
    from datagen.catalog.audit import ChainReport
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.keys import KeyRow

OPERATOR = "operator"
_SCOPES = ("read", "submit", "admin")
_DAY_S = 86_400.0
_MAX_ROWS = 10_000
_NO_LIMIT = "none"


def named_tenant(_: click.Context, parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value):
        raise InputError(
            f"--{parameter.name} {value!r}: expected 1 to 63 lower-case letters, digits and '-', "
            "the first not '-'"
        )
    return value


_tenant_option = click.option(
    "--tenant", required=True, metavar="NAME", help="Whose it is.", callback=named_tenant
)


@contextmanager
def _open_catalog(home: Path | None) -> Iterator[Catalog]:
    """Of all tenants, with its tables made if need be: the first key comes before anything else."""
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.schema import migrate

    catalog = Catalog(open_settings(home).database_url, tenant=None)
    try:
        migrate(catalog)
        yield catalog
    finally:
        catalog.close()


@click.group()
def keys() -> None:
    """API keys of a service: make, list, revoke."""


@keys.command("create")
@_tenant_option
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
    tenant: str,
    name: str,
    scopes: tuple[str, ...],
    expires_days: int | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make a key, and show it this once."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}", name):
        raise InputError(f"--name {name!r}: expected 1 to 63 letters, digits, '_', '.', '@', '-'")
    with _open_catalog(home) as catalog:
        from datagen.catalog.audit import append_audit
        from datagen.catalog.keys import create_key

        row, key = create_key(
            catalog,
            tenant=tenant,
            name=name,
            scopes=[scope for scope in _SCOPES if scope in scopes],
            created_by=OPERATOR,
            expires_in_s=None if expires_days is None else expires_days * _DAY_S,
        )
        detail = {"name": name, "scopes": list(row.scopes)}
        append_audit(
            catalog,
            tenant=tenant,
            actor=OPERATOR,
            action="key.create",
            target=row.id,
            detail=detail,
        )
    if as_json:
        print_json({**_content(row), "key": key})
    else:
        click.echo(key)
        click.echo("write it down: only its hash is kept, and nobody can show it again", err=True)


@keys.command("list")
@click.option("--tenant", metavar="NAME", help="Of this tenant alone.")
@shared_options
def list_(tenant: str | None, home: Path | None, as_json: bool) -> None:
    """List the keys, revoked ones as well; never the keys themselves."""
    with _open_catalog(home) as catalog:
        from datagen.catalog.keys import list_keys

        rows = list_keys(catalog if tenant is None else catalog.of(tenant), limit=_MAX_ROWS)
    if as_json:
        print_json({"keys": [_content(row) for row in rows]})
        return
    header = ("key", "tenant", "name", "scopes", "created", "state")
    print_table(
        header,
        [
            (row.id, row.tenant, row.name, " ".join(row.scopes), time_text(row.created_at), state)
            for row, state in ((row, _state(row)) for row in rows)
        ],
    )


@keys.command("revoke")
@click.argument("key_id", metavar="KEY_ID")
@shared_options
def revoke(key_id: str, home: Path | None, as_json: bool) -> None:
    """Revoke a key, at once and for good."""
    with _open_catalog(home) as catalog:
        from datagen.catalog.audit import append_audit
        from datagen.catalog.keys import find_key, revoke_key

        revoke_key(catalog, key_id)
        row = find_key(catalog, key_id)
        assert row is not None
        append_audit(
            catalog,
            tenant=row.tenant,
            actor=OPERATOR,
            action="key.revoke",
            target=key_id,
            detail={},
        )
    if as_json:
        print_json(_content(row))
    else:
        click.echo(f"key {key_id} of {row.tenant} is revoked")


def _state(row: KeyRow) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.is_expired else "valid"


def _content(row: KeyRow) -> dict[str, Any]:
    def moment(at: float | None) -> str | None:
        return None if at is None else time_text(at)

    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "scopes": list(row.scopes),
        "created_at": time_text(row.created_at),
        "expires_at": moment(row.expires_at),
        "revoked_at": moment(row.revoked_at),
        "state": _state(row),
    }


@click.group()
def audit() -> None:
    """The audit log of a service."""


@audit.command("verify")
@click.option("--tenant", metavar="NAME", help="The log of this tenant alone.")
@click.option("--head", metavar="SEQ:HASH", help="A head of that log, written down earlier.")
@shared_options
def verify(tenant: str | None, head: str | None, home: Path | None, as_json: bool) -> None:
    """Check that no row was changed, removed or put in between.

    Rows cut off at the end leave a chain that is sound: --head finds that out. Exit code 5 if a
    log is damaged.
    """
    if head is not None and (tenant is None or not re.fullmatch(r"[0-9]{1,18}:[0-9a-f]{64}", head)):
        raise InputError(f"--head {head!r}: expected SEQ:HASH as printed here, with --tenant")
    with _open_catalog(home) as catalog:
        from datagen.catalog.audit import audited_tenants, has_row, verify_chain

        names = [tenant] if tenant else audited_tenants(catalog)
        reports = [verify_chain(catalog, name) for name in names]
        lost_head = head is not None and tenant is not None and not has_row(catalog, tenant, head)
    if as_json:
        print_json({"logs": [_report(r) for r in reports], "head_found": not lost_head})
    else:
        rows = [(r.tenant, r.num_rows, _verdict(r), f"{r.head_seq}:{r.head_hash}") for r in reports]
        print_table(("tenant", "rows", "state", "head"), rows)
    damaged = [r.tenant for r in reports if r.broken_at is not None]
    if damaged:
        raise VerifyError(f"the audit log of {', '.join(damaged)} was changed after it was written")
    if lost_head:
        raise VerifyError(f"the audit log of {tenant} has no row {head}: its end was cut off")


def _verdict(report: ChainReport) -> str:
    return "sound" if report.broken_at is None else f"broken at row {report.broken_at}"


def _report(report: ChainReport) -> dict[str, Any]:
    return {
        "tenant": report.tenant,
        "rows": report.num_rows,
        "broken_at": report.broken_at,
        "head": f"{report.head_seq}:{report.head_hash}",
    }


@click.group()
def tenants() -> None:
    """The tenants of a service."""


Limit = float | str | None  # a number, none, or nothing was said


def _limit(kind: click.IntRange | click.FloatRange) -> Callable[..., Limit]:
    """Of an option whose value is a number that `kind` takes, or none for no limit."""

    def convert(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Limit:
        if value is None or value == _NO_LIMIT:
            return value
        number: float = kind(value, parameter, ctx)
        return number

    return convert


_count = _limit(click.IntRange(0))
_days = _limit(click.FloatRange(0, min_open=True))


@tenants.command("set-quota")
@_tenant_option
@click.option("--running-jobs", callback=_count, metavar="N|none", help="Jobs at the same time.")
@click.option(
    "--images-per-day", callback=_count, metavar="N|none", help="Images asked for in 24 hours."
)
@click.option(
    "--bytes", "max_bytes", callback=_count, metavar="N|none", help="Of all that it keeps."
)
@click.option(
    "--attempt-days",
    callback=_days,
    metavar="DAYS|none",
    help="How long attempts are kept.",
)
@shared_options
def set_quota(
    tenant: str,
    running_jobs: Limit,
    images_per_day: Limit,
    max_bytes: Limit,
    attempt_days: Limit,
    home: Path | None,
    as_json: bool,
) -> None:
    """Set quotas of a tenant: what is left out stays as it is; `none` lifts a limit."""
    wanted = {
        "max_running_jobs": running_jobs,
        "max_images_per_day": images_per_day,
        "max_bytes": max_bytes,
        "attempt_retention_days": attempt_days,
    }
    with _open_catalog(home) as catalog:
        from datagen.catalog.audit import append_audit
        from datagen.catalog.tenants import Quota, get_quota
        from datagen.catalog.tenants import set_quota as write_quota

        content: dict[str, Any] = asdict(get_quota(catalog, tenant))
        content |= {
            name: None if limit == _NO_LIMIT else limit
            for name, limit in wanted.items()
            if limit is not None
        }
        write_quota(catalog, tenant, Quota(**content))
        append_audit(
            catalog,
            tenant=tenant,
            actor=OPERATOR,
            action="tenant.quota",
            target=tenant,
            detail=content,
        )
    if as_json:
        print_json({"tenant": tenant, **content})
    else:
        rows = [(name, "unlimited" if v is None else f"{v:,}") for name, v in content.items()]
        print_table(("quota", tenant), rows)
