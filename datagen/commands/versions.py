"""ls, pull, verify, diff: what is done with published versions."""

from __future__ import annotations

import json
from dataclasses import asdict
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
from datagen.commands.progress import Report, progress_bar
from datagen.commands.remote import list_remote, pull_remote, refuse_remote
from datagen.commands.remote_inspection import diff_remote
from datagen.errors import InputError, NotFoundError, VerifyError

if TYPE_CHECKING:
    from datagen.approval import Standing
    from datagen.catalog.rows import VersionRow
    from datagen.diff import VersionDiff
    from datagen.settings import Settings
    from datagen.verify import Verification

_version_argument = click.argument("version", metavar="NAME[@VERSION]")


@click.command("ls")
@click.argument("name", required=False)
@shared_options
def list_(name: str | None, home: Path | None, as_json: bool) -> None:
    """List the versions of all data sets, or of one."""
    settings = open_settings(home)
    rows: list[dict[str, Any]] = []
    if settings.api_url is not None:
        rows = list_remote(name, settings)
    elif has_catalog(settings):
        with open_library(settings) as library:
            from datagen.approval import standings_of
            from datagen.catalog.versions import list_versions

            found = list_versions(library.catalog, name)
            standings = standings_of(library.catalog, found)
            rows = [_describe(library, row, standings[row.job_id]) for row in found]
            if name and not rows:
                raise NotFoundError(f"data set {name!r} does not exist; `datagen ls` lists all")
    if as_json:
        print_json({"versions": rows})
    elif rows:
        print_table(
            ["data set", "images", "size", "published", "digest", "state", ""],
            [
                [
                    f"{row['name']}@{row['version']}",
                    row["num_samples"],
                    size_text(row["size_bytes"]),
                    row["published_at"],
                    row["digest"][:12],
                    (row.get("sign_off") or {}).get("state", "draft"),
                    _mark(row),
                ]
                for row in rows
            ],
        )
    else:
        click.echo(f"no data set in {settings.api_url or settings.home}", err=True)


def _describe(library: Library, row: VersionRow, standing: Standing) -> dict[str, Any]:
    from datagen.approval import standing_json
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
        "deprecated_at": _optional_time(row.deprecated_at),
        "deprecated_reason": row.deprecated_reason,
        "revoked_at": _optional_time(row.revoked_at),
        "revoked_reason": row.revoked_reason,
        "sign_off": standing_json(standing),
    }


def _optional_time(seconds_since_epoch: float | None) -> str | None:
    return None if seconds_since_epoch is None else time_text(seconds_since_epoch)


def _mark(row: dict[str, Any]) -> str:
    """What a reader of the list must know before using the version."""
    if row["revoked_at"]:
        return f"revoked: {row['revoked_reason']}"
    if row["deprecated_at"]:
        return f"deprecated: {row['deprecated_reason']}"
    signed = row.get("sign_off") or {}
    until = f" until {signed['until']}" if signed.get("until") else ""
    return f"for {signed['use']}{until}" if signed.get("use") else ""


