"""Typed options of the vae family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(strict=True, ge=4, le=1024, multiple_of=4)]


class VaeOptions(BaseModel):
    """What a recipe may set when it samples from a vae.

    temperature: scale of the latents around the mean of their class; below 1 it trades variety for
    typicality.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    temperature: float = Field(
        default=1.0, gt=0, le=2.0, description="a number above 0, at most 2 (1 is as trained)"
    )


class VaeNetwork(BaseModel):
    """Sizes of the networks. widths: channels at a half, a quarter, ... of the resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_dim: int = Field(
        default=32, ge=1, le=256, strict=True, description="a whole number from 1 to 256"
    )
    widths: tuple[Width, ...] = Field(
        default=(64, 128),
        min_length=2,
        max_length=6,
        description="2 to 6 multiples of 4 from 4 to 1024, such as [64, 128]",
    )
    num_blocks: int = Field(
        default=1, ge=1, le=16, strict=True, description="a whole number from 1 to 16"
    )


class VaeObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a vae.

    kl_weight: of the divergence from the normal prior; it rises from 0 over kl_warmup_images.
    free_bits: nats of each latent dimension that cost nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kl_weight: float = Field(
        default=1.0, ge=0, le=1000, allow_inf_nan=False, description="a number from 0 to 1000"
    )
    kl_warmup_images: int = Field(
        default=0, ge=0, description="a whole number of images, 0 or more"
    )
    free_bits: float = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="a number of nats from 0 to 10"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
