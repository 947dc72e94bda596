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
    """Sizes of the networks. widths: channels at a quarter and at half of the resolution.

    self_attention: one layer at a quarter of the resolution, in both networks. Written only where
    it is on: configs from before it keep their digest.
    """

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
    self_attention: bool = Field(
        default=False,
        strict=True,
        exclude_if=lambda is_on: not is_on,
        description="true or false",
    )


class CganObjectiveOptions(BaseModel):
    """What a model recipe may set when it trains a cgan.

    gamma: weight of the penalty, which is computed every penalty_every steps.
    augment_probability: of each augmentation that is on: shifts by up to translation_px, color,
    cutout_share. With an augment_target it is only where the probability starts (adaptation.py).
    spectral_norm, minibatch_stddev: of the discriminator; the latter is the images of a group.
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
    color: bool = Field(default=False, description="true or false")
    cutout_share: float = Field(
        default=0.0, ge=0, le=0.75, description="a share of the sides from 0 (none) to 0.75"
    )
    augment_target: float = Field(
        default=0.0, ge=0, lt=1, description="a number from 0 (off) to below 1, such as 0.6"
    )
    augment_ramp_images: int = Field(
        default=500_000, ge=1, description="a whole number of images, 1 or more"
    )
    penalty: Literal["r1r2", "r1", "wgan-gp"] = Field(
        default="r1r2", description="r1r2, r1 or wgan-gp"
    )
    spectral_norm: bool = Field(default=False, description="true or false")
    minibatch_stddev: int = Field(
        default=0, ge=0, le=64, description="a whole number of images from 0 (off) to 64, such as 4"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
