"""credentials: signed content credentials (C2PA) for a version, beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_library, open_settings
from datagen.commands.output import plural, print_json
from datagen.commands.progress import progress_bar
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError

_file = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("version", metavar="NAME[@VERSION]")
@click.option("--key", required=True, type=_file, help="Private key, PEM, not encrypted.")
@click.option(
    "--cert", required=True, type=_file, help="The signer's certificate and its issuers, PEM."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write manifest.json and its sidecar there.",
)
@click.option("--images", is_flag=True, help="With --out: each image too, with a sidecar each.")
@click.option("--use", metavar="TEXT", help="With --images: what for, as `pull --use`.")
@shared_options
def credentials(
    version: str,
    key: Path,
    cert: Path,
    out: Path | None,
    images: bool,
    use: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Sign that a data set is synthetic: a C2PA manifest beside its manifest.json.

    The sidecar is attached to the version, whose own bytes stay as they are.
    """
    if images and out is None:
        raise InputError("--images: name the folder for images and sidecars with --out DIR")
    if use is not None and not images:
        raise InputError("--use: says what the images are for; give --images with it")
    settings = open_settings(home)
    refuse_remote(settings, "credentials")
    from datagen.credentials import (
        SUFFIX,
        export_credentials,
        load_signing_key,
        sign_version,
    )

    signing_key = load_signing_key(key, cert)
    with open_library(settings) as library:
        from datagen.approval import check_pull
        from datagen.versions import MANIFEST, open_version

        opened = open_version(library.catalog, library.store, settings.tenant, version)
        if images:
            check_pull(library.catalog, opened.row, policy=settings.pull_policy, use=use)
        signed = sign_version(library.catalog, library.store, opened, key=signing_key)
        total = opened.manifest.num_samples
        if out is not None:
            with progress_bar() as report:
                export_credentials(
                    opened,
                    signed,
                    out,
                    key=signing_key,
                    with_images=images,
                    report=lambda done: report("sign", done, total),
                )
    content: dict[str, Any] = {
        "name": opened.row.name,
        "version": opened.row.version,
        "digest": opened.row.digest,
        "signs": MANIFEST,
        "attached": MANIFEST + SUFFIX,
        "images": total if images else 0,
        "out": None if out is None else str(out),
    }
    if as_json:
        print_json(content)
        return
    click.echo(
        f"{opened.row.name}@{opened.row.version}: {MANIFEST} is signed; its sidecar is attached"
    )
    if out is not None:
        also = f", with {plural(total, 'signed image')}" if images else ""
        click.echo(f"written to {out}{also}")
