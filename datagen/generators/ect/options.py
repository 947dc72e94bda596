"""Typed options of the ect family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class EctOptions(BaseModel):
    """What a recipe may set when it samples from a consistency model.

    mid_sigma: noise level of the last step where there are two or more; steps between it and
    sigma_max are spaced by one ratio.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    num_inference_steps: int = Field(
        default=2, ge=1, le=4, description="a whole number of steps from 1 to 4"
    )
    sigma_max: float = Field(default=80.0, ge=20, le=1000, description="a number from 20 to 1000")
    mid_sigma: float = Field(default=0.8, ge=0.01, le=10, description="a number from 0.01 to 10")


class EctObjectiveOptions(BaseModel):
    """What a model recipe may set when it tunes a diffusion model into a consistency model.

    Noise levels t are log-normal: exp(p_mean + p_std * n). The level r of the target is
    t * (1 - (1 + k * sigmoid(-b * t)) / q ** (stage + 1)), at least 0; the stage rises by one each
    doubling_images, num_stages at most. huber_c: 0 is the plain norm. dropout: in the residual
    blocks, the same for both levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    p_mean: float = Field(default=-1.1, ge=-10, le=10, description="a number from -10 to 10")
    p_std: float = Field(default=2.0, gt=0, le=10, description="a number above 0, at most 10")
    q: float = Field(default=2.0, gt=1, le=65_536, description="a number above 1, at most 65536")
    k: float = Field(default=8.0, ge=0, le=1000, description="a number from 0 to 1000")
    b: float = Field(default=1.0, ge=0, le=1000, description="a number from 0 to 1000")
    doubling_images: int = Field(
        default=6_400_000, ge=1, le=10**12, description="a whole number of images, 1 or more"
    )
    num_stages: int = Field(default=8, ge=1, le=16, description="a whole number from 1 to 16")
    huber_c: float = Field(default=0.0, ge=0, le=100, description="a number from 0 to 100")
    dropout: float = Field(default=0.0, ge=0, le=0.9, description="a probability from 0 to 0.9")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
    evaluation_steps: int = Field(
        default=2, ge=1, le=4, description="a whole number of steps from 1 to 4"
    )
