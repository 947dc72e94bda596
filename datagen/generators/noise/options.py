"""Typed options of the noise family."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class NoiseOptions(BaseModel):
    """What a recipe may set when it samples noise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Literal[1, 3] = Field(default=3, description="1: grey, 3: RGB.")


class NoNetwork(BaseModel):
    """Noise has no network and no objective: nothing may be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
