"""Typed options of the cgan family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(strict=True, ge=4, le=1024, multiple_of=4)]


class CganOptions(BaseModel):
    """What a recipe may set when it samples from a cgan.

    truncation: scale of the latents; below 1 it trades variety for typicality.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    truncation: float = Field(
        default=1.0, gt=0, le=1.0, description="a number above 0, at most 1 (no truncation)"
    )


class CganNetwork(BaseModel):
    """Sizes of the networks. widths: channels at a quarter and at half of the resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_dim: int = Field(
        default=64, ge=1, le=1024, strict=True, description="a whole number from 1 to 1024"
    )
    widths: tuple[Width, Width] = Field(
        default=(192, 128), description="two multiples of 4 from 4 to 1024, such as [192, 128]"
    )
    num_blocks: int = Field(
        default=2, ge=1, le=16, strict=True, description="a whole number from 1 to 16"
    )


class CganObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a cgan.

    gamma: weight of R1 and R2, which are computed every penalty_every steps. Images are shifted by
    up to translation_px with augment_probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gamma: float = Field(default=0.1, ge=0, allow_inf_nan=False, description="a number, 0 or more")
    penalty_every: int = Field(default=4, ge=1, description="a whole number of steps, 1 or more")
    augment_probability: float = Field(
        default=0.2, ge=0, le=0.8, description="a probability from 0 to 0.8"
    )
    translation_px: int = Field(
        default=2, ge=0, le=64, description="a whole number of pixels from 0 to 64"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
