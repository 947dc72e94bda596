"""Typed options of the lora family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from datagen.errors import ModelError

CLASS_FIELD = "{class}"

Prompt = Annotated[str, StringConstraints(min_length=1, max_length=500)]
# Linear layers of the UNet's transformer blocks, as diffusers names them.
Target = Literal[
    "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"
]


class LoraOptions(BaseModel):
    """What a recipe may set when it samples from a tuned pipeline.

    guidance_scale: low by default, for variety: what looks best (about 7.5) trains classifiers
    worse (Fan et al. 2023, "Scaling laws of synthetic images", arXiv 2312.04567).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    num_inference_steps: int = Field(
        default=25, ge=1, le=1000, description="a whole number of steps from 1 to 1000"
    )
    guidance_scale: float = Field(
        default=2.0, ge=0, le=20, description="a number from 0 to 20; 1 is no guidance"
    )
    sampler: Literal["dpmpp_2m", "ddim"] = Field(default="dpmpp_2m", description="dpmpp_2m or ddim")


class LoraNetwork(BaseModel):
    """The pipeline that is tuned, and what is added to it.

    pipeline: a directory as diffusers' save_pretrained writes it; with `revision`, a hub id, looked
    up in this machine's cache alone. A recipe with `init` and no network has the parent's.
    pipeline_sha256: of its files, filled in at training. prompts: of each class, or one text with
    {class} in it. alpha: scales the added layers by alpha / rank; None for rank.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str = Field(
        default="",
        max_length=1000,
        strict=True,
        description="the folder of a text-to-image pipeline, or a hub id with a revision",
    )
    revision: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{40}$",
        description="the full commit hash of a hub repository, 40 hexadecimal digits",
    )
    pipeline_sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="a sha256, filled in by the training: leave it out",
    )
    prompts: Prompt | dict[str, Prompt] = Field(
        default="a photo of a {class}",
        min_length=1,
        max_length=10_000,
        description="a text with {class} in it, or a mapping of every class name to its prompt",
    )
    rank: int = Field(
        default=8, ge=1, le=256, strict=True, description="a whole number from 1 to 256"
    )
    alpha: int | None = Field(
        default=None, ge=1, le=1024, strict=True, description="a whole number from 1 to 1024"
    )
    target_modules: tuple[Target, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        max_length=8,
        description="a list of layers of the UNet, such as [to_q, to_k, to_v, to_out.0]",
    )

    def class_prompts(self, class_names: Sequence[str]) -> list[str]:
        """One for each class, in order; '_' of a name is a blank in a text with {class}.

        Raises ModelError if a class has none, or there is one for no class.
        """
        if isinstance(self.prompts, str):
            if CLASS_FIELD not in self.prompts:
                raise ModelError(
                    f"generator lora: network.prompts {self.prompts!r}: expected {CLASS_FIELD} in "
                    "it, or a mapping of class names to prompts"
                )
            return [
                self.prompts.replace(CLASS_FIELD, name.replace("_", " ")) for name in class_names
            ]
        wrong = sorted(set(class_names) ^ self.prompts.keys())
        if wrong:
            problem = "has no prompt" if wrong[0] in class_names else "is no class of the data"
            raise ModelError(
                f"generator lora: network.prompts: {wrong[0]!r} {problem}; expected one prompt for "
                f"each of {', '.join(class_names[:20])}"
            )
        return [self.prompts[name] for name in class_names]


class LoraObjectiveOptions(BaseModel):
    """What a model recipe may set when it tunes a pipeline.

    min_snr_gamma: bounds the weight of the easy noise levels (arXiv 2303.09556); None weights all
    alike. class_dropout: share of images that train the empty prompt. gradient_checkpointing:
    less memory, a third more time. evaluation_steps: of the sampler that judges the weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min_snr_gamma: float | None = Field(
        default=5.0, gt=0, le=1000, description="a number above 0, at most 1000, or null"
    )
    class_dropout: float = Field(
        default=0.1, ge=0, le=0.9, description="a probability from 0 to 0.9"
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="a number from 0 to 1")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="float32 or bfloat16"
    )
    gradient_checkpointing: bool = Field(default=False, description="true or false")
    evaluation_steps: int = Field(
        default=15, ge=2, le=100, description="a whole number of steps from 2 to 100"
    )
