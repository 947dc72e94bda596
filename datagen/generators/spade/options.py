"""Typed options of the spade family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(strict=True, ge=1, le=1024)]


class SpadeOptions(BaseModel):
    """What a recipe may set when it samples from a spade.

    truncation: scale of the latents; below 1 it trades variety for typicality.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    truncation: float = Field(
        default=1.0, gt=0, le=1.0, description="a number above 0, at most 1 (no truncation)"
    )


class SpadeNetwork(BaseModel):
    """Sizes of the generator. widths: channels of each resolution, from the lowest; each next one
    doubles the sides. hidden_dim: channels in between label map and modulation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_dim: int = Field(
        default=64, ge=1, le=1024, strict=True, description="a whole number from 1 to 1024"
    )
    widths: tuple[Width, ...] = Field(
        default=(128, 128, 64, 32),
        min_length=1,
        max_length=8,
        description="1 to 8 whole numbers from 1 to 1024, such as [128, 128, 64, 32]",
    )
    num_blocks: int = Field(
        default=1, ge=1, le=4, strict=True, description="a whole number from 1 to 4"
    )
    hidden_dim: int = Field(
        default=64, ge=1, le=512, strict=True, description="a whole number from 1 to 512"
    )


class SpadeObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a spade.

    feature_matching, perceptual: weights beside the adversarial loss. discriminator_rate: times the
    learning rate of the generator (Heusel et al. 2017, arXiv 1706.08500). discriminator_widths: of
    each of its scales; each halves the sides. num_scales: discriminators, each of half the size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    feature_matching: float = Field(
        default=10.0, ge=0, le=1000, description="a number from 0 (off) to 1000"
    )
    perceptual: float = Field(
        default=0.0, ge=0, le=1000, description="a number from 0 (off) to 1000"
    )
    discriminator_rate: float = Field(
        default=4.0, gt=0, le=100, description="a number above 0, at most 100"
    )
    discriminator_widths: tuple[Width, ...] = Field(
        default=(32, 64, 128),
        strict=False,
        min_length=1,
        max_length=6,
        description="1 to 6 whole numbers from 1 to 1024, such as [32, 64, 128]",
    )
    num_scales: int = Field(default=2, ge=1, le=4, description="a whole number from 1 to 4")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
