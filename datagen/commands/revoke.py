"""revoke: a source, a model or a version is taken away, with all that descends from it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.keys import OPERATOR, named_tenant
from datagen.commands.opening import Library, open_library, open_settings
from datagen.commands.output import MAX_ROWS, plural, print_facts, print_json, size_text
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.revocation import Revocation


def _optional_tenant(
    ctx: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    return None if value is None else named_tenant(ctx, parameter, value)


@click.command()
@click.argument("subject", metavar="SHA256|MODEL|NAME@VERSION")
@click.option("--reason", help="Why; every later reader is told.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--tenant",
    metavar="NAME",
    callback=_optional_tenant,
    help="Whose, in a service's database; else the home's own.",
)
@shared_options
def revoke(
    subject: str,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    tenant: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Take a source, a model or a version away for ever, with all that descends from it.

    A source is the sha256 of a model's training data, as `datagen models show` tells it. What was
    revoked is refused from then on, its bytes are deleted, and its digest is kept.
    """
    if reason is None and not dry_run:
        raise InputError("--reason is missing: say why, for every later reader; or --dry-run")
    settings = open_settings(home)
    refuse_remote(settings, "revoke")
    if tenant is not None:
        settings = settings.of(tenant)
    with open_library(settings) as library:
        from datagen.revocation import plan_revocation

        catalog = library.catalog.of(settings.tenant)
        library = Library(settings, catalog, library.store)
        planned = plan_revocation(catalog, settings, subject)
        if not as_json:
            _print_revocation(planned)
        if not dry_run:
            if not yes:
                click.confirm("Revoke all of this for ever?", abort=True, err=True)
            planned, num_deleted = _revoke(library, subject, str(reason))
    if as_json:
        deleted = {} if dry_run else {"objects_deleted": num_deleted}
        print_json(_content(planned) | {"dry_run": dry_run} | deleted)
    elif not dry_run:
        click.echo(f"revoked; {plural(num_deleted, 'object')} deleted")


def _revoke(library: Library, subject: str, reason: str) -> tuple[Revocation, int]:
    """And the number of objects deleted."""
    from datagen.catalog.audit import append_audit
    from datagen.revocation import SETTLE_S, erase_all, revoke

    done = revoke(library.catalog, library.settings, subject, reason=reason, actor=OPERATOR)
    append_audit(
        library.catalog,
        tenant=library.settings.tenant,
        actor=OPERATOR,
        action=f"{'dataset' if done.kind == 'version' else done.kind}.revoke",
        target=done.subject,
        detail={"reason": reason, "digest": done.digest},
    )
    # Workers of a service may still be writing: theirs is the last look.
    is_home = library.settings.database_url.startswith("sqlite")
    settle_s = 0.0 if is_home else SETTLE_S
    return done, erase_all(library.catalog, library.store, settle_s=settle_s)


def _content(found: Revocation) -> dict[str, Any]:
    descent = found.descent
    return {
        "kind": found.kind,
        "subject": found.subject,
        "digest": found.digest,
        "already": found.already,
        "models": [model._asdict() for model in descent.models],
        "versions": [_version(row) for row in descent.versions],
        "jobs": [job.uid for job in descent.jobs],
        "num_attempts": descent.num_attempts,
        "attempt_bytes": descent.attempt_bytes,
        "sharing": [_version(row) for row in descent.sharing],
    }


def _version(row: Any) -> dict[str, Any]:
    content = asdict(row)
    return {name: content[name] for name in ("name", "version", "digest", "num_samples")}


def _print_revocation(found: Revocation) -> None:
    descent = found.descent
    versions = [f"{row.name}@{row.version}" for row in descent.versions]
    shared = [f"{row.name}@{row.version}" for row in descent.sharing]
    again = ", revoked before" if found.already else ""
    facts = {
        found.kind: f"{found.subject}{again}",
        "digest": found.digest,
        "models": _listed([f"{m.name} ({m.digest[:12]})" for m in descent.models]),
        "versions": _listed(versions),
        "images": f"{sum(row.num_samples for row in descent.versions):,}",
        "jobs": _listed([job.uid for job in descent.jobs]),
        "attempts": f"{plural(descent.num_attempts, 'object')}, {size_text(descent.attempt_bytes)}",
    }
    if shared:
        facts["stay"] = f"{_listed(shared)}: may hold the same images; revoke them as well"
    print_facts(facts)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_ROWS:,} more" if len(names) > MAX_ROWS else ""
    return ", ".join(names[:MAX_ROWS]) + more or "none"
