"""models add-pipeline: a pipeline that others trained, as a model of the home. Added to the group
in models.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from datagen.commands.edge import shared_options
from datagen.commands.model_facts import model_content, print_model, refuse_revoked
from datagen.commands.opening import has_catalog, open_settings
from datagen.commands.output import print_json
from datagen.commands.remote import refuse_remote
from datagen.errors import InputError


@click.command("add-pipeline")
@click.argument("name")
@click.argument("source")
@click.option("--revision", help="Of a hub id: a commit, or a branch or tag to pin.")
@click.option("--task", help="What for; else what its class does. docs/pipelines.md lists them.")
@click.option("--controlnet", metavar="SOURCE", help="A folder with a ControlNet, or a hub id.")
@click.option("--controlnet-revision", help="Of that hub id.")
@click.option("--lora", "loras", metavar="FILE[:WEIGHT]", multiple=True, help="May be repeated.")
@click.option(
    "--textual-inversion",
    "inversions",
    metavar="FILE[:TOKEN]",
    multiple=True,
    help="A learned embedding; may be repeated.",
)
@click.option("--licence", help="Where the pipeline's card states none.")
@click.option("--allow-unlicensed", is_flag=True, help="Even if nobody states one.")
@click.option("--image-size", nargs=2, type=click.IntRange(8, 1024), metavar="H W", help="Fixed.")
@click.option("--batch-size", type=click.IntRange(1, 1024), help="Images per network call.")
@click.option("--description", default="", help="For every later reader.")
@click.option("--download", is_flag=True, help="Fetch from the hub what this machine lacks.")
@shared_options
def add_pipeline(
    name: str,
    source: str,
    revision: str | None,
    task: str | None,
    controlnet: str | None,
    controlnet_revision: str | None,
    loras: tuple[str, ...],
    inversions: tuple[str, ...],
    licence: str | None,
    allow_unlicensed: bool,
    image_size: tuple[int, int] | None,
    batch_size: int | None,
    description: str,
    download: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Check a diffusers pipeline and keep it in the home as model NAME.

    SOURCE is a folder that save_pretrained wrote, or a hub id such as owner/name. Its files stay
    where they are; the model pins their sha256.
    """
    settings = open_settings(home)
    refuse_remote(settings, "models add-pipeline")
    from datagen.pipelines import PipelineRequest
    from datagen.pipelines import add_pipeline as register

    for text, limit in ((description, 1000), (licence or "", 200)):
        if len(text) > limit:
            raise InputError(f"{text[:40]!r}...: {len(text)} characters; expected at most {limit}")
    request = PipelineRequest(
        name=name,
        source=source,
        revision=revision,
        task=task,
        controlnet=controlnet,
        controlnet_revision=controlnet_revision,
        loras=tuple(map(_lora, loras)),
        textual_inversions=tuple(map(_inversion, inversions)),
        licence=licence.strip() or None if licence else None,
        allow_unlicensed=allow_unlicensed,
        image_size=image_size or None,
        batch_size=batch_size,
        description=description,
    )
    if download:
        settings = replace(settings, allow_network=True)
    model, is_new = register(request, settings)
    if has_catalog(settings):
        refuse_revoked(model, settings)
    if as_json:
        print_json(model_content(model) | {"is_new": is_new})
        return
    what = "is in" if is_new else "was there before, in"
    click.echo(f"model {model.name} {what} {model.path}\n")
    print_model(model)


def _lora(text: str) -> tuple[str, float]:
    """FILE or FILE:WEIGHT; a file whose name has a colon is named with its weight."""
    file, colon, weight = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        return file, float(weight)
    except ValueError:
        if Path(text).exists():
            return text, 1.0
        raise InputError(
            f"--lora {text!r}: weight {weight!r} is no number; expected FILE or FILE:WEIGHT"
        ) from None


def _inversion(text: str) -> tuple[str, str | None]:
    file, colon, token = text.rpartition(":")
    return (file, token) if colon and not Path(text).exists() else (text, None)
