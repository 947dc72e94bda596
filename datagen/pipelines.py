"""Pipelines that others trained, registered as models of a home: checked, pinned and described.

Torch-free. Called by `datagen models add-pipeline`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datagen import __version__
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.generators.model_facts import ModelFacts
from datagen.generators.model_versions import parse_model_name
from datagen.generators.pipeline.files import (
    ControlNetFolder,
    PipelineFolder,
    check_controlnet,
    check_lora,
    check_task,
    check_textual_inversion,
    open_controlnet,
    open_lora,
    open_pipeline,
    open_textual_inversion,
    task_of,
)
from datagen.generators.pipeline.hub import is_hub_id, pin_revision
from datagen.generators.pipeline.licences import check_licence, check_source
from datagen.generators.pipeline.network_options import (
    LoraPart,
    PipelineNetwork,
    TextualInversionPart,
)
from datagen.generators.pipeline.part_fit import check_has_controlnet
from datagen.home_models import keep_if_new, next_folder
from datagen.settings import Settings

NOT_STATED = "none stated"
_OWN_TENSORS = ("emb_params", "clip_l", "clip_g")  # names that are no token


@dataclass(frozen=True)
class PipelineRequest:
    """What is to be registered, as a user says it.

    source, controlnet: a folder, or a hub id, whose revision may be a branch or tag; None stands
    for main there. loras: (file, weight). textual_inversions: (file, token); None for the token
    that the file names. licence: where the card states none. image_size: (height, width), None
    for any.
    """

    name: str
    source: str
    revision: str | None = None
    task: str | None = None
    controlnet: str | None = None
    controlnet_revision: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    textual_inversions: tuple[tuple[str, str | None], ...] = ()
    licence: str | None = None
    allow_unlicensed: bool = False
    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    description: str = ""


def add_pipeline(request: PipelineRequest, settings: Settings) -> tuple[Model, bool]:
    """Writes a model without weights, the next version of its name; and whether it was new.

    Raises ModelError if any part is missing, unsafe, of another base, or not allowed here; then
    nothing was written.
    """
    name, version = parse_model_name(request.name)
    if version is not None:
        raise ModelError(f"model name {request.name!r}: leave the version out; it is counted here")
    network, pipeline, controlnet = _checked(request, settings)
    licence = network.licence or NOT_STATED
    origin = network.source if network.revision is None else f"{network.source}@{network.revision}"
    config = ModelConfig(
        generator="pipeline",
        class_names=(),
        image_size=request.image_size or (0, 0),
        channels=0,
        network=network.plain(),
    )
    facts = ModelFacts(
        licence=licence,
        source=f"{origin} ({pipeline.pipeline_class})"[:1000],
        description=request.description,
        code_version=__version__,
    )
    card = _card(name, request, network, pipeline, controlnet)
    model = save_model(next_folder(settings.models_dir, name), config, None, facts, card=card)
    return keep_if_new(model, settings.models_dir)


def _checked(
    request: PipelineRequest, settings: Settings
) -> tuple[PipelineNetwork, PipelineFolder, ControlNetFolder | None]:
    source, revision = _pinned(request.source, request.revision, settings)
    pipeline = open_pipeline(source, revision=revision, allow_network=settings.allow_network)
    task = request.task or ("controlnet" if request.controlnet else task_of(pipeline))
    check_task(pipeline, task)
    check_has_controlnet(pipeline, task, named=request.controlnet is not None)
    stated = _stated_licence(request, pipeline)
    allow_none = request.allow_unlicensed or settings.allow_unlicensed
    check_licence(stated, settings.licences, allow_none)
    content: dict[str, object] = {
        "source": source,
        "revision": revision,
        "sha256": pipeline.sha256,
        "pipeline_class": pipeline.pipeline_class,
        "task": task,
        "loras": tuple(_lora(each, pipeline, settings) for each in request.loras),
        "textual_inversions": tuple(
            _inversion(each, pipeline, settings) for each in request.textual_inversions
        ),
        "licence": stated,
        "batch_size": request.batch_size,
    }
    controlnet = None
    if request.controlnet is not None:
        place, commit = _pinned(request.controlnet, request.controlnet_revision, settings)
        controlnet = open_controlnet(place, revision=commit, allow_network=settings.allow_network)
        check_controlnet(controlnet, pipeline)
        check_licence(controlnet.licence or request.licence, settings.licences, allow_none)
        content |= {"controlnet": place, "controlnet_revision": commit}
        content["controlnet_sha256"] = controlnet.sha256
    return PipelineNetwork.model_validate(content), pipeline, controlnet


def _pinned(source: str, revision: str | None, settings: Settings) -> tuple[str, str | None]:
    """An absolute folder, or a hub id with a full commit id; allowed in this deployment."""
    folder = Path(source)
    if revision is None and (folder.exists() or not is_hub_id(source)):
        place = str(folder.absolute())
        check_source(place, settings.pipeline_sources)
        return place, None
    check_source(source, settings.pipeline_sources, revision=revision or "main")
    return source, pin_revision(source, revision, allow_network=settings.allow_network)


def _stated_licence(request: PipelineRequest, pipeline: PipelineFolder) -> str | None:
    """The card's; what the user says counts where that states none."""
    on_card = pipeline.licence
    if request.licence is None or on_card == request.licence:
        return on_card
    if on_card is not None:
        raise ModelError(
            f"licence {request.licence!r}: the card of {request.source} states {on_card!r}; leave "
            "--licence out"
        )
    return request.licence


