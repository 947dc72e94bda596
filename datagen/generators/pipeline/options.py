"""Typed options of the pipeline family: torch-free. Each description completes "expected ...".

What is None is the pipeline's own. Which of them a pipeline takes: families.py.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from datagen.generators.pipeline.families_table import Task

Scheduler = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_a",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "unipc",
    "lms",
    "lcm",
    "flow_match_euler",
]
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
Dtype = Literal["float32", "float16", "bfloat16"]
Offload = Literal["none", "model", "sequential"]
Quantization = Literal["none", "int8", "float8"]
Control = Literal["given", "edges", "depth", "segmentation"]

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_SHA256 = Field(
    default=None,
    pattern=r"^[0-9a-f]{64}$",
    description="a sha256, filled in when the recipe is resolved: leave it out",
)
_REVISION = Field(
    default=None,
    pattern=r"^[0-9a-f]{40}$",
    description="the full commit hash of a hub repository, 40 hexadecimal digits",
)
_Weight = Annotated[float, Field(ge=-10, le=10)]


class LoraRequest(BaseModel):
    """One LoRA adapter of the recipe's own."""

    model_config = _STRICT

    source: str = Field(
        min_length=1, max_length=1000, description="a safetensors file, or a folder that holds one"
    )
    weight: _Weight = Field(default=1.0, description="a number from -10 to 10")
    sha256: str | None = _SHA256


class TextualInversionRequest(BaseModel):
    """One learned embedding of the recipe's own, which prompts call by its token."""

    model_config = _STRICT

    source: str = Field(
        min_length=1, max_length=1000, description="a safetensors file, or a folder that holds one"
    )
    token: str = Field(
        pattern=r"^\S{1,100}$", description="a word without blanks, such as <my-lesion>"
    )
    sha256: str | None = _SHA256


class PipelineOptions(BaseModel):
    """What a recipe may set when it samples from a pipeline.

    source to textual_inversions: which files, where the model names none of its own; adapters come
    on top of the model's. guidance_scale: what looks best (about 7) trains classifiers worse than 2
    (Fan et al. 2023, arXiv 2312.04567). batch_size: images per network call; None for the probe's.
    """

    model_config = _STRICT

    source: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="the folder of a diffusers pipeline, or a hub id with a revision",
    )
    revision: str | None = _REVISION
    sha256: str | None = _SHA256
    task: Task | None = Field(default=None, description=f"one of {', '.join(get_args(Task))}")
    controlnet: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="the folder of a ControlNet, or a hub id with controlnet_revision",
    )
    controlnet_revision: str | None = _REVISION
    controlnet_sha256: str | None = _SHA256
    control: Control = Field(default="given", description=", ".join(get_args(Control)))
    picture_channels: Literal[1, 3] | None = Field(
        default=None, description="1 (grey) or 3 (RGB), of the pictures that condition the images"
    )
    loras: tuple[LoraRequest, ...] = Field(
        default=(),
        max_length=16,
        strict=False,
        description="a list of adapters like {source: FILE, weight: 0.8}",
    )
    textual_inversions: tuple[TextualInversionRequest, ...] = Field(
        default=(),
        max_length=16,
        strict=False,
        description="a list of embeddings like {source: FILE, token: <my-lesion>}",
    )

    scheduler: Scheduler | None = Field(default=None, description=f"one of {', '.join(SCHEDULERS)}")
    num_inference_steps: int = Field(
        default=25, ge=1, le=1000, description="a whole number of steps from 1 to 1000"
    )
    guidance_scale: float | None = Field(
        default=None, ge=0, le=50, description="a number from 0 to 50"
    )
    true_cfg_scale: float | None = Field(
        default=None, ge=1, le=50, description="a number from 1 to 50; 1 is no guidance"
    )
    image_guidance_scale: float | None = Field(
        default=None, ge=1, le=50, description="a number from 1 to 50"
    )
    strength: float | None = Field(
        default=None, gt=0, le=1, description="a number above 0, at most 1"
    )
    controlnet_conditioning_scale: float | None = Field(
        default=None, ge=0, le=10, description="a number from 0 to 10"
    )
    noise_level: int | None = Field(
        default=None, ge=0, le=999, description="a whole number from 0 to 999"
    )
    max_sequence_length: int | None = Field(
        default=None, ge=8, le=512, description="a whole number of tokens from 8 to 512"
    )
    prior_num_inference_steps: int | None = Field(
        default=None, ge=1, le=1000, description="a whole number of steps from 1 to 1000"
    )
    prior_guidance_scale: float | None = Field(
        default=None, ge=0, le=50, description="a number from 0 to 50"
    )
    class_labels: dict[str, int | str] = Field(
        default_factory=dict,
        max_length=10_000,
        description="a mapping of class names to the model's labels or their numbers, "
        "like {cat: 281, dog: golden retriever}",
    )

    dtype: Dtype = Field(default="float32", description="float32, float16 or bfloat16")
    vae_tiling: bool = Field(default=False, description="true or false")
    cpu_offload: Offload = Field(default="none", description="none, model or sequential")
    compile: bool = Field(default=False, description="true or false")
    quantization: Quantization = Field(default="none", description="none, int8 or float8")
    batch_size: int | None = Field(
        default=None, ge=1, le=1024, description="a whole number of images from 1 to 1024"
    )


# Options that a pipeline takes or not, by its class; everything else is ours to do.
PIPELINE_ARGUMENTS = (
    *("guidance_scale", "true_cfg_scale", "image_guidance_scale", "strength"),
    *("controlnet_conditioning_scale", "noise_level", "max_sequence_length"),
    *("prior_num_inference_steps", "prior_guidance_scale", "class_labels"),
)
