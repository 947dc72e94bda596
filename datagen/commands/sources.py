"""sources: real images, registered with the terms they came under before they train anything."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.data_path import DataPath
from datagen.commands.edge import shared_options
from datagen.commands.keys import OPERATOR
from datagen.commands.opening import Library, open_catalog, open_library, open_settings
from datagen.commands.output import (
    MAX_ROWS,
    plural,
    print_facts,
    print_json,
    print_table,
    time_text,
)
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError

if TYPE_CHECKING:
    from datagen.catalog.sources import Source
    from datagen.settings import Settings
    from datagen.training.model_recipe import DataFormat
    from datagen.withdrawal import Derived

_FORMATS = [
    *("auto", "idx", "imagefolder", "npz", "table", "webdataset", "huggingface", "nifti", "dicom"),
]


@click.group()
def sources() -> None:
    """Register, list, describe and withdraw the real images that models are trained on.

    The images stay where they are; their digest and the terms they came under are kept.
    """


@sources.command("register")
@click.argument("location", metavar="DIR|s3://...", type=DataPath(path_type=Path))
@click.option("--name", required=True, help="Other images or terms are its next version.")
@click.option("--licence", required=True, help="The licence of the images.")
@click.option("--permitted-use", required=True, help="What they may be used for, in words.")
@click.option("--use", "uses", multiple=True, help="A permitted use by name; may be repeated.")
@click.option("--consent", required=True, help="Consent, or another legal basis.")
@click.option("--contact", required=True, help="Who answers for them.")
@click.option("--expires", metavar="YYYY-MM-DD", help="The last day; else never.")
@click.option("--description", help="Where they come from, for cards; else the name.")
@click.option("--format", "data_format", type=click.Choice(_FORMATS), default="auto")
@click.option("--profile", help="Profile of the AWS configuration that may read s3://...")
@click.option("--allow-synthetic", is_flag=True, help="Also of images that a model made.")
@shared_options
def register(
    location: Path,
    name: str,
    licence: str,
    permitted_use: str,
    uses: tuple[str, ...],
    consent: str,
    contact: str,
    expires: str | None,
    description: str | None,
    data_format: DataFormat,
    profile: str | None,
    allow_synthetic: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Read real images, and register them with their terms.

    The same images under the same terms stay what they are.
    """
    settings = _own_settings(home)
    from datagen.catalog.sources import Terms
    from datagen.sources import images_at, register_images

    terms = Terms(licence, description or name, permitted_use, uses, consent, contact, expires)
    data = images_at(location, terms, format=data_format, allow_synthetic=allow_synthetic)
    with open_catalog(settings) as catalog:
        source, is_new = register_images(
            catalog, settings, data, name=name, terms=terms, profile=profile
        )
    if as_json:
        print_json(_content(source) | {"is_new": is_new})
        return
    click.echo(f"{source.label} {'is registered' if is_new else 'was registered already'}\n")
    _print_source(source)


@sources.command("ls")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the registered sources, withdrawn ones as well."""
    settings = _own_settings(home)
    from datagen.sources import each_source

    with open_catalog(settings) as catalog:
        found = list(each_source(catalog))
    if as_json:
        print_json({"sources": [_content(source) for source in found]})
        return
    rows: list[list[str | int]] = [
        [s.label, s.num_images, s.terms.licence, _state(s), s.location] for s in found
    ]
    print_table(["source", "images", "licence", "state", "location"], rows)


@sources.command("show")
@click.argument("name", metavar="NAME[@VERSION]")
@shared_options
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Describe a source, and all that was derived from it."""
    settings = _own_settings(home)
    from datagen.sources import find_source
    from datagen.withdrawal import derived_of

    with open_library(settings) as library:
        source = find_source(library.catalog, name)
        derived = derived_of(library.catalog, settings, source.label)
    if as_json:
        print_json(_content(source) | _derived_content(derived))
        return
    _print_source(source)
    _print_derived(derived)


@sources.command("withdraw")
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--reason", help="Why; every later reader is told.")
@click.option("--dry-run", is_flag=True, help="Only list what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def withdraw(
    name: str, reason: str | None, dry_run: bool, yes: bool, home: Path | None, as_json: bool
) -> None:
    """Take a source back for ever, with the models trained on it and all that they made.

    NAME is all of its versions. Its images train nothing from then on, under any name.
    """
    if reason is None and not dry_run:
        raise InputError("--reason is missing: say why, for every later reader; or --dry-run")
    settings = _own_settings(home)
    with open_library(settings) as library:
        from datagen.withdrawal import derived_of

        derived = derived_of(library.catalog, settings, name)
        if not as_json:
            _print_derived(derived)
        num_deleted = 0
        if not dry_run:
            if not yes:
                _confirm("Withdraw all of this for ever?")
            derived, num_deleted = _withdraw(library, name, str(reason))
    if as_json:
        deleted = {} if dry_run else {"objects_deleted": num_deleted}
        print_json(_derived_content(derived) | {"dry_run": dry_run} | deleted)
    elif not dry_run:
        click.echo(f"withdrawn; {plural(num_deleted, 'object')} deleted")


