"""Typed options of the edm family: torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(strict=True, ge=1, le=1024)]


class EdmOptions(BaseModel):
    """What a recipe may set when it samples from a diffusion model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    num_inference_steps: int = Field(default=18, ge=1, le=1000)
    guidance_scale: float = Field(default=1.0, ge=0, le=20, description="1 is no guidance.")
    sampler: Literal["dpmpp_2m", "heun", "euler"] = "dpmpp_2m"
    sigma_min: float = Field(default=0.002, gt=1e-6, lt=1)
    sigma_max: float = Field(default=80.0, ge=1, le=1000)
    rho: float = Field(default=7.0, ge=1, le=100)


class EdmNetwork(BaseModel):
    """Sizes of the UNet. patch_px: images are folded to (H/p, W/p, C*p*p) first.

    sigma_data: standard deviation of the training pixels in [-1, 1].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch_px: int = Field(default=2, ge=1, le=8, strict=True)
    widths: tuple[Width, ...] = Field(default=(64, 128), min_length=1, max_length=6)
    layers_per_block: int = Field(default=1, ge=1, le=8, strict=True)
    attention: bool = Field(default=True, strict=True)
    norm_num_groups: int = Field(default=16, ge=1, le=1024, strict=True)
    sigma_data: float = Field(default=0.5, gt=1e-3, le=10, strict=True)


class EdmObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a diffusion model.

    Noise levels are log-normal: exp(p_mean + p_std * n).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    p_mean: float = Field(default=-1.2, ge=-10, le=10)
    p_std: float = Field(default=1.2, gt=0, le=10)
    class_dropout: float = Field(default=0.1, ge=0, le=0.9)
    precision: Literal["float32", "bfloat16"] = "float32"
    evaluation_steps: int = Field(default=18, ge=2, le=100)
