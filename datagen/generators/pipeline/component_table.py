"""Which classes a pipeline's components may be of, and which files a component of each must hold.

Torch-free: names alone. No class outside this table is ever asked of a library by its name. Called
by component_checks.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_UNETS = ("UNet2DConditionModel", "UNet2DModel", "Kandinsky3UNet")
_TRANSFORMERS = (
    *("DiTTransformer2DModel", "Transformer2DModel", "PixArtTransformer2DModel"),
    *("SD3Transformer2DModel", "FluxTransformer2DModel", "SanaTransformer2DModel"),
    *("HunyuanDiT2DModel", "AuraFlowTransformer2DModel", "ChromaTransformer2DModel"),
    *("LuminaNextDiT2DModel", "Lumina2Transformer2DModel"),
)
_AUTOENCODERS = (
    *("AutoencoderKL", "AutoencoderTiny", "AsymmetricAutoencoderKL", "AutoencoderDC"),
    *("ConsistencyDecoderVAE", "VQModel"),
)
_TEXT_ENCODERS = (
    *("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel", "UMT5EncoderModel"),
    *("BertModel", "GemmaModel", "Gemma2Model", "GemmaForCausalLM", "Gemma2ForCausalLM"),
)
_IMAGE_ENCODERS = ("CLIPVisionModelWithProjection", "CLIPVisionModel", "SiglipVisionModel")
CONTROLNETS = (
    *("ControlNetModel", "SD3ControlNetModel", "FluxControlNetModel", "SanaControlNetModel"),
    "HunyuanDiT2DControlNetModel",
)

# Classes that diffusers keeps with one pipeline: model_index.json names the pipeline's module, or
# diffusers for those of pipelines that were moved to its `deprecated`.
_OF_PIPELINES: Mapping[str, tuple[str, ...]] = {
    "StableDiffusionSafetyChecker": ("stable_diffusion",),
    "StableUnCLIPImageNormalizer": ("stable_diffusion",),
    "IFSafetyChecker": ("deepfloyd_if",),
    "IFWatermarker": ("deepfloyd_if",),
    "UnCLIPTextProjModel": ("unclip", "diffusers"),
    "MultilingualCLIP": ("kandinsky",),
    "LDMBertModel": ("latent_diffusion",),
}

# Component, without the word prior_ before it -> the classes that it may be of.
_CLASSES: Mapping[str, tuple[str, ...]] = {
    "unet": _UNETS,
    "decoder": _UNETS,
    "super_res_first": _UNETS,
    "super_res_last": _UNETS,
    "transformer": _TRANSFORMERS,
    "prior": ("PriorTransformer",),
    "vae": _AUTOENCODERS,
    "vqvae": _AUTOENCODERS,
    "movq": ("VQModel",),
    "text_encoder": (*_TEXT_ENCODERS, "MultilingualCLIP"),
    "text_encoder_2": _TEXT_ENCODERS,
    "text_encoder_3": _TEXT_ENCODERS,
    "bert": ("LDMBertModel",),
    "text_proj": ("UnCLIPTextProjModel",),
    "image_encoder": _IMAGE_ENCODERS,
    "image_normalizer": ("StableUnCLIPImageNormalizer",),
    "controlnet": CONTROLNETS,
    "safety_checker": ("StableDiffusionSafetyChecker", "IFSafetyChecker"),
    "watermarker": ("IFWatermarker",),
}
_SCHEDULER = re.compile(r"(?!Flax)[A-Z][A-Za-z0-9]{0,80}Scheduler")
_TOKENIZER = re.compile(r"(?!Auto)[A-Z][A-Za-z0-9]{0,80}Tokenizer(Fast)?")
_PROCESSOR = re.compile(
    r"(CLIP|Siglip|ViT)(ImageProcessor(Fast|Pil)?|FeatureExtractor|ImageProcessing)"
)

DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS = "diffusion_pytorch_model", "model"


def is_allowed(component: str, library: str, class_name: str) -> bool:
    """component: as model_index.json names it."""
    role = component.removeprefix("prior_")
    if role.endswith("scheduler"):
        return library == "diffusers" and _SCHEDULER.fullmatch(class_name) is not None
    if role.startswith("tokenizer"):
        return library == "transformers" and _TOKENIZER.fullmatch(class_name) is not None
    if role in ("feature_extractor", "image_processor"):
        return library == "transformers" and _PROCESSOR.fullmatch(class_name) is not None
    return class_name in _CLASSES.get(role, ()) and library in _libraries_of(class_name)


def allowed_text(component: str) -> str:
    """The classes that the component may be of, in words."""
    role = component.removeprefix("prior_")
    if role.endswith("scheduler"):
        return "one of diffusers' schedulers"
    if role.startswith("tokenizer"):
        return "one of transformers' tokenizers"
    if role in ("feature_extractor", "image_processor"):
        return "transformers' CLIPImageProcessor"
    return " or ".join(_CLASSES.get(role, ())) or "nothing"


def config_name(component: str) -> str:
    """The file that says what the component is."""
    role = component.removeprefix("prior_")
    if role.endswith("scheduler"):
        return "scheduler_config.json"
    if role.startswith("tokenizer"):
        return "tokenizer_config.json"
    if role in ("feature_extractor", "image_processor"):
        return "preprocessor_config.json"
    return "config.json"


def weights_stem(component: str, library: str, class_name: str) -> str | None:
    """The name of its weights without ending; None for a component that has none."""
    if config_name(component) != "config.json":
        return None
    from_diffusers = library == "diffusers" or class_name in (
        *("StableUnCLIPImageNormalizer", "IFWatermarker", "UnCLIPTextProjModel"),
    )
    return DIFFUSERS_WEIGHTS if from_diffusers else TRANSFORMERS_WEIGHTS


def _libraries_of(class_name: str) -> tuple[str, ...]:
    if class_name in _OF_PIPELINES:
        return _OF_PIPELINES[class_name]
    is_transformers = class_name in (*_TEXT_ENCODERS, *_IMAGE_ENCODERS)
    return ("transformers",) if is_transformers else ("diffusers",)