def _withdraw(library: Library, name: str, reason: str) -> tuple[Derived, int]:
    """And the number of objects deleted."""
    from datagen.catalog.audit import append_audit
    from datagen.revocation import SETTLE_S, erase_all
    from datagen.withdrawal import withdraw

    done = withdraw(library.catalog, library.settings, name, reason=reason, actor=OPERATOR)
    for source in done.sources:
        append_audit(
            library.catalog,
            tenant=library.settings.tenant,
            actor=OPERATOR,
            action="source.withdraw",
            target=source.label,
            detail={"reason": reason, "digest": source.digest},
        )
    # Workers of a service may still be writing: theirs is the last look.
    is_home = library.settings.database_url.startswith("sqlite")
    settle_s = 0.0 if is_home else SETTLE_S
    return done, erase_all(library.catalog, library.store, settle_s=settle_s)


def _confirm(question: str) -> None:
    """Raises click.Abort if the answer is no, InputError if there is nobody to ask."""
    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise InputError(
            "not confirmed, and there is no terminal to ask at; nothing was withdrawn: --yes "
            "withdraws without asking"
        ) from None


def _own_settings(home: Path | None) -> Settings:
    settings = open_settings(home)
    refuse_remote(settings, "sources")
    return settings


def _content(source: Source) -> dict[str, Any]:
    terms = source.terms._asdict()
    return {
        "name": source.name,
        "version": source.version,
        "digest": source.digest,
        "num_images": source.num_images,
        "num_classes": len(source.class_digests),
        "generation_depth": source.depth,
        **terms,
        "permitted_uses": list(source.terms.permitted_uses),
        "location": source.location,
        "format": source.format,
        "profile": source.profile,
        "created_at": time_text(source.created_at),
        "withdrawn_at": None if source.withdrawn_at is None else time_text(source.withdrawn_at),
        "withdrawn_reason": source.withdrawn_reason,
    }


def _derived_content(derived: Derived) -> dict[str, Any]:
    descent = derived.descent
    return {
        "sources": [source.label for source in derived.sources],
        "trainings": [asdict(use) for use in derived.uses],
        "models": [model._asdict() for model in descent.models],
        "versions": [
            {"name": v.name, "version": v.version, "digest": v.digest, "num_samples": v.num_samples}
            for v in descent.versions
        ],
        "jobs": [job.uid for job in descent.jobs],
    }


def _state(source: Source) -> str:
    if source.withdrawn_at is not None:
        return "withdrawn"
    return f"until {source.terms.expires_on}" if source.terms.expires_on else "open"


def _print_source(source: Source) -> None:
    terms = source.terms
    num_classes = plural(len(source.class_digests), "class", "classes")
    facts = {
        "source": source.label,
        "images": f"{source.num_images:,} in {num_classes}",
        "digest": source.digest,
        "from": terms.description,
        "licence": terms.licence,
        "permitted use": ": ".join(
            filter(None, (", ".join(terms.permitted_uses), terms.permitted_use))
        ),
        "consent": terms.consent,
        "contact": terms.contact,
        "expires": terms.expires_on or "never",
        "location": source.location,
    }
    if source.profile:
        facts["read with"] = f"AWS profile {source.profile}"
    if source.depth:
        facts["synthetic"] = f"generation {source.depth}"
    if source.withdrawn_at is not None:
        facts["withdrawn"] = f"{time_text(source.withdrawn_at)}: {source.withdrawn_reason}"
    print_facts(facts)


def _print_derived(derived: Derived) -> None:
    descent = derived.descent
    print_facts(
        {
            "of": _listed([source.label for source in derived.sources]),
            "models": _listed([f"{m.name} ({m.digest[:12]})" for m in descent.models]),
            "versions": _listed([f"{row.name}@{row.version}" for row in descent.versions]),
            "jobs": _listed([job.uid for job in descent.jobs]),
        }
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_ROWS:,} more" if len(names) > MAX_ROWS else ""
    return ", ".join(names[:MAX_ROWS]) + more or "none"
