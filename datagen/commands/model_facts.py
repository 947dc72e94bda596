"""What the commands tell of a model. Called by models.py and model_changes.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from datagen.commands.opening import has_catalog, open_library
from datagen.commands.output import duration_text, plural, print_facts, size_text
from datagen.errors import NotFoundError, RevokedError

if TYPE_CHECKING:
    from datagen.generators.model_directory import Model
    from datagen.settings import Settings


def find_model_named(name: str, settings: Settings) -> Model:
    """As a recipe names it: NAME is its newest version that is not deprecated."""
    from datagen.generators.model_directory import find_model

    with unknown_told(name, settings):
        return find_model(name, [settings.models_dir])


@contextmanager
def unknown_told(name: str, settings: Settings) -> Iterator[None]:
    """A model that does not exist is a NotFoundError then, with the command that lists them."""
    from datagen.generators.model_directory import UnknownModelError, model_names
    from datagen.recipe import suggest

    try:
        yield
    except UnknownModelError:
        known = model_names([settings.models_dir])
        raise NotFoundError(
            f"model {name!r} does not exist{suggest(name, known)}; `datagen models ls` lists them"
        ) from None


@contextmanager
def revocations(settings: Settings) -> Iterator[Callable[[Model], str | None]]:
    """Says of a model why it is not to be used any more: it, or what it comes from, was revoked.
    Without a catalog nothing was ever revoked in the home."""
    if not has_catalog(settings):
        yield lambda model: None
        return
    from datagen.registry import check_usable

    with open_library(settings) as library:

        def reason(model: Model) -> str | None:
            try:
                check_usable(library.catalog, model)
            except RevokedError as error:
                return str(error)
            return None

        yield reason


def refuse_revoked(model: Model, settings: Settings) -> None:
    """Raises RevokedError, as `run` does."""
    with revocations(settings) as reason_of:
        reason = reason_of(model)
    if reason is not None:
        raise RevokedError(reason)


def model_content(model: Model, *, revoked: str | None = None) -> dict[str, Any]:
    """revoked: why, in words, as `revocations` tells it."""
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
        "reference": _reference_content(model),
        "revoked": revoked,
        **model.facts.model_dump(mode="json"),
    }


def _reference_content(model: Model) -> dict[str, Any] | None:
    """The figures of its reference. Raises ModelError if that is damaged."""
    if model.reference is None:
        return None
    from datagen.references.reference import load_reference

    reference = load_reference(model.reference)
    facts = reference.facts
    return {
        "digest": reference.digest,
        "size_bytes": model.reference.stat().st_size,
        "num_train": facts.num_train,
        "num_calibration": facts.num_calibration,
        "num_measured": facts.num_measured,
        "licence": facts.licence,
        "source": facts.source,
        "accuracy": facts.labels.accuracy,
        "label_thresholds": dict(zip(facts.class_names, facts.labels.thresholds, strict=True)),
        "wrong_labels_rejected": facts.labels.mean_wrong_rejected,
        "right_labels_rejected": facts.labels.mean_right_rejected,
        "outliers": facts.outliers.model_dump(),
        "quality_rejected": facts.quality.rejected,
        "near_copy": facts.copies.model_dump(mode="json"),
    }


def classes_text(content: dict[str, Any]) -> str:
    return f"{len(content['class_names']):,}" if content["class_names"] else "any"


def image_size_text(content: dict[str, Any]) -> str:
    if content["image_size"] is None:
        return "any"
    height, width = content["image_size"]
    kind = {1: "grey", 3: "RGB"}.get(content["channels"], "")
    return f"{width} x {height} {kind}".rstrip()


def _pipeline_facts(model: Model) -> dict[str, str]:
    """What a pipeline is put to, and its parts."""
    network = model.config.network
    if model.config.generator != "pipeline" or not network.get("task"):
        return {}
    parts = {"task": str(network["task"])}
    if network.get("controlnet"):
        parts["controlnet"] = str(network["controlnet"])
    for name in ("loras", "textual_inversions"):
        if network.get(name):
            parts[name.replace("_", " ")] = ", ".join(str(each["source"]) for each in network[name])
    return parts


def print_model(model: Model, *, revoked: str | None = None) -> None:
    content = model_content(model, revoked=revoked)
    facts = {
        "what": content["description"] or "not described",
        "generator": content["generator"],
        **_pipeline_facts(model),
        "classes": ", ".join(content["class_names"][:20]) or "any",
        "images": image_size_text(content),
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
    print_facts(facts | _origin_facts(content) | _reference_facts(content["reference"]))


def _origin_facts(content: dict[str, Any]) -> dict[str, str]:
    """Where it comes from, and whether it is to be used."""
    facts: dict[str, str] = {}
    training, half = content["training"] or {}, content["half_precision"]
    for source in training.get("sources", ()):
        uses = [", ".join(source["permitted_uses"]), source["permitted_use"]]
        use = ": ".join(filter(None, uses)) or "permitted use not stated"
        facts[f"source {len(facts) + 1}"] = f"{source['name']}@{source['version']}, {use}"
    if training.get("generation_depth"):
        facts["synthetic"] = f"trained on images of generation {training['generation_depth']}"
    if content["parent"]:
        facts["parent"] = content["parent"]
    if half:
        facts["half"] = (
            f"{half['share_of_pixels']:.2%} of the pixels of {half['num_images']} images differ "
            f"from the parent's, by {half['mean_difference']:.3g} grey levels on average over all "
            f"and {half['max_difference']} at most"
        )
    if content["code_version"]:
        facts["made by"] = f"datagen {content['code_version']}"
    if content["deprecated"]:
        facts["deprecated"] = content["deprecated"]
    if content["revoked"]:
        facts["revoked"] = content["revoked"]
    return facts


def _default_copy_rate(near_copy: dict[str, Any]) -> float:
    """Of real images that are no copies, what the filter's default rejects."""
    from datagen.filters.near_copy import NearCopyOptions

    place = near_copy["rates"].index(NearCopyOptions().max_false_positive_rate)
    rate: float = near_copy["rejected"][place]
    return rate


def _reference_facts(reference: dict[str, Any] | None) -> dict[str, str]:
    if reference is None:
        return {"reference": "none: `datagen models fit-reference` makes one"}
    return {
        "reference": f"{reference['digest'][:12]}, {size_text(reference['size_bytes'])}, of "
        f"{plural(reference['num_train'], 'real image')}; its rates are of "
        f"{reference['num_measured']:,} others",
        "classifier": f"right on {reference['accuracy']:.1%}; label_agreement rejects "
        f"{reference['wrong_labels_rejected']:.1%} of wrong labels, "
        f"{reference['right_labels_rejected']:.1%} of right ones",
        "real images": f"outlier rejects {reference['outliers']['rejected']:.2%} of them, quality "
        f"{reference['quality_rejected']:.2%}, near_copy "
        f"{_default_copy_rate(reference['near_copy']):.2%}",
    }
