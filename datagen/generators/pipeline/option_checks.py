"""Options held against what the pipeline takes, before anything is loaded. Torch-free.

Called by spec.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from datagen.errors import ModelError
from datagen.generators.pipeline.options import PIPELINE_ARGUMENTS, SCHEDULERS
from datagen.generators.pipeline.part_configs import part_config
from datagen.generators.pipeline.request import OpenedPipeline


def check_options(opened: OpenedPipeline) -> None:
    """Raises ModelError for an option that the pipeline does not take, or that excludes another."""
    options, call = opened.options, opened.call
    given = [name for name in PIPELINE_ARGUMENTS if getattr(options, name) not in (None, {})]
    for name in given:
        if name not in call.options:
            taken = ", ".join(sorted(call.options)) or "none of its kind"
            raise ModelError(
                f"options.{name}: {opened.pipeline_class} ({opened.task}) takes no {name}; "
                f"leave it out; it takes {taken}"
            )
    if options.scheduler is not None and options.scheduler not in call.schedulers:
        able = [name for name in SCHEDULERS if name in call.schedulers]
        raise ModelError(
            f"options.scheduler {options.scheduler}: {opened.pipeline_class} takes "
            f"{', '.join(able) or 'none but its own'}"
        )
    if options.control != "given" and opened.task != "controlnet":
        raise ModelError(
            f"options.control {options.control}: task {opened.task} has no control; leave it out"
        )
    if options.picture_channels is not None and call.picture is None:
        raise ModelError(
            f"options.picture_channels: task {opened.task} is shown no picture; leave it out"
        )
    if options.vae_tiling and not {"vae", "vqvae"} & opened.folder.components.keys():
        raise ModelError(
            f"options.vae_tiling: {opened.pipeline_class} has no VAE of the kind; leave it out"
        )
    _check_strength(opened)
    _check_exclusions(opened)


def _check_strength(opened: OpenedPipeline) -> None:
    """A picture that is noised for less than one step would come back as it was."""
    given, steps = opened.options.strength, opened.options.num_inference_steps
    strength = opened.call.strength if given is None else given
    if strength is not None and int(steps * strength) < 1:
        raise ModelError(
            f"options.strength {strength}: of {steps} steps that leaves none; expected "
            f"{1 / steps:.3g} or more, or more num_inference_steps"
        )


def _check_exclusions(opened: OpenedPipeline) -> None:
    options = opened.options
    if options.cpu_offload != "none" and options.quantization != "none":
        raise ModelError(
            f"options.quantization {options.quantization} and options.cpu_offload "
            f"{options.cpu_offload} exclude each other; set one of them to none"
        )
    if options.quantization == "float8" and opened.call.sizes == "movq":
        raise ModelError(
            f"options.quantization float8: {opened.pipeline_class} computes in the type that its "
            "weights are stored in; use int8"
        )
    if options.cpu_offload != "none" and options.compile:
        raise ModelError(
            f"options.compile and options.cpu_offload {options.cpu_offload} exclude each other"
        )


def class_ids_of(opened: OpenedPipeline, class_names: Sequence[str]) -> tuple[int, ...]:
    """The number that a class-conditional model has for each class of the recipe; the classes in
    turn for a model that knows none.

    Raises ModelError if a class has none, or one that the model lacks.
    """
    if "class_labels" not in opened.call.options:
        return tuple(range(len(class_names)))
    labels, wanted = _labels(opened), opened.options.class_labels
    unknown = sorted(wanted.keys() - set(class_names))
    if unknown:
        raise ModelError(
            f"options.class_labels: {unknown[0]!r} is no class of the recipe; it has "
            f"{', '.join(class_names[:20])}"
        )
    return tuple(_class_id(name, wanted.get(name, name), labels, opened) for name in class_names)


def _labels(opened: OpenedPipeline) -> dict[str, int]:
    """Every synonym, in lower case with blanks, -> its number."""
    index = part_config(opened.folder, "").get("id2label") or {}
    names: dict[str, int] = {}
    for number, text in index.items() if isinstance(index, dict) else ():
        for synonym in str(text).split(","):
            names[_plain(synonym)] = int(number)
    return names


def _class_id(name: str, label: int | str, labels: dict[str, int], opened: OpenedPipeline) -> int:
    count = int(part_config(opened.folder, "transformer").get("num_embeds_ada_norm") or 1000)
    if isinstance(label, int):
        if not 0 <= label < count:
            raise ModelError(
                f"options.class_labels.{name} {label}: expected a whole number from 0 to "
                f"{count - 1}"
            )
        return label
    if _plain(label) not in labels:
        known = ", ".join(list(labels)[:8]) or "no labels, numbers alone"
        raise ModelError(
            f"class {name}: the model has no label {label!r}; it has {known}; give its label or "
            f"number as options.class_labels: {{{name}: ...}}"
        )
    return labels[_plain(label)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
