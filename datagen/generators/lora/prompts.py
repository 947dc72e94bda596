"""The prompts of the classes, encoded once: they never change, so the text encoders are then gone.

Source: Rombach et al. 2022, latent diffusion (arXiv 2112.10752), section 3.3; Podell et al. 2023,
SDXL (arXiv 2307.01952), sections 2.1 and 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from datagen.errors import ModelError
from datagen.generators.lora.pipeline_files import PipelineFiles
from datagen.generators.lora.pipeline_parts import load_part, load_tokenizer


@dataclass(frozen=True)
class Condition:
    """What the UNet is told of N images. hidden: (N, T, D). added: of XL, else None."""

    hidden: torch.Tensor
    added: dict[str, torch.Tensor] | None


@dataclass(frozen=True)
class Prompts:
    """Of the K classes and, last, of the empty prompt: the null class.

    hidden: (K + 1, T, D) float32. Of XL alone: pooled: (K + 1, P) float32; size_ids: (6,) float32,
    the image's size, no crop, and its size again.
    """

    hidden: torch.Tensor
    pooled: torch.Tensor | None
    size_ids: torch.Tensor

    @property
    def null_class(self) -> int:
        return len(self.hidden) - 1

    def of(self, class_ids: torch.Tensor) -> Condition:
        """class_ids: (N,)."""
        if self.pooled is None:
            return Condition(self.hidden[class_ids], None)
        sizes = self.size_ids.repeat(len(class_ids), 1)
        added = {"text_embeds": self.pooled[class_ids], "time_ids": sizes}
        return Condition(self.hidden[class_ids], added)


@torch.no_grad()
def encode_prompts(
    files: PipelineFiles, prompts: Sequence[str], *, image_size: tuple[int, int], device: str
) -> Prompts:
    """One call a prompt: its bits do not depend on how many classes there are. Raises ModelError if
    a prompt is too long."""
    folder, texts, pooled = files.folder, [*prompts, ""], None
    tokenizer = load_tokenizer(folder / "tokenizer")
    encoder = load_part(CLIPTextModel, folder / "text_encoder").eval().to(device)
    outputs = [_encode(tokenizer, encoder, text) for text in texts]
    if files.configs.is_xl:
        tokenizer = load_tokenizer(folder / "tokenizer_2")
        encoder = load_part(CLIPTextModelWithProjection, folder / "text_encoder_2")
        encoder = encoder.eval().to(device)
        second = [_encode(tokenizer, encoder, text) for text in texts]
        pooled = torch.cat([output.text_embeds for output in second])
        pairs = zip(outputs, second, strict=True)
        hidden = torch.cat(
            [torch.cat([a.hidden_states[-2], b.hidden_states[-2]], dim=-1) for a, b in pairs]
        )
    else:
        hidden = torch.cat([output.last_hidden_state for output in outputs])
    if files.configs.zero_empty_prompt:
        for encoded in (hidden, pooled):
            if encoded is not None:
                encoded[-1] = 0
    size_ids = torch.tensor([*image_size, 0, 0, *image_size], dtype=torch.float32, device=device)
    return Prompts(hidden, pooled, size_ids)


def _encode(tokenizer: Any, encoder: Any, prompt: str) -> Any:
    """The encoder's output for one prompt, padded to all the tokens that it takes."""
    length = int(encoder.config.max_position_embeddings)
    ids = tokenizer(
        prompt, padding="max_length", max_length=length, truncation=False, return_tensors="pt"
    ).input_ids
    if ids.shape[1] > length:
        raise ModelError(
            f"network.prompts: {prompt[:100]!r} has {ids.shape[1]} tokens; expected at most "
            f"{length}: shorten it"
        )
    if int(ids.max()) >= int(encoder.config.vocab_size):
        raise ModelError(
            f"pipeline: the tokenizer has tokens above {encoder.config.vocab_size}, which the text "
            "encoder does not know; save the pipeline again, as one"
        )
    return encoder(ids.to(encoder.device), output_hidden_states=True)
