"""Typed options of the noise family."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class NoiseOptions(BaseModel):
    """What a recipe may set when it samples noise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: Literal[1, 3] = Field(default=3, description="1 (grey) or 3 (RGB)")

    @field_validator("channels", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any) -> Any:
        """True equals 1, and Literal compares by equality."""
        if isinstance(value, bool):
            raise ValueError("expected 1 or 3")
        return value


class NoNetwork(BaseModel):
    """Noise has no network and no objective: nothing may be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
