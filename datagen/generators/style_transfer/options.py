"""Typed options of the style_transfer family. Each description completes "expected ..."."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StyleOptions(BaseModel):
    """What a recipe may set. style_distance: of the Gram matrices, squared as in the loss of Gatys
    et al. (equation 4), as a share of the content's own: steps end there. content_weight: of the
    content's features beside the style's Gram matrices, both relative to their own size.
    coarse_steps: before num_steps, at half of the size."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    style_distance: float = Field(
        default=0.17, ge=0, le=1, allow_inf_nan=False, description="a share from 0 to 1"
    )
    num_steps: int = Field(
        default=160, ge=1, le=1000, description="a whole number of steps from 1 to 1000"
    )
    coarse_steps: int = Field(
        default=80, ge=0, le=1000, description="a whole number of steps from 0 to 1000"
    )
    content_weight: float = Field(
        default=0.03, ge=0, le=10, allow_inf_nan=False, description="a number from 0 to 10"
    )


class NoObjective(BaseModel):
    """A style set is stored, not trained: nothing may be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
