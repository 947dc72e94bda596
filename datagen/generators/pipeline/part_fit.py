"""Whether a task, a ControlNet or a learned embedding fits a pipeline, by names and shapes alone.

Torch-free. Called by registration.py and loading.py; LoRA adapters are checked by lora_fit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.component_checks import INDEX
from datagen.generators.pipeline.families_table import (
    CLASS_FOR,
    FAMILIES,
    TASKS,
    Task,
    default_task,
    tasks_of,
)
from datagen.generators.pipeline.folder_files import checked_file, read_json
from datagen.generators.pipeline.opened_files import (
    ControlNetFolder,
    PipelineFolder,
    TextualInversionFile,
)
from datagen.recipe import suggest

# Families whose network takes latents as they are, or with a mask and masked latents beside them.
_PLAIN_LATENTS = ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3")
_OF_UNETS = ("cross_attention_dim", "block_out_channels", "addition_embed_type")
_OF_TRANSFORMERS = (
    *("joint_attention_dim", "num_attention_heads", "attention_head_dim"),
    *("pooled_projection_dim", "caption_channels", "cross_attention_dim"),
)


def component_config(pipeline: PipelineFolder, component: str) -> Mapping[str, Any]:
    """config.json of a component with weights. Raises ModelError."""
    what, name = f"pipeline {pipeline.folder}", f"{component}/config.json"
    path = checked_file(what, name, pipeline.folder / name, pipeline.root)
    return read_json(what, name, path)


def core_of(pipeline: PipelineFolder) -> str:
    """The component that denoises: transformer, unet or decoder."""
    return next(each for each in _CORES if each in pipeline.components)


_CORES = ("transformer", "unet", "decoder")


def task_of(pipeline: PipelineFolder) -> Task:
    """What it is for, where nobody says."""
    if pipeline.family == "consistency-model":
        classes = component_config(pipeline, "unet").get("num_class_embeds")
        return "unconditional" if classes is None else "class-conditional"
    return default_task(pipeline.pipeline_class)


def check_task(pipeline: PipelineFolder, task: str) -> str:
    """The pipeline class to instantiate. Raises ModelError if its components are not for the task,
    naming those that they are for."""
    what, family = f"pipeline {pipeline.folder}", FAMILIES[pipeline.family]
    known = tasks_of(pipeline.pipeline_class)
    if task not in known:
        hint = "" if task in TASKS else suggest(task, list(TASKS))
        raise ModelError(
            f"{what}: {pipeline.pipeline_class} does no {task}{hint}; it does {', '.join(known)}"
        )
    _check_channels(what, pipeline, task)
    encoders = {"text_encoder", "text_encoder_2"}
    if encoders & {*family.parts, *family.optional} and not encoders & set(pipeline.components):
        raise ModelError(
            f"{what}: no text encoder, so that nothing can be asked of it; copy text_encoder and "
            f"tokenizer of its first stage there, and name them in {INDEX}"
        )
    if family.name == "consistency-model" and task != (default := task_of(pipeline)):
        raise ModelError(f"{what}: its unet does no {task}; it does {default}")
    return next(name for (f, t), name in CLASS_FOR.items() if (f, t) == (family.name, task))


def _check_channels(what: str, pipeline: PipelineFolder, task: str) -> None:
    """An inpainting network takes a mask and masked latents, and can do nothing else; a plain one
    inpaints as well, by keeping what is not masked."""
    if pipeline.family not in _PLAIN_LATENTS:
        return
    core = core_of(pipeline)
    found = component_config(pipeline, core).get("in_channels", 0)
    latents = component_config(pipeline, "vae").get("latent_channels", 0)
    for_inpainting = 2 * latents + 1
    allowed = (latents, for_inpainting) if task == "inpainting" else (latents,)
    if found not in allowed:
        only = "; it does inpainting alone" if found == for_inpainting else ""
        raise ModelError(
            f"{what}: {core}/config.json: in_channels {found}; expected {latents} for {task}, as "
            f"vae/config.json has latent_channels{only}"
        )


def check_has_controlnet(pipeline: PipelineFolder, task: str, *, named: bool) -> None:
    """named: one beside the pipeline. Raises ModelError if the task needs one and there is none, or
    takes none."""
    what, wanted = f"pipeline {pipeline.folder}", FAMILIES[pipeline.family].controlnet_class
    takes = task == "controlnet" and wanted is not None
    if named and not takes:
        raise ModelError(f"{what}: task {task} takes no controlnet; leave it out")
    if takes and not named and "controlnet" not in pipeline.components:
        raise ModelError(f"{what}: task controlnet needs a folder with a {wanted}; name one")


def check_controlnet(controlnet: ControlNetFolder, pipeline: PipelineFolder) -> None:
    """Raises ModelError, with the field and both values, if it was made for another base."""
    what, wanted = f"controlnet {controlnet.folder}", FAMILIES[pipeline.family].controlnet_class
    if controlnet.controlnet_class != wanted:
        raise ModelError(
            f"{what}: {controlnet.controlnet_class} does not fit {pipeline.pipeline_class}; "
            f"expected {wanted or 'a pipeline that takes a ControlNet'}"
        )
    core = core_of(pipeline)
    path = checked_file(what, "config.json", controlnet.folder / "config.json", controlnet.root)
    mine, theirs = read_json(what, "config.json", path), component_config(pipeline, core)
    for field in _OF_UNETS if core == "unet" else _OF_TRANSFORMERS:
        if field in mine and field in theirs and mine[field] != theirs[field]:
            raise ModelError(
                f"{what}: {field} {mine[field]}; {core} of {pipeline.folder} has {theirs[field]}: "
                "the ControlNet was made for another base"
            )


def check_textual_inversion(inversion: TextualInversionFile, pipeline: PipelineFolder) -> None:
    """Raises ModelError, with both widths, if it was made for another text encoder."""
    what = f"textual inversion {inversion.path}"
    for name, shape in inversion.shapes.items():
        encoder = "text_encoder_2" if name == "clip_g" else "text_encoder"
        if encoder not in pipeline.components:
            raise ModelError(
                f"{what}: tensor {name} is of a {encoder}; {pipeline.pipeline_class} of "
                f"{pipeline.folder} has none"
            )
        config = component_config(pipeline, encoder)
        width = config.get("hidden_size", config.get("d_model"))
        if len(shape) not in (1, 2) or shape[-1] != width:
            raise ModelError(
                f"{what}: tensor {name} has shape {list(shape)}; expected [vectors, {width}], as "
                f"{encoder} of {pipeline.folder} has it: it was learned for another base"
            )