def _lora(asked: tuple[str, float], pipeline: PipelineFolder, settings: Settings) -> LoraPart:
    source, weight = str(Path(asked[0]).absolute()), asked[1]
    check_source(source, settings.pipeline_sources)
    lora = open_lora(source)
    check_lora(lora, pipeline)
    if not -10 <= weight <= 10:
        raise ModelError(f"lora {source}: weight {weight}; expected a number from -10 to 10")
    return LoraPart(source=source, weight=weight, sha256=lora.sha256)


def _inversion(
    asked: tuple[str, str | None], pipeline: PipelineFolder, settings: Settings
) -> TextualInversionPart:
    source, token = str(Path(asked[0]).absolute()), asked[1]
    check_source(source, settings.pipeline_sources)
    inversion = open_textual_inversion(source)
    check_textual_inversion(inversion, pipeline)
    if token is None:
        named = [each for each in inversion.shapes if each not in _OWN_TENSORS]
        token = named[0] if len(named) == 1 else None
    if token is None or not token or len(token) > 100 or token.split() != [token]:
        raise ModelError(
            f"textual inversion {source}: expected a token of 1 to 100 characters without blanks "
            "for prompts to call it by; give it as FILE:TOKEN"
        )
    return TextualInversionPart(source=source, token=token, sha256=inversion.sha256)


def _card(
    name: str,
    request: PipelineRequest,
    network: PipelineNetwork,
    pipeline: PipelineFolder,
    controlnet: ControlNetFolder | None,
) -> str:
    """README.md of the model: what it is, where its files are, and by which digests."""
    size = "any that the pipeline takes"
    if request.image_size is not None:
        size = f"{request.image_size[1]} x {request.image_size[0]} pixels"
    rows = {
        "generator": "`pipeline`",
        "task": network.task,
        "pipeline class": f"`{pipeline.pipeline_class}`",
        "source": f"`{network.source}`",
        "revision": network.revision,
        "sha256 of its files": f"`{pipeline.sha256}`",
        "weights": f"{pipeline.num_bytes:,} bytes, variant {pipeline.variant or 'none'}",
        "licence": network.licence or NOT_STATED,
        "images": size,
        "safety checker": "its own" if pipeline.has_safety_checker else "none",
    }
    lines = [f"# {name}", "", request.description or "A pipeline that others trained.", ""]
    lines += ["| | |", "|---|---|"]
    lines += [f"| {key} | {_cell(str(value))} |" for key, value in rows.items() if value]
    lines += ["", "## Components", "", "| component | library | class |", "|---|---|---|"]
    for part, (library, class_name) in pipeline.components.items():
        lines.append(f"| {part} | {library} | `{class_name}` |")
    parts = _part_rows(network, controlnet)
    if parts:
        lines += ["", "## Parts added", "", "| part | source | sha256 |", "|---|---|---|", *parts]
    lines += ["", "The weights stay where they are: this folder holds none. A run refuses files of"]
    lines += ["another digest.", ""]
    return "\n".join(lines)


def _part_rows(network: PipelineNetwork, controlnet: ControlNetFolder | None) -> list[str]:
    rows = []
    if controlnet is not None:
        licence = controlnet.licence or NOT_STATED
        what = f"`{controlnet.controlnet_class}`, licence {_cell(licence)}"
        rows.append(f"| {what} | {_cell(str(network.controlnet))} | `{controlnet.sha256}` |")
    for lora in network.loras:
        rows.append(f"| LoRA, weight {lora.weight:g} | {_cell(lora.source)} | `{lora.sha256}` |")
    for each in network.textual_inversions:
        what = f"embedding {_cell(each.token)}"
        rows.append(f"| {what} | {_cell(each.source)} | `{each.sha256}` |")
    return rows


def _cell(text: str) -> str:
    """One line of a table, whatever a card said."""
    return " ".join(text.replace("|", "/").split())
