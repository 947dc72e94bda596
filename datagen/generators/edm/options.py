"""Typed options of the edm family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Transform = Literal["x_flip", "y_flip", "scale", "rotation", "stretch", "translation"]
Width = Annotated[int, Field(strict=True, ge=1, le=1024)]


class EdmOptions(BaseModel):
    """What a recipe may set when it samples from a diffusion model.

    sigma_min, sigma_max and rho shape the noise levels (arXiv 2206.00364, equation 5).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    num_inference_steps: int = Field(
        default=18, ge=1, le=1000, description="a whole number of steps from 1 to 1000"
    )
    guidance_scale: float = Field(
        default=1.0, ge=0, le=20, description="a number from 0 to 20; 1 is no guidance"
    )
    sampler: Literal["dpmpp_2m", "heun", "euler"] = Field(
        default="dpmpp_2m", description="dpmpp_2m, heun or euler"
    )
    sigma_min: float = Field(
        default=0.002, gt=1e-6, lt=1, description="a number above 0.000001, below 1"
    )
    sigma_max: float = Field(default=80.0, ge=1, le=1000, description="a number from 1 to 1000")
    rho: float = Field(default=7.0, ge=1, le=100, description="a number from 1 to 100")


class EdmNetwork(BaseModel):
    """Sizes of the UNet. patch_px: images are folded to (H/p, W/p, C*p*p) first.

    sigma_data: standard deviation of the training pixels in [-1, 1]. augment_dim: 9 for a network
    that is told how its images were augmented.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch_px: int = Field(
        default=2, ge=1, le=8, strict=True, description="a whole number of pixels from 1 to 8"
    )
    widths: tuple[Width, ...] = Field(
        default=(64, 128),
        min_length=1,
        max_length=6,
        description="1 to 6 whole numbers from 1 to 1024, such as [64, 128]",
    )
    layers_per_block: int = Field(
        default=1, ge=1, le=8, strict=True, description="a whole number from 1 to 8"
    )
    attention: bool = Field(default=True, strict=True, description="true or false")
    norm_num_groups: int = Field(
        default=16,
        ge=1,
        le=1024,
        strict=True,
        description="a whole number from 1 to 1024 that divides each width",
    )
    sigma_data: float = Field(
        default=0.5, gt=1e-3, le=10, strict=True, description="a number above 0.001, at most 10"
    )
    augment_dim: Literal[0, 9] = Field(
        default=0, description="0, or 9 to train with augment_probability"
    )


class EdmObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a diffusion model.

    Noise levels are log-normal: exp(p_mean + p_std * n). class_dropout: share of images that train
    the null class; condition_dropout: the null condition, drawn on its own, or with the class where
    drop_together is true. evaluation_steps: of the sampler that judges the weights.
    augment_probability: of each of augment_with, for each image; needs network.augment_dim 9.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    p_mean: float = Field(default=-1.2, ge=-10, le=10, description="a number from -10 to 10")
    p_std: float = Field(default=1.2, gt=0, le=10, description="a number above 0, at most 10")
    class_dropout: float = Field(
        default=0.1, ge=0, le=0.9, description="a probability from 0 to 0.9"
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, le=0.9, description="a probability from 0 to 0.9"
    )
    drop_together: bool = Field(default=False, description="true or false")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
    evaluation_steps: int = Field(
        default=18, ge=2, le=100, description="a whole number of steps from 2 to 100"
    )
    augment_probability: float = Field(
        default=0.0, ge=0, le=1, description="a probability from 0 to 1"
    )
    augment_with: tuple[Transform, ...] = Field(
        default=("x_flip", "scale", "rotation", "stretch", "translation"),
        strict=False,
        min_length=1,
        description=f"a list of some of {', '.join(get_args(Transform))}",
    )
