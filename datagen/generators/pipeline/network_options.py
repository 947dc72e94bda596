"""The `network` of a pipeline's config.json: which files it is, and what they are put to.

Torch-free. Written by registration.py, read by spec.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from datagen.generators.pipeline.families_table import Task

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

MAX_ADAPTERS = 16

# A folder's or file's path, or a hub id such as owner/name.
Source = Annotated[str, Field(max_length=1000)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="the hub's full commit id")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LoraPart(BaseModel):
    """One LoRA adapter. weight: its scale; 1 as it was trained."""

    model_config = _STRICT

    source: Source = Field(min_length=1)
    weight: float = Field(default=1.0, ge=-10, le=10)
    sha256: Sha256


class TextualInversionPart(BaseModel):
    """One learned embedding. token: the word that prompts call it by."""

    model_config = _STRICT

    source: Source = Field(min_length=1)
    token: str = Field(min_length=1, max_length=100, pattern=r"^\S+$")
    sha256: Sha256


class PipelineNetwork(BaseModel):
    """Empty for the shipped model `pipeline`, where a recipe's options name the source.

    sha256: over names and contents of the files that are used (files.py). revision: of a hub id;
    None for a folder. licence: as its card states it; None where it states none. batch_size: of the
    network calls; None for the probe's. image_size of config.json: None where any is taken.
    """

    model_config = _STRICT

    source: Source = ""
    revision: Revision | None = None
    sha256: Sha256 | None = None
    pipeline_class: str | None = Field(default=None, max_length=100)
    task: Task | None = None
    controlnet: Source | None = None
    controlnet_revision: Revision | None = None
    controlnet_sha256: Sha256 | None = None
    loras: tuple[LoraPart, ...] = Field(default=(), max_length=MAX_ADAPTERS)
    textual_inversions: tuple[TextualInversionPart, ...] = Field(
        default=(), max_length=MAX_ADAPTERS
    )
    licence: str | None = Field(default=None, min_length=1, max_length=200)
    batch_size: int | None = Field(default=None, ge=1, le=1024, strict=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """A source is pinned by digest, class and task; nothing is set without one."""
        pinned = (self.sha256, self.pipeline_class, self.task)
        if self.source and None in pinned:
            raise ValueError("source needs sha256, pipeline_class and task beside it")
        if not self.source and self != PipelineNetwork.model_construct():
            raise ValueError("nothing may be set without source")
        if (self.controlnet is None) != (self.controlnet_sha256 is None):
            raise ValueError("controlnet and controlnet_sha256 belong together")
        if self.controlnet is None and self.controlnet_revision is not None:
            raise ValueError("controlnet_revision needs controlnet")
        return self

    def plain(self) -> dict[str, Any]:
        """For config.json: what is at its default is left out, so that a field added later leaves
        the digests of models as they are."""
        return self.model_dump(mode="json", exclude_defaults=True)
