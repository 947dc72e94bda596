"""report: the page that an evaluation attached to a version, or to a job that its gates refused."""

from __future__ import annotations

import hashlib
import re
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import Library, address_text, open_library, open_settings
from datagen.commands.output import print_facts, print_json, size_text
from datagen.commands.remote import open_client
from datagen.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.rows import Job, VersionRow
    from datagen.client import Client
    from datagen.settings import Settings

_JOB_ID = re.compile("[0-9a-f]{32}")


@click.command()
@click.argument("version", metavar="NAME[@VERSION]|JOB")
@click.option("--open", "opens", is_flag=True, help="Show it in the browser.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it here; else where the store is no folder, to ./NAME-VERSION-report.html.",
)
@shared_options
def report(version: str, opens: bool, out: Path | None, home: Path | None, as_json: bool) -> None:
    """Write or open the newest report of a version; `datagen evaluate` makes one.

    JOB, the id of a job, shows what the gates of its recipe refused.
    """
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
                "of": _subject(found),
                "size": size_text(found["size_bytes"]),
            }
        )
    if opens and not webbrowser.open(Path(found["path"]).absolute().as_uri()):
        click.echo("no browser was found; open the file yourself", err=True)


def _subject(found: dict[str, Any]) -> str:
    name = f"{found['name']}@{found['version']}"
    made = f", made {found['created_at']}" if "created_at" in found else ""
    return f"{name}, {found['job_state']}{made}" if found["job_state"] else f"{name}{made}"


def _from_home(library: Library, version: str, out: Path | None) -> dict[str, Any]:
    from datagen.attachments import REPORT, attachment_json, need_attachment, read_attachment
    from datagen.versions import find_version

    refused = _refused(library.catalog, version)
    row: VersionRow | Job = refused or find_version(library.catalog, version)
    newest = need_attachment(library.catalog, row, kind=REPORT)
    data = read_attachment(library.store, newest)
    address = library.store.url(newest.key)
    if out is None and address.startswith("file:"):
        path = address_text(address)
    else:
        path = _write(out or Path(f"{row.name}-{row.version}-report.html"), data)
    state = refused.state if refused else None
    named = {"name": row.name, "version": row.version, "path": path, "job_state": state}
    return named | attachment_json(newest)


def _refused(catalog: Catalog, text: str) -> Job | None:
    """The job of this id; of a name, its newest one if that failed and has a report."""
    from datagen.attachments import REPORT, newest_attachment
    from datagen.catalog.jobs import get_job_by_uid, list_jobs
    from datagen.catalog.rows import FAILED, PUBLISHED
    from datagen.versions import find_version

    if _JOB_ID.fullmatch(text) and (job := get_job_by_uid(catalog, text)):
        if job.state == PUBLISHED:
            find_version(catalog, f"{job.name}@{job.version}")  # it may have been revoked
        return job
    for job in list_jobs(catalog, limit=1, name=text):
        if job.state == FAILED and newest_attachment(catalog, job, kind=REPORT):
            return job
    return None


def _from_service(version: str, settings: Settings, out: Path | None) -> dict[str, Any]:
    with open_client(settings) as client:
        if _JOB_ID.fullmatch(version) and (refused := _job_from_service(client, version, out)):
            return refused
        found = client.version(version)
        exact = f"{found.name}@{found.version}"
        newest = client.report(exact)
        data = client.attached(exact, newest)
    path = _write(out or Path(f"{found.name}-{found.version}-report.html"), data)
    named = {"name": found.name, "version": found.version, "path": path, "job_state": None}
    return named | asdict(newest)


def _job_from_service(client: Client, job_id: str, out: Path | None) -> dict[str, Any] | None:
    """None if there is no such job: a data set may be called so."""
    try:
        job = client.job(job_id)
    except NotFoundError:
        return None
    data = client.job_report(job_id)
    return {
        "name": job.name,
        "version": job.version,
        "path": _write(out or Path(f"{job.name}-{job.version}-report.html"), data),
        "job_state": job.state,
        "kind": "report",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }


def _write(path: Path, data: bytes) -> str:
    """A report that was written before gives way; any other file does not."""
    try:
        if path.exists() and not path.read_bytes().lstrip()[:9].lower() == b"<!doctype":
            raise InputError(f"{path}: exists and is no report; name another file with --out")
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    return str(path.absolute())
