"""Typed options of the text-edm family: torch-free. Each description completes "expected ..."."""

from __future__ import annotations

from pydantic import Field

from datagen.generators.edm.options import EdmNetwork, EdmOptions


class TextEdmOptions(EdmOptions):
    """What a recipe may set when it samples from a diffusion model that reads prompts."""

    guidance_scale: float = Field(
        default=3.0, ge=0, le=20, description="a number from 0 to 20; 1 is no guidance"
    )


class TextEdmNetwork(EdmNetwork):
    """Sizes of the UNet, and the text encoder whose vectors it reads.

    text_dim: of a prompt's vector. encoder_sha256: of the encoder's weights and its tokenizer, in
    this order; a model draws with no other. None only before a training.
    """

    text_dim: int = Field(
        default=384, ge=1, le=8192, strict=True, description="a whole number from 1 to 8192"
    )
    encoder_sha256: tuple[str, str] | None = Field(
        default=None, description="two sha256 sums, of the weights and of the tokenizer"
    )
