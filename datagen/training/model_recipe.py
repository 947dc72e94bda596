"""The model recipe: what `datagen train` reads. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", frozen=True)


class DataSource(BaseModel):
    """Where the real images are, and under which terms they were given."""

    model_config = _STRICT

    format: Literal["idx", "imagefolder"]
    path: Path = Field(description="Folder of the data; `datagen train --data DIR` replaces it.")
    class_names: tuple[str, ...] = Field(min_length=2, max_length=1000)
    licence: str = Field(min_length=1)
    source: str = Field(min_length=1, description="Where the data come from, for the card.")
    held_out: int = Field(default=5000, ge=0, description="Images kept out of training.")


class Schedule(BaseModel):
    """How long and how fast. One unit of progress is one real image seen.

    The learning rate is constant up to decay_after_images and then falls with the inverse square
    root of the images seen (Karras et al. 2024, arXiv 2312.02696, equation 67): it needs no
    horizon, so that a run may be stopped or prolonged.
    """

    model_config = _STRICT

    num_images: int = Field(ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(gt=0)
    warmup_images: int = Field(default=10_000, ge=0)
    decay_after_images: int = Field(default=300_000, ge=1)
    ema_halflife_images: int = Field(default=100_000, ge=1)
    ema_rampup: float = Field(default=0.05, gt=0)
    evaluate_every_images: int = Field(default=100_000, ge=1)
    checkpoint_every_images: int = Field(default=20_000, ge=1)
    num_threads: int = Field(default=1, ge=1, le=64)


class ModelRecipe(BaseModel):
    model_config = _STRICT

    version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    generator: str
    seed: int = Field(default=0, ge=0, lt=2**63)
    data: DataSource
    network: dict[str, Any] = Field(default_factory=dict)
    objective: dict[str, Any] = Field(default_factory=dict)
    schedule: Schedule
    weights_dtype: Literal["float32", "float16"] = "float32"
    description: str = ""
