"""Which files a recipe wants put to what: a model's network and the recipe's options, merged.

Torch-free. Called by spec.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.pipeline.families import Call, call_of
from datagen.generators.pipeline.families_table import FAMILIES
from datagen.generators.pipeline.files import (
    ControlNetFolder,
    LoraFile,
    PipelineFolder,
    TextualInversionFile,
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
from datagen.generators.pipeline.network_options import PipelineNetwork
from datagen.generators.pipeline.options import PipelineOptions


@dataclass(frozen=True)
class Files:
    """One set of files. revision, sha256: None where nobody pinned them."""

    source: str
    revision: str | None
    sha256: str | None


@dataclass(frozen=True)
class PipelineRequest:
    """loras: with their weights; inversions: with their tokens; the model's own come first."""

    pipeline: Files
    controlnet: Files | None
    loras: tuple[tuple[Files, float], ...]
    inversions: tuple[tuple[Files, str], ...]
    task: str | None
    options: PipelineOptions


@dataclass(frozen=True)
class OpenedPipeline:
    """Every file checked and digested. pipeline_class: to instantiate; call: how it is called."""

    folder: PipelineFolder
    pipeline_class: str
    task: str
    call: Call
    controlnet: ControlNetFolder | None
    loras: tuple[tuple[LoraFile, float], ...]
    inversions: tuple[tuple[TextualInversionFile, str], ...]
    options: PipelineOptions

    @property
    def num_weight_bytes(self) -> int:
        """Of all that is loaded, as it is stored. Adapters are merged into what is there."""
        return self.folder.num_bytes + (self.controlnet.num_bytes if self.controlnet else 0)

    @property
    def guidance_scale(self) -> float | None:
        """None if the pipeline is never guided."""
        given = self.options.guidance_scale
        return self.call.guidance if given is None else given


def request_of(config: ModelConfig, options: PipelineOptions) -> PipelineRequest:
    """Raises ModelError if both or neither of the model and the recipe name a pipeline."""
    network = PipelineNetwork.model_validate(config.network)
    if network.source:
        _refuse_twice(network, options)
        pipeline = Files(network.source, network.revision, network.sha256)
    elif options.source is None:
        raise ModelError(
            "options.source is missing: the folder of a diffusers pipeline, or a hub id together "
            "with options.revision; or sample from a model that `datagen models add-pipeline` made"
        )
    else:
        pipeline = Files(options.source, options.revision, options.sha256)
    controlnet = _controlnet(network, options)
    loras = [(Files(part.source, None, part.sha256), part.weight) for part in network.loras]
    loras += [(Files(each.source, None, each.sha256), each.weight) for each in options.loras]
    inversions = [
        (Files(part.source, None, part.sha256), part.token) for part in network.textual_inversions
    ]
    inversions += [
        (Files(each.source, None, each.sha256), each.token) for each in options.textual_inversions
    ]
    task = options.task or network.task or ("controlnet" if controlnet else None)
    return PipelineRequest(pipeline, controlnet, tuple(loras), tuple(inversions), task, options)


def _refuse_twice(network: PipelineNetwork, options: PipelineOptions) -> None:
    for name in ("source", "revision", "sha256"):
        if getattr(options, name) is not None:
            raise ModelError(
                f"options.{name} {getattr(options, name)!r}: the model names its pipeline, "
                f"{network.source}; leave it out, or sample from the model `pipeline`"
            )


def _controlnet(network: PipelineNetwork, options: PipelineOptions) -> Files | None:
    if network.controlnet is not None and options.controlnet is not None:
        raise ModelError(
            f"options.controlnet {options.controlnet!r}: the model has one, {network.controlnet}; "
            "leave it out"
        )
    if network.controlnet is not None:
        return Files(network.controlnet, network.controlnet_revision, network.controlnet_sha256)
    if options.controlnet is None:
        return None
    return Files(options.controlnet, options.controlnet_revision, options.controlnet_sha256)


def open_request(request: PipelineRequest) -> OpenedPipeline:
    """Reads every file, once in a process. Raises ModelError."""
    wanted = request.pipeline
    folder = open_pipeline(wanted.source, revision=wanted.revision, sha256=wanted.sha256)
    task = request.task or task_of(folder)
    pipeline_class = check_task(folder, task)
    controlnet = _open_controlnet(request, folder, task)
    loras = tuple((open_lora(each.source, sha256=each.sha256), w) for each, w in request.loras)
    for lora, _ in loras:
        check_lora(lora, folder)
    inversions = tuple(
        (open_textual_inversion(each.source, sha256=each.sha256), token)
        for each, token in request.inversions
    )
    for inversion, _ in inversions:
        check_textual_inversion(inversion, folder)
    return OpenedPipeline(
        folder=folder,
        pipeline_class=pipeline_class,
        task=task,
        call=call_of(pipeline_class),
        controlnet=controlnet,
        loras=loras,
        inversions=inversions,
        options=request.options,
    )


def _open_controlnet(
    request: PipelineRequest, folder: PipelineFolder, task: str
) -> ControlNetFolder | None:
    wanted = request.controlnet
    is_inside = "controlnet" in folder.components
    if task != "controlnet":
        if wanted is not None:
            raise ModelError(
                f"options.controlnet {wanted.source!r}: task {task} has none; set task: "
                "controlnet, or leave it out"
            )
        return None
    if wanted is None:
        if is_inside or FAMILIES[folder.family].controlnet_class is None:
            return None
        raise ModelError("options.controlnet is missing: task controlnet needs its folder")
    controlnet = open_controlnet(wanted.source, revision=wanted.revision, sha256=wanted.sha256)
    check_controlnet(controlnet, folder)
    return controlnet


def pin(request: PipelineRequest, config: ModelConfig) -> PipelineOptions:
    """The options with the digest of every file that they name themselves. Raises ModelError."""
    opened, options = open_request(request), request.options
    network = PipelineNetwork.model_validate(config.network)
    changes: dict[str, object] = {}
    if options.source is not None:
        changes["sha256"] = opened.folder.sha256
    if options.controlnet is not None and opened.controlnet is not None:
        changes["controlnet_sha256"] = opened.controlnet.sha256
    if options.loras:
        found = [lora.sha256 for lora, _ in opened.loras[len(network.loras) :]]
        changes["loras"] = tuple(
            each.model_copy(update={"sha256": sha256})
            for each, sha256 in zip(options.loras, found, strict=True)
        )
    if options.textual_inversions:
        known = opened.inversions[len(network.textual_inversions) :]
        changes["textual_inversions"] = tuple(
            each.model_copy(update={"sha256": inversion.sha256})
            for each, (inversion, _) in zip(options.textual_inversions, known, strict=True)
        )
    return options.model_copy(update=changes)