@click.command()
@_version_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "layout",
    help="One of those in docs/formats.md, such as webdataset, imagefolder or coco; else the first "
    "of the recipe's output.formats.",
)
@click.option("--use", metavar="TEXT", help="What for: then it must be signed off for this use.")
@shared_options
def pull(
    version: str,
    out: Path,
    layout: str | None,
    use: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Write a version into a new folder, for loaders.

    What was found out about it, its report say, lies beside it in the folder evaluation/.
    """
    from datagen.formats import FORMATS
    from datagen.recipe import suggest

    if layout is not None and layout not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"--format {layout!r}: expected {known}{suggest(layout, FORMATS)}")
    settings = open_settings(home)
    with progress_bar() as report:
        pull_from = _pull_from_home if settings.api_url is None else pull_remote
        pulled = pull_from(version, out, layout, use, settings, report)
    if as_json:
        print_json(pulled)
    else:
        name, images = (
            f"{pulled['name']}@{pulled['version']}",
            plural(pulled["num_samples"], "image"),
        )
        click.echo(f"{name}: {images} written to {out} as {pulled['format']}")


def _pull_from_home(
    version: str,
    out: Path,
    layout: str | None,
    use: str | None,
    settings: Settings,
    report: Report,
) -> dict[str, Any]:
    from datagen.formats import FORMATS

    with open_library(settings) as library:
        from datagen.approval import check_pull
        from datagen.attachments import beside_data, read_attachment
        from datagen.formats.beside import write_beside
        from datagen.versions import open_version

        opened = open_version(library.catalog, library.store, library.settings.tenant, version)
        check_pull(library.catalog, opened.row, policy=settings.pull_policy, use=use)
        attached = {
            each.file_name: read_attachment(library.store, each)
            for each in beside_data(library.catalog, opened.row)
        }
        total = opened.manifest.num_samples
        if layout is None:
            layout = str(opened.manifest.recipe["output"]["formats"][0])
        for done in FORMATS[layout](opened.reader, out):
            report("pull", done, total)
    written = write_beside(out, attached)
    return {
        "name": opened.row.name,
        "version": opened.row.version,
        "digest": opened.row.digest,
        "format": layout,
        "num_samples": total,
        "path": str(out.absolute()),
        "attached": written,
    }


@click.command()
@_version_argument
@shared_options
@click.pass_context
def verify(ctx: click.Context, version: str, home: Path | None, as_json: bool) -> None:
    """Read a version back and name all that is missing or changed."""
    settings = open_settings(home)
    refuse_remote(settings, "verify")
    with open_library(settings) as library:
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


@click.command()
@click.argument("before", metavar="NAME[@VERSION]")
@click.argument("after", metavar="NAME[@VERSION]")
@shared_options
def diff(before: str, after: str, home: Path | None, as_json: bool) -> None:
    """Say what differs between two versions: recipe, counts, images."""
    settings = open_settings(home)
    compared = _diff_in_home if settings.api_url is None else diff_remote
    found = compared(before, after, settings)
    if as_json:
        print_json(found)
    else:
        _print_diff(found)


def _diff_in_home(before: str, after: str, settings: Settings) -> dict[str, Any]:
    with open_library(settings) as library:
        from datagen.diff import diff_versions
        from datagen.versions import find_version

        versions = [find_version(library.catalog, text) for text in (before, after)]
        return _diff_json(diff_versions(library.catalog, versions[0], versions[1]))


def _diff_json(found: VersionDiff) -> dict[str, Any]:
    classes = {
        name: {
            "added": each.added.ranges,
            "removed": each.removed.ranges,
            "changed": each.changed.ranges,
            "unchanged": each.unchanged,
            "parts": each.parts,
        }
        for name, each in found.classes.items()
    }
    return {
        "before": found.before,
        "after": found.after,
        "recipe": [asdict(change) for change in found.recipe],
        "images": found.totals,
        "classes": classes,
    }


def _print_diff(found: dict[str, Any]) -> None:
    click.echo(f"{found['before']} -> {found['after']}")
    if found["recipe"]:
        click.echo()
        rows = [
            [c["field"], _short(c["before"]), "->", _short(c["after"])] for c in found["recipe"]
        ]
        print_table(["recipe", "", "", ""], rows)
    click.echo()
    kinds = ("added", "removed", "changed")
    changed = {name: c for name, c in found["classes"].items() if any(c[k] for k in kinds)}
    if changed:
        print_table(
            ["class", *kinds, "unchanged", "ordinals"],
            [
                [name, *(_count(c[kind]) for kind in kinds), c["unchanged"], _places(c)]
                for name, c in changed.items()
            ],
        )
        click.echo()
    click.echo(", ".join(f"{count:,} {what}" for what, count in found["images"].items()))


def _count(ranges: list[list[int]]) -> int:
    return sum(high - low + 1 for low, high in ranges)


def _places(found: dict[str, Any]) -> str:
    """The first ranges of each kind; --json has them all."""
    kinds = {"+": found["added"], "-": found["removed"], "~": found["changed"]}
    parts = []
    for sign, ranges in kinds.items():
        shown = [f"{low}" if low == high else f"{low}-{high}" for low, high in ranges[:4]]
        if len(ranges) > 4:
            shown.append("...")
        if shown:
            parts.append(f"{sign} {', '.join(shown)}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 48 else text[:45] + "..."
