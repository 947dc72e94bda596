"""train, models: models made from real images, and those that recipes may name."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from datagen.commands.edge import shared_options
from datagen.commands.opening import open_settings
from datagen.commands.output import (
    duration_text,
    plural,
    print_facts,
    print_json,
    print_table,
    size_text,
)
from datagen.commands.progress import progress_bar
from datagen.errors import InputError, ModelError, NotFoundError, StoreError

if TYPE_CHECKING:
    from datagen.generators.model_directory import Model
    from datagen.settings import Settings

_folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("recipe", metavar="MODEL_RECIPE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=_folder, help="Folder of the real images, in place of the recipe's.")
@click.option("--out", type=_folder, help="Model directory to write; else models/NAME of the home.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(0, 1e9),
    help="Stop training then, and write the best weights so far; 0 writes them at once.",
)
@click.option(
    "--num-images",
    type=click.IntRange(1, 10**12),
    help="Real images to show to the model, in place of the recipe's.",
)
@shared_options
def train(
    recipe: Path,
    data: Path | None,
    out: Path | None,
    max_seconds: float | None,
    num_images: int | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """Train a model on real images.

    An interrupted training goes on from its last checkpoint when the same command is given again.
    """
    settings = open_settings(home)
    from datagen.training.model_recipe import load_model_recipe

    wanted = load_model_recipe(recipe)
    from datagen.training.session import train_model

    total = num_images or wanted.schedule.num_images
    try:
        with progress_bar() as report:
            report("read images", 0, total)
            model = train_model(
                wanted,
                out=out or settings.models_dir / wanted.name,
                work=settings.home / "training" / wanted.name,
                data=data,
                max_seconds=max_seconds,
                num_images=num_images,
                report=lambda progress, losses: report("train", progress.images_seen, total),
            )
    except KeyboardInterrupt:
        click.echo("the same command goes on from the last checkpoint", err=True)
        raise
    if as_json:
        print_json(_model_content(model))
    else:
        click.echo(f"model {model.name} is in {model.path}\n")
        _print_model(model)


@click.group()
def models() -> None:
    """List, describe and add the models that recipes may name."""


@models.command("ls")
@shared_options
def list_(home: Path | None, as_json: bool) -> None:
    """List the models of the home and those that are shipped."""
    settings = open_settings(home)
    from datagen.generators.model_directory import load_model, model_names

    rows: list[dict[str, Any]] = []
    for name, path in model_names([settings.models_dir]).items():
        try:
            rows.append(_model_content(load_model(path)))
        except ModelError as error:
            rows.append({"name": name, "path": str(path), "error": str(error)})
    if as_json:
        print_json({"models": rows})
        return
    table = [
        [r["name"], r["generator"], _classes_text(r), _size_text(r), r["digest"][:12], r["path"]]
        for r in rows
        if "error" not in r
    ]
    print_table(["model", "generator", "classes", "image size", "digest", "path"], table)
    for row in rows:
        if "error" in row:
            click.echo(f"not usable: {row['error']}", err=True)


@models.command("show")
@click.argument("name")
@shared_options
def show(name: str, home: Path | None, as_json: bool) -> None:
    """Describe one model."""
    model = _find(name, open_settings(home))
    if as_json:
        print_json(_model_content(model))
    else:
        click.echo(f"{model.name}\n")
        _print_model(model)


@models.command("add")
@click.argument("folder", metavar="DIR", type=_folder)
@shared_options
def add(folder: Path, home: Path | None, as_json: bool) -> None:
    """Check a model directory and copy it into the home, under the name of the directory."""
    model = _copy_model(folder, open_settings(home).models_dir)
    if as_json:
        print_json(_model_content(model))
    else:
        click.echo(f"model {model.name} is in {model.path}\n")
        _print_model(model)


def _copy_model(source: Path, models_dir: Path) -> Model:
    """Whole or not at all, checked before and after; a model that is there is never replaced."""
    from datagen.generators.model_directory import load_model

    name = source.resolve().name
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise InputError(
            f"model {source}: a recipe cannot name {name!r}: rename the folder to 1 to 63 "
            "lower-case letters, digits and '-'"
        )
    target = models_dir / name
    if os.path.lexists(target):
        raise InputError(f"model {target} exists, and a model never changes; remove it first")
    files = [path.name for path in load_model(source).path.iterdir()]
    models_dir.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=models_dir))
    try:
        for file in files:
            shutil.copyfile(source / file, partial / file, follow_symlinks=False)
        load_model(partial)
        partial.chmod(0o755)
        partial.rename(target)
    except OSError as error:
        raise StoreError(f"model {target}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_model(target)


def _find(name: str, settings: Settings) -> Model:
    from datagen.generators.model_directory import load_model, model_names
    from datagen.recipe import suggest

    known = model_names([settings.models_dir])
    if name not in known:
        raise NotFoundError(
            f"model {name!r} does not exist{suggest(name, known)}; `datagen models ls` lists them"
        )
    return load_model(known[name])


def _model_content(model: Model) -> dict[str, Any]:
    files = [file for file in model.path.iterdir() if file.is_file()]
    return {
        "name": model.name,
        "digest": model.digest,
        "generator": model.config.generator,
        "class_names": list(model.config.class_names),
        "image_size": list(model.config.image_size) if any(model.config.image_size) else None,
        "channels": model.config.channels or None,
        "network": model.config.network,
        "size_bytes": sum(file.stat().st_size for file in files),
        "path": str(model.path.absolute()),
        **model.facts.model_dump(mode="json"),
    }


def _classes_text(content: dict[str, Any]) -> str:
    return f"{len(content['class_names']):,}" if content["class_names"] else "any"


def _size_text(content: dict[str, Any]) -> str:
    if content["image_size"] is None:
        return "any"
    height, width = content["image_size"]
    kind = {1: "grey", 3: "RGB"}.get(content["channels"], "")
    return f"{width} x {height} {kind}".rstrip()


def _print_model(model: Model) -> None:
    content = _model_content(model)
    facts = {
        "what": content["description"] or "not described",
        "generator": content["generator"],
        "classes": ", ".join(content["class_names"][:20]) or "any",
        "images": _size_text(content),
        "size": size_text(content["size_bytes"]),
        "licence": content["licence"],
        "source": content["source"],
        "path": content["path"],
        "digest": content["digest"],
    }
    training, throughput = content["training"], content["throughput"]
    if len(content["class_names"]) > 20:
        facts["classes"] += f" and {len(content['class_names']) - 20:,} more"
    if training is not None:
        facts["trained"] = (
            f"on {plural(training['images_seen'], 'image')} in "
            f"{duration_text(training['seconds'])} ({training['device']})"
        )
    if throughput is not None:
        rate = 1 / throughput["seconds_per_image"]
        calls = plural(throughput["num_network_calls"], "network call")
        facts["speed"] = f"{rate:,.0f} images/s with {calls} ({throughput['device']}, one thread)"
    print_facts(facts)
