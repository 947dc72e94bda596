"""How each pipeline class is called: what it is told, which options it takes, which sizes it makes.

Torch-free. A class that is not here is not run. Called by spec.py and the sampler.

Source: the signatures of diffusers 0.42; defaults of guidance, strength and length are theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from datagen.errors import ModelError
from datagen.generators.pipeline.options import SCHEDULERS, Scheduler

# How words reach it: encoded by us, with what `encode_prompt` of the class gives, or as texts.
Words = Literal["none", "clip", "xl", "sd3", "flux", "masked", "pixels", "hidden", "texts"]
# What decides its sizes: sizes.py.
Sizes = Literal["latent", "movq", "pixels", "fixed", "vae_upscale", "latent_upscale", "upscale_4"]

_FLOW: frozenset[Scheduler] = frozenset({"flow_match_euler"})
_KARRAS = frozenset(SCHEDULERS) - _FLOW
_WITH_SIGMAS: frozenset[Scheduler] = frozenset({"euler", "euler_a", "heun", "lms"})


@dataclass(frozen=True)
class Call:
    """One pipeline class.

    guidance, strength: its defaults; None if it is never guided, or a picture is always noised
    whole. negative: whether it takes a negative prompt.
    options: of options.PIPELINE_ARGUMENTS. schedulers: that it can be given. picture: its argument
    for the conditioning picture, in [0, 1] or, where signed, [-1, 1]. takes_size: height and width.
    latents_picture: the picture can be given as latents. mixes: kinds of datagen's Mix.
    sequence_length: of its T5 or Gemma encoder; None if it has none. output: numpy where the class
    gives tensors in another range. constants: arguments that are always the same. steps, scale: its
    names of num_inference_steps and guidance_scale. batch_argument: images are asked for by their
    number. one_by_one: a batch would be made from its first picture. square: sides are mixed up.
    """

    words: Words = "none"
    guidance: float | None = None
    negative: bool = False
    options: frozenset[str] = frozenset()
    schedulers: frozenset[Scheduler] = _KARRAS
    picture: str | None = None
    mask: bool = False
    strength: float | None = None
    signed: bool = False
    takes_size: bool = True
    latents_picture: bool = False
    mixes: frozenset[str] = frozenset()
    sequence_length: int | None = None
    sizes: Sizes = "latent"
    multiple: int = 8
    output: Literal["pt", "np"] = "pt"
    constants: Mapping[str, Any] = field(default_factory=dict)
    steps: str = "num_inference_steps"
    scale: str = "guidance_scale"
    batch_argument: bool = False
    one_by_one: bool = False
    square: bool = False

    def with_options(self, *names: str, **changes: Any) -> Call:
        return replace(self, options=self.options | set(names), **changes)


_SEEDS = frozenset({"seeds"})
_WORDS = frozenset({"seeds", "classes"})
_PICTURES = frozenset({"classes", "images"})
_CLASSES = frozenset({"classes"})

_SD = Call("clip", 7.5, True, frozenset({"guidance_scale"}), mixes=_WORDS)
_XL = replace(_SD, words="xl", guidance=5.0)
_SD3 = replace(_SD, words="sd3", guidance=7.0, schedulers=_FLOW, sequence_length=256, multiple=1)
_SD3 = _SD3.with_options("max_sequence_length")
_FLUX = replace(_SD3, words="flux", guidance=3.5, negative=False, sequence_length=512)
_FLUX_GUIDED = _FLUX  # by its own number alone
_FLUX = _FLUX.with_options("true_cfg_scale")
_PIXART = replace(
    _SD.with_options("max_sequence_length"),
    words="masked",
    guidance=4.5,
    sequence_length=120,
    constants={"use_resolution_binning": False},
)
_SANA = replace(_PIXART, sequence_length=300, schedulers=_FLOW | {"dpmpp_2m"}, multiple=32)
_AURA = replace(_PIXART, guidance=3.5, sequence_length=256, schedulers=_FLOW, constants={})
_PRIOR = ("prior_num_inference_steps", "prior_guidance_scale")
_KANDINSKY = Call(
    "texts",
    4.0,
    False,
    frozenset({"guidance_scale", *_PRIOR}),
    frozenset({"ddim", "ddpm"}),
    sizes="movq",
    # Its combined pipelines hand on a default that its decoders warn of.
    constants={"callback_steps": None},
)
_IF = Call(
    "pixels",
    7.0,
    True,
    frozenset({"guidance_scale"}),
    frozenset({"ddim", "ddpm", "dpmpp_2m"}),
    mixes=_CLASSES,
    sequence_length=77,
    sizes="pixels",
    output="np",
)
_PIXELS = Call(schedulers=frozenset({"ddpm", "ddim"}), sizes="fixed", takes_size=False)
_UNCONDITIONAL = replace(_PIXELS, batch_argument=True)


def _from_picture(call: Call, strength: float | None, **changes: Any) -> Call:
    """Image-to-image of the family. strength: None if it is always whole."""
    told: dict[str, Any] = {"picture": "image", "mixes": _CLASSES, "strength": strength}
    names = () if strength is None else ("strength",)
    return call.with_options(*names, **(told | changes))


def _inpainting(call: Call, strength: float | None, **changes: Any) -> Call:
    return _from_picture(call, strength, **({"mask": True} | changes))


def _controlled(call: Call, picture: str = "image") -> Call:
    return call.with_options("controlnet_conditioning_scale", picture=picture)


def _upscaling(call: Call, sizes: Sizes, **changes: Any) -> Call:
    return replace(
        call,
        **({"picture": "image", "sizes": sizes, "takes_size": False, "mixes": _WORDS} | changes),
    )


CALLS: Mapping[str, Call] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionImg2ImgPipeline": _from_picture(
        _SD, 0.8, takes_size=False, latents_picture=True, mixes=_PICTURES
    ),
    "StableDiffusionInpaintPipeline": _inpainting(_SD, 1.0),
    "StableDiffusionControlNetPipeline": _controlled(_SD),
    "StableDiffusionXLPipeline": _XL,
    "StableDiffusionXLImg2ImgPipeline": _from_picture(
        _XL, 0.3, takes_size=False, latents_picture=True, mixes=_PICTURES
    ),
    "StableDiffusionXLInpaintPipeline": _inpainting(_XL, 0.9999, guidance=7.5),
    "StableDiffusionXLControlNetPipeline": _controlled(_XL),
    "StableDiffusion3Pipeline": _SD3,
    "StableDiffusion3Img2ImgPipeline": _from_picture(
        _SD3, 0.6, latents_picture=True, mixes=_PICTURES
    ),
    "StableDiffusion3InpaintPipeline": _inpainting(_SD3, 0.6),
    "StableDiffusion3ControlNetPipeline": _controlled(_SD3, "control_image"),
    "FluxPipeline": _FLUX,
    "FluxImg2ImgPipeline": _from_picture(
        _FLUX, 0.6, guidance=7.0, latents_picture=True, mixes=_PICTURES
    ),
    "FluxInpaintPipeline": _inpainting(_FLUX, 0.6, guidance=7.0),
    "FluxControlNetPipeline": replace(_controlled(_FLUX, "control_image"), guidance=7.0),
    "StableDiffusionUpscalePipeline": _upscaling(
        _SD.with_options("noise_level"), "vae_upscale", guidance=9.0
    ),
    "StableDiffusionLatentUpscalePipeline": _upscaling(
        _SD, "latent_upscale", guidance=9.0, words="hidden", schedulers=_WITH_SIGMAS
    ),
    "LDMSuperResolutionPipeline": _upscaling(
        Call(),
        "vae_upscale",
        schedulers=frozenset({"ddim", "euler", "lms"}),
        signed=True,
        mixes=frozenset(),
    ),
    "DDPMPipeline": _UNCONDITIONAL,
    "PNDMPipeline": replace(_UNCONDITIONAL, schedulers=frozenset()),
    "LDMPipeline": replace(_UNCONDITIONAL, schedulers=frozenset({"ddim"})),
    "DDIMPipeline": replace(_UNCONDITIONAL, schedulers=frozenset({"ddim"})),
    "DiTPipeline": replace(
        _PIXELS,
        guidance=4.0,
        options=frozenset({"guidance_scale", "class_labels"}),
        schedulers=_KARRAS - {"lcm"},
        mixes=_CLASSES,
    ),
    "LatentConsistencyModelPipeline": replace(
        _SD, guidance=8.5, negative=False, schedulers=frozenset({"lcm"})
    ),
    "LatentConsistencyModelImg2ImgPipeline": _from_picture(
        replace(_SD, guidance=8.5, negative=False, schedulers=frozenset({"lcm"})),
        0.8,
        takes_size=False,
        latents_picture=True,
        mixes=_PICTURES,
    ),
    "StableDiffusionInstructPix2PixPipeline": Call(
        "texts",
        7.5,
        options=frozenset({"guidance_scale", "image_guidance_scale"}),
        picture="image",
        takes_size=False,
        mixes=_SEEDS,
    ),
    "FluxFillPipeline": _inpainting(_FLUX_GUIDED, 1.0, guidance=30.0),
    "FluxControlPipeline": replace(_FLUX_GUIDED, picture="control_image"),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": replace(_PIXART, sequence_length=300),
    "SanaPipeline": _SANA,
    "SanaControlNetPipeline": _controlled(_SANA, "control_image"),
    "AuraFlowPipeline": _AURA,
    "KandinskyV22CombinedPipeline": _KANDINSKY,
    "KandinskyV22Img2ImgCombinedPipeline": _from_picture(
        _KANDINSKY, 0.3, mixes=frozenset(), square=True
    ),
    "KandinskyV22InpaintCombinedPipeline": _inpainting(
        replace(_KANDINSKY, constants={}, output="np"),
        None,
        mixes=frozenset(),
        signed=True,
        one_by_one=True,
    ),
    "UnCLIPPipeline": Call(
        "texts",
        8.0,
        False,
        frozenset({"guidance_scale", *_PRIOR}),
        frozenset(),
        sizes="fixed",
        takes_size=False,
        output="np",
        mixes=_SEEDS,
        steps="decoder_num_inference_steps",
        scale="decoder_guidance_scale",
    ),
    "IFPipeline": _IF,
    "IFImg2ImgPipeline": _from_picture(_IF, 0.7, guidance=10.0, takes_size=False, signed=True),
    "IFInpaintingPipeline": _inpainting(_IF, 1.0, takes_size=False, signed=True),
    "IFSuperResolutionPipeline": _upscaling(
        _IF.with_options("noise_level"),
        "upscale_4",
        guidance=4.0,
        takes_size=True,
        signed=True,
        mixes=_CLASSES,
    ),
}


def call_of(pipeline_class: str) -> Call:
    """Raises ModelError for a class that is not run."""
    if pipeline_class not in CALLS:
        raise ModelError(
            f"pipeline class {pipeline_class} is not run; expected one of {', '.join(CALLS)}"
        )
    return CALLS[pipeline_class]
