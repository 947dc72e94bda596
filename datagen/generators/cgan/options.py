"""Typed options of the cgan family: torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(strict=True, ge=4, le=1024, multiple_of=4)]


class CganOptions(BaseModel):
    """What a recipe may set when it samples from a cgan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    truncation: float = Field(
        default=1.0,
        gt=0,
        le=1.0,
        description="Scale of the latents; below 1 trades variety for typicality.",
    )


class CganNetwork(BaseModel):
    """Sizes of the networks. widths: channels at a quarter and at half of the resolution."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latent_dim: int = Field(default=64, ge=1, le=1024, strict=True)
    widths: tuple[Width, Width] = (192, 128)
    num_blocks: int = Field(default=2, ge=1, le=16, strict=True)


class CganObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a cgan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    gamma: float = Field(default=0.1, ge=0, allow_inf_nan=False, description="Weight of R1 and R2.")
    penalty_every: int = Field(default=4, ge=1, description="Steps between lazy penalties.")
    augment_probability: float = Field(default=0.2, ge=0, le=0.8)
    translation_px: int = Field(default=2, ge=0, le=64)
    precision: Literal["float32", "bfloat16"] = "float32"
