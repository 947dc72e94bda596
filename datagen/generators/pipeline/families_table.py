"""Which of diffusers' pipelines are run, and which class does which task with the same components.

Torch-free: names alone. Called by files.py, which refuses every other class, and by spec.py.

Source: diffusers 0.42, pipelines/auto_pipeline.py and the constructors of the classes named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Task = Literal[
    "text-to-image",
    "image-to-image",
    "inpainting",
    "controlnet",
    "upscaling",
    "unconditional",
    "class-conditional",
]
TASKS: tuple[Task, ...] = get_args(Task)

_T2I: Task = "text-to-image"
_I2I: Task = "image-to-image"
_INPAINT: Task = "inpainting"
_CONTROL: Task = "controlnet"
_UPSCALE: Task = "upscaling"
_FREE: Task = "unconditional"
_CLASS: Task = "class-conditional"


@dataclass(frozen=True)
class PipelineFamily:
    """Pipeline classes that are built from the same components.

    classes: task -> the class that does it; the first is what a folder of the family is for where
    its own class does not say. parts: components that each must have; optional: that they may have
    besides, or have as null. controlnet_class: of a ControlNet that fits; None if none does.
    """

    name: str
    classes: Mapping[Task, str]
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    controlnet_class: str | None = None


_TEXT = ("text_encoder", "tokenizer")
_TEXT_2 = ("text_encoder_2", "tokenizer_2")
_TEXT_3 = ("text_encoder_3", "tokenizer_3")
_LATENT_UNET = ("vae", "unet", "scheduler")
_LATENT_TRANSFORMER = ("vae", "transformer", "scheduler")
_PIXEL = ("unet", "scheduler")
_SAFETY = ("safety_checker", "feature_extractor")
_IP_ADAPTER = ("image_encoder", "feature_extractor")
_SD_OPTIONAL = (*_SAFETY, "image_encoder")
_FLUX = (*_LATENT_TRANSFORMER, *_TEXT, *_TEXT_2)
_IF_OPTIONAL = (*_TEXT, *_SAFETY, "watermarker")
_KANDINSKY_PRIOR = (
    *("prior_prior", "prior_image_encoder", "prior_text_encoder", "prior_tokenizer"),
    *("prior_scheduler", "prior_image_processor"),
)
_UNCLIP_DECODER = (
    *("decoder", "text_encoder", "tokenizer", "text_proj", "super_res_first", "super_res_last"),
    *("decoder_scheduler", "super_res_scheduler"),
)
_STABLE_UNCLIP = (*_LATENT_UNET, *_TEXT, "image_normalizer", "image_noising_scheduler")

_ALL = (
    PipelineFamily(
        "stable-diffusion",
        {
            _T2I: "StableDiffusionPipeline",
            _I2I: "StableDiffusionImg2ImgPipeline",
            _INPAINT: "StableDiffusionInpaintPipeline",
            _CONTROL: "StableDiffusionControlNetPipeline",
        },
        (*_LATENT_UNET, *_TEXT),
        (*_SD_OPTIONAL, "controlnet"),
        "ControlNetModel",
    ),
    PipelineFamily(
        "stable-diffusion-xl",
        {
            _T2I: "StableDiffusionXLPipeline",
            _I2I: "StableDiffusionXLImg2ImgPipeline",
            _INPAINT: "StableDiffusionXLInpaintPipeline",
            _CONTROL: "StableDiffusionXLControlNetPipeline",
        },
        (*_LATENT_UNET, *_TEXT_2),
        (*_TEXT, *_IP_ADAPTER, "controlnet"),  # a refiner has the second text encoder alone
        "ControlNetModel",
    ),
    PipelineFamily(
        "stable-diffusion-3",
        {
            _T2I: "StableDiffusion3Pipeline",
            _I2I: "StableDiffusion3Img2ImgPipeline",
            _INPAINT: "StableDiffusion3InpaintPipeline",
            _CONTROL: "StableDiffusion3ControlNetPipeline",
        },
        (*_LATENT_TRANSFORMER, *_TEXT, *_TEXT_2),
        (*_TEXT_3, *_IP_ADAPTER, "controlnet"),
        "SD3ControlNetModel",
    ),
    PipelineFamily(
        "flux",
        {
            _T2I: "FluxPipeline",
            _I2I: "FluxImg2ImgPipeline",
            _INPAINT: "FluxInpaintPipeline",
            _CONTROL: "FluxControlNetPipeline",
        },
        _FLUX,
        (*_IP_ADAPTER, "controlnet"),
        "FluxControlNetModel",
    ),
    PipelineFamily("flux-fill", {_INPAINT: "FluxFillPipeline"}, _FLUX),
    PipelineFamily("flux-control", {_CONTROL: "FluxControlPipeline"}, _FLUX),
    PipelineFamily("flux-kontext", {_I2I: "FluxKontextPipeline"}, _FLUX, _IP_ADAPTER),
    PipelineFamily(
        "stable-diffusion-upscale",
        {_UPSCALE: "StableDiffusionUpscalePipeline"},
        (*_LATENT_UNET, *_TEXT, "low_res_scheduler"),
        (*_SAFETY, "watermarker"),
    ),
    PipelineFamily(
        "stable-diffusion-latent-upscale",
        {_UPSCALE: "StableDiffusionLatentUpscalePipeline"},
        (*_LATENT_UNET, *_TEXT),
    ),
    PipelineFamily(
        "ldm-super-resolution",
        {_UPSCALE: "LDMSuperResolutionPipeline"},
        ("vqvae", "unet", "scheduler"),
    ),
    PipelineFamily(
        "instruct-pix2pix",
        {_I2I: "StableDiffusionInstructPix2PixPipeline"},
        (*_LATENT_UNET, *_TEXT),
        _SD_OPTIONAL,
    ),
    PipelineFamily(
        "instruct-pix2pix-xl",
        {_I2I: "StableDiffusionXLInstructPix2PixPipeline"},
        (*_LATENT_UNET, *_TEXT, *_TEXT_2),
    ),
    PipelineFamily(
        "image-variation",
        {_I2I: "StableDiffusionImageVariationPipeline"},
        (*_LATENT_UNET, "image_encoder", "feature_extractor"),
        ("safety_checker",),
    ),
    PipelineFamily(
        "latent-consistency",
        {
            _T2I: "LatentConsistencyModelPipeline",
            _I2I: "LatentConsistencyModelImg2ImgPipeline",
        },
        (*_LATENT_UNET, *_TEXT),
        _SD_OPTIONAL,
    ),
    PipelineFamily("ddpm", {_FREE: "DDPMPipeline"}, _PIXEL),
    PipelineFamily("ddim", {_FREE: "DDIMPipeline"}, _PIXEL),
    PipelineFamily("pndm", {_FREE: "PNDMPipeline"}, _PIXEL),
    PipelineFamily("ldm", {_FREE: "LDMPipeline"}, ("vqvae", "unet", "scheduler")),
    PipelineFamily(
        "consistency-model",
        {_FREE: "ConsistencyModelPipeline", _CLASS: "ConsistencyModelPipeline"},
        _PIXEL,
    ),
    PipelineFamily("dit", {_CLASS: "DiTPipeline"}, _LATENT_TRANSFORMER),
    PipelineFamily(
        "ldm-text",
        {_T2I: "LDMTextToImagePipeline"},
        ("vqvae", "bert", "tokenizer", "unet", "scheduler"),
    ),
    PipelineFamily("pixart-alpha", {_T2I: "PixArtAlphaPipeline"}, (*_LATENT_TRANSFORMER, *_TEXT)),
    PipelineFamily("pixart-sigma", {_T2I: "PixArtSigmaPipeline"}, (*_LATENT_TRANSFORMER, *_TEXT)),
    PipelineFamily(
        "sana",
        {_T2I: "SanaPipeline", _CONTROL: "SanaControlNetPipeline"},
        (*_LATENT_TRANSFORMER, *_TEXT),
        ("controlnet",),
        "SanaControlNetModel",
    ),
    PipelineFamily(
        "sana-sprint",
        {_T2I: "SanaSprintPipeline", _I2I: "SanaSprintImg2ImgPipeline"},
        (*_LATENT_TRANSFORMER, *_TEXT),
    ),
    PipelineFamily(
        "kandinsky",
        {
            _T2I: "KandinskyCombinedPipeline",
            _I2I: "KandinskyImg2ImgCombinedPipeline",
            _INPAINT: "KandinskyInpaintCombinedPipeline",
        },
        (*_PIXEL, *_TEXT, "movq", *_KANDINSKY_PRIOR),
    ),
    PipelineFamily(
        "kandinsky-2-2",
        {
            _T2I: "KandinskyV22CombinedPipeline",
            _I2I: "KandinskyV22Img2ImgCombinedPipeline",
            _INPAINT: "KandinskyV22InpaintCombinedPipeline",
        },
        (*_PIXEL, "movq", *_KANDINSKY_PRIOR),
    ),
    PipelineFamily(
        "kandinsky-3",
        {_T2I: "Kandinsky3Pipeline", _I2I: "Kandinsky3Img2ImgPipeline"},
        (*_PIXEL, *_TEXT, "movq"),
    ),
    PipelineFamily(
        "unclip", {_T2I: "UnCLIPPipeline"}, (*_UNCLIP_DECODER, "prior", "prior_scheduler")
    ),
    PipelineFamily(
        "unclip-image-variation",
        {_I2I: "UnCLIPImageVariationPipeline"},
        (*_UNCLIP_DECODER, "image_encoder", "feature_extractor"),
    ),
    PipelineFamily(
        "stable-unclip",
        {_T2I: "StableUnCLIPPipeline"},
        (
            *_STABLE_UNCLIP,
            *("prior", "prior_scheduler", "prior_tokenizer", "prior_text_encoder"),
        ),
    ),
    PipelineFamily(
        "stable-unclip-img2img",
        {_I2I: "StableUnCLIPImg2ImgPipeline"},
        (*_STABLE_UNCLIP, "image_encoder", "feature_extractor"),
    ),
    PipelineFamily(
        "deepfloyd-if",
        {
            _T2I: "IFPipeline",
            _I2I: "IFImg2ImgPipeline",
            _INPAINT: "IFInpaintingPipeline",
        },
        _PIXEL,
        _IF_OPTIONAL,
    ),
    PipelineFamily(
        "deepfloyd-if-super-resolution",
        {_UPSCALE: "IFSuperResolutionPipeline"},
        (*_PIXEL, "image_noising_scheduler"),
        _IF_OPTIONAL,
    ),
    PipelineFamily(
        "hunyuan-dit",
        {_T2I: "HunyuanDiTPipeline", _CONTROL: "HunyuanDiTControlNetPipeline"},
        _LATENT_TRANSFORMER,
        (*_TEXT, *_TEXT_2, *_SAFETY, "controlnet"),
        "HunyuanDiT2DControlNetModel",
    ),
    PipelineFamily("aura-flow", {_T2I: "AuraFlowPipeline"}, (*_LATENT_TRANSFORMER, *_TEXT)),
    PipelineFamily("lumina", {_T2I: "LuminaPipeline"}, (*_LATENT_TRANSFORMER, *_TEXT)),
    PipelineFamily("lumina-2", {_T2I: "Lumina2Pipeline"}, (*_LATENT_TRANSFORMER, *_TEXT)),
    PipelineFamily(
        "chroma",
        {_T2I: "ChromaPipeline", _I2I: "ChromaImg2ImgPipeline", _INPAINT: "ChromaInpaintPipeline"},
        (*_LATENT_TRANSFORMER, *_TEXT),
        _IP_ADAPTER,
    ),
)

FAMILIES: Mapping[str, PipelineFamily] = {family.name: family for family in _ALL}

# Pipeline class -> its family.
FAMILY_OF: Mapping[str, str] = {
    name: family.name for family in _ALL for name in family.classes.values()
}

# (family, task) -> the class to instantiate, with the components of any class of the family.
CLASS_FOR: Mapping[tuple[str, Task], str] = {
    (family.name, task): name for family in _ALL for task, name in family.classes.items()
}


def default_task(pipeline_class: str) -> Task:
    """What the class does. pipeline_class: one of FAMILY_OF."""
    family = FAMILIES[FAMILY_OF[pipeline_class]]
    return next(task for task, name in family.classes.items() if name == pipeline_class)


def tasks_of(pipeline_class: str) -> tuple[Task, ...]:
    """That a folder of this class can be put to, as far as its components go."""
    return tuple(FAMILIES[FAMILY_OF[pipeline_class]].classes)
