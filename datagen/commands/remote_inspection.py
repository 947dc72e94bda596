"""show and diff as a service answers them, in the shapes of the embedded ones. Called where
DATAGEN_API_URL is set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from datagen.commands.remote import open_client

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.results import Version
    from datagen.settings import Settings


def show_version_remote(version: str, settings: Settings) -> dict[str, Any]:
    """As `show NAME --json` prints it."""
    from datagen.manifest import claims_of

    with open_client(settings) as client:
        found = client.version(version)
        exact = f"{found.name}@{found.version}"
        manifest = client.manifest(exact)
        rejections = _rejections(client, found)
        attached = [asdict(each) for each in client.attachments(exact)]
    sheets = [d.path for d in manifest.documents if d.path.startswith("contact-sheets/")]
    return {
        "name": found.name,
        "version": found.version,
        "digest": found.digest,
        "num_samples": found.num_samples,
        "size_bytes": found.size_bytes,
        "image_size": list(manifest.image_size),
        "channels": manifest.channels,
        "counts": {c["name"]: manifest.counts[c["name"]] for c in manifest.recipe["classes"]},
        "shortfall": manifest.shortfall,
        "rejections": rejections,
        "model": manifest.model,
        "recipe": manifest.recipe,
        "recipe_digest": manifest.recipe_digest,
        "fingerprint": manifest.fingerprint,
        "code_version": manifest.code_version,
        "published_at": found.published_at,
        "seconds": found.seconds,
        "shards": len(manifest.shards),
        "path": found.path,
        "contact_sheets": [f"{found.path}/{sheet}" for sheet in sheets],
        "performance_claims": claims_of(manifest.counts),
        "sign_off": None if found.sign_off is None else asdict(found.sign_off),
        "attachments": attached,
    }


def _rejections(client: Client, version: Version) -> dict[str, dict[str, int]]:
    """Class name -> reason -> attempts, of the job that made it."""
    for job in client.jobs(name=version.name, state="PUBLISHED"):
        if job.version == version.version:
            progress = client.job(job.id).progress
            classes = progress.classes if progress else {}
            return {name: each.rejected for name, each in classes.items() if each.rejected}
    return {}


def show_sample_remote(version: str, sample: str, settings: Settings) -> dict[str, Any]:
    """As `show NAME SAMPLE --json` prints it."""
    with open_client(settings) as client:
        found = client.version(version)
        behind = client.lineage_of_sample(f"{found.name}@{found.version}", sample)
    row: dict[str, Any] = behind["sample"]
    return {
        **row,
        "name": found.name,
        "version": found.version,
        "shard": f"{found.path}/{row['shard']}",
        "model": {name: behind["model"][name] for name in ("name", "digest")},
        "recipe_digest": behind["recipe_digest"],
        "recipe_seed": behind["recipe_seed"],
        "fingerprint": behind["fingerprint"],
        "code_version": behind["code_version"],
    }


def diff_remote(before: str, after: str, settings: Settings) -> dict[str, Any]:
    """As `diff --json` prints it."""
    with open_client(settings) as client:
        return client.diff(before, after)
