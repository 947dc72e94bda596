"""show, remake: where a version, or one image of it, comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import (
    Library,
    address_text,
    open_library,
    open_settings,
    pin_threads,
)
from datagen.commands.output import (
    duration_text,
    plural,
    print_counts,
    print_facts,
    print_json,
    print_rejections,
    size_text,
    time_text,
)
from datagen.commands.remote import refuse_remote
from datagen.commands.remote_inspection import show_sample_remote, show_version_remote
from datagen.errors import InputError, VerifyError

if TYPE_CHECKING:
    from datagen.catalog.rows import SampleRow
    from datagen.remake import Remade
    from datagen.settings import Settings
    from datagen.versions import OpenVersion

_version_argument = click.argument("version", metavar="NAME[@VERSION]")


@click.command()
@_version_argument
@click.argument("sample", required=False)
@shared_options
def show(version: str, sample: str | None, home: Path | None, as_json: bool) -> None:
    """Describe a version, or one image of it.

    SAMPLE is the key of an image, such as trouser-00000012.
    """
    settings = open_settings(home)
    if settings.api_url is None:
        content = _from_home(version, sample, settings)
    elif sample is None:
        content = show_version_remote(version, settings)
    else:
        content = show_sample_remote(version, sample, settings)
    if as_json:
        print_json(content)
    elif sample is None:
        _print_version(content)
    else:
        _print_sample(content)


def _from_home(version: str, sample: str | None, settings: Settings) -> dict[str, Any]:
    with open_library(settings) as library:
        from datagen.versions import open_version

        opened = open_version(library.catalog, library.store, library.settings.tenant, version)
        if sample is None:
            return _version_content(library, opened)
        from datagen.remake import find_sample

        return _sample_content(library, opened, find_sample(library.catalog, opened.row, sample))


def _version_content(library: Library, opened: OpenVersion) -> dict[str, Any]:
    from datagen.approval import standing_json, standing_of
    from datagen.attachments import attachment_json, attachments_of
    from datagen.catalog.attempts import rejections_by_reason
    from datagen.manifest import claims_of

    manifest, row = opened.manifest, opened.row
    sheets = [d.path for d in manifest.documents if d.path.startswith("contact-sheets/")]
    return {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "num_samples": row.num_samples,
        "size_bytes": row.size_bytes,
        "image_size": list(manifest.image_size),
        "channels": manifest.channels,
        "counts": {c: manifest.counts[c] for c in opened.reader.class_names},
        "shortfall": manifest.shortfall,
        "rejections": rejections_by_reason(library.catalog, row.job_id),
        "model": manifest.model,
        "recipe": manifest.recipe,
        "recipe_digest": manifest.recipe_digest,
        "fingerprint": manifest.fingerprint,
        "code_version": manifest.code_version,
        "published_at": time_text(row.published_at),
        "seconds": row.seconds,
        "shards": len(manifest.shards),
        "path": address_text(library.store.url(opened.prefix.rstrip("/"))),
        "contact_sheets": [address_text(library.store.url(opened.prefix + s)) for s in sheets],
        "performance_claims": claims_of(manifest.counts),
        "sign_off": standing_json(standing_of(library.catalog, row)),
        "attachments": [attachment_json(a) for a in attachments_of(library.catalog, row)],
    }


def _print_version(content: dict[str, Any]) -> None:
    height, width = content["image_size"]
    kind = "grey" if content["channels"] == 1 else "RGB"
    if content["recipe"]["output"].get("bits", 8) != 8:
        kind += f" of {content['recipe']['output']['bits']} bits"
    click.echo(f"{content['name']}@{content['version']}\n")
    print_counts(content["counts"])
    click.echo()
    if any(content["rejections"].values()):
        print_rejections(content["rejections"], kept=content["counts"])
        click.echo()
    options = content["recipe"]["generator"]["options"]
    facts = {
        "images": f"{content['num_samples']:,}, {width} x {height} pixels, {kind}, in "
        f"{plural(content['shards'], 'shard')}, {size_text(content['size_bytes'])} in all",
        "model": f"{content['model']['name']} ({content['model']['digest'][:12]})",
        "options": ", ".join(f"{name} {value}" for name, value in options.items()) or "none",
        **_told_conditioning(content["recipe"].get("conditioning", {})),
        "published": f"{content['published_at']}, {duration_text(content['seconds'])} after it "
        f"was asked for, by datagen {content['code_version']}",
        "data set": content["path"],
        "contact sheets": f"{content['path']}/contact-sheets/",
        "recipe digest": content["recipe_digest"],
        "digest": content["digest"],
        "splits": content["performance_claims"],
        "state": _standing_line(content["sign_off"]),
        "attached": ", ".join(a["file_name"] for a in content["attachments"]) or "nothing yet",
    }
    if content["shortfall"]:
        facts["short of"] = ", ".join(f"{c}: {n:,}" for c, n in content["shortfall"].items())
    print_facts(facts)


def _told_conditioning(body: Mapping[str, Any]) -> dict[str, str]:
    """body: of the stored recipe; see ResolvedRecipe.condition_body."""
    told: dict[str, str] = {}
    if "model" in body:
        told["conditions"] = f"{body['kind']} by {body['model']} ({body['model_digest'][:12]})"
        options = ", ".join(f"{name} {value}" for name, value in body["options"].items())
        told["conditions"] += f", {options}" if options else ""
    if body.get("label_kinds"):
        kinds, names = body["label_kinds"], body["names"][1:]
        told["labels"] = f"{', '.join(kinds)}; of {', '.join(names[:10])}"
        told["labels"] += f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return told


def _standing_line(signed: dict[str, Any] | None) -> str:
    if not signed or not signed["use"]:
        return "draft: nobody signed it off"
    until = f" until {signed['until']}" if signed["until"] else ""
    return f"{signed['state']} for {signed['use']!r}{until}, by {signed['by']}"


def _sample_content(library: Library, opened: OpenVersion, row: SampleRow) -> dict[str, Any]:
    values = row._asdict()
    entry = opened.manifest.shards[row.shard]
    return {
        "key": f"{row.class_name}-{row.ordinal:08d}",
        "name": opened.row.name,
        "version": opened.row.version,
        **values,
        "attributes": json.loads(row.attributes),
        "scores": json.loads(row.scores),
        "augmentations": json.loads(row.augmentations),
        "labels": json.loads(row.labels),
        "shard": address_text(library.store.url(opened.prefix + entry.path)),
        "model": opened.manifest.model,
        "recipe_digest": opened.manifest.recipe_digest,
        "recipe_seed": opened.manifest.recipe["seed"],
        "fingerprint": opened.manifest.fingerprint,
        "code_version": opened.manifest.code_version,
    }


def _print_sample(content: dict[str, Any]) -> None:
    click.echo(f"{content['key']} of {content['name']}@{content['version']}\n")
    attributes = ", ".join(f"{name} {value}" for name, value in content["attributes"].items())
    steps = "; ".join(
        " ".join([step["transform"], *(f"{k}={v}" for k, v in step["params"].items())])
        for step in content["augmentations"]
    )
    attempt = content["attempt"]
    before = "the first" if attempt == 0 else f"{plural(attempt, 'attempt')} rejected before it"
    print_facts(
        {
            "class": content["class_name"] + (f" ({attributes})" if attributes else ""),
            "split": content["split"],
            "attempt": f"{attempt} ({before})",
            "attempt key": content["attempt_key"],
            "seed": f"{content['seed']} (of recipe seed {content['recipe_seed']})",
            "augmentation seed": str(content["augmentation_seed"]),
            "augmentations": steps or "none",
            "scores": ", ".join(f"{k} {v}" for k, v in content["scores"].items()) or "none",
            **_told_labels(content["labels"]),
            "model": f"{content['model']['name']} ({content['model']['digest'][:12]})",
            "raw sha256": content["raw_sha256"],
            "image sha256": content["image_sha256"],
            "shard": content["shard"],
            "bytes": f"{content['size']:,} from offset {content['offset']:,}",
            "next": f"datagen remake {content['name']}@{content['version']} {content['key']}",
        }
    )


def _told_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """What a sample has beside its class, in words."""
    told: dict[str, str] = {}
    if labels.get("also"):
        told["also"] = ", ".join(labels["also"])
    if "caption" in labels:
        told["caption"] = labels["caption"]
    if "objects" in labels:
        counts = Counter(each["class_name"] for each in labels["objects"])
        told["objects"] = ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none"
    if maps := [kind for kind in ("mask", "instances") if f"{kind}_sha256" in labels]:
        told["label maps"] = " and ".join(maps) + ", beside the image"
    if "spacing_mm" in labels:
        told["spacing"] = " x ".join(f"{side:g}" for side in labels["spacing_mm"]) + " mm"
    if "source" in labels:
        told["conditioned on"] = labels["source"]
    return told


@click.command()
@_version_argument
@click.argument("sample")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the new PNG here."
)
@shared_options
@click.pass_context
def remake(
    ctx: click.Context,
    version: str,
    sample: str,
    out: Path | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Make one image again and compare it with the stored one."""
    settings = open_settings(home)
    refuse_remote(settings, "remake")
    pin_threads(settings)
    with open_library(settings) as library:
        from datagen.remake import remake_sample
        from datagen.versions import find_version

        row = find_version(library.catalog, version)
        remade = remake_sample(library.catalog, library.store, settings, row, sample)
    if out is not None:
        _write_new(out, remade.png)
    if as_json:
        print_json(_remade_json(remade))
    else:
        _print_remade(remade, f"{row.name}@{row.version}")
    if not remade.identical and not remade.fingerprint_changes:
        ctx.exit(VerifyError.exit_code)


def _write_new(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"--out {path}: cannot be written ({error.strerror})") from None


def _remade_json(remade: Remade) -> dict[str, Any]:
    content = asdict(remade)
    del content["png"]
    return content


def _print_remade(remade: Remade, version: str) -> None:
    name = f"{remade.key} of {version}"
    if remade.identical:
        click.echo(f"{name}: identical, sha256 {remade.image_sha256}")
    else:
        pixels = remade.num_pixels_changed
        what = "the stored image cannot be read" if pixels is None else f"{pixels:,} pixels differ"
        raw = "is the same" if remade.raw_identical else "differs"
        click.echo(f"{name}: differs: {what}; the model's raw image {raw}")
        click.echo(f"now    sha256 {remade.image_sha256}\nstored sha256 {remade.stored_sha256}")
    for change in remade.fingerprint_changes:
        click.echo(f"fingerprint: {change.field} was {change.then}, is {change.now}")
    if not remade.identical:
        click.echo(
            "the fingerprint is another one: other bytes are no sign of damage"
            if remade.fingerprint_changes
            else "the fingerprint is the same: run `datagen verify`"
        )
