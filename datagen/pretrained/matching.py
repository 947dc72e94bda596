"""CLIP and SigLIP in memory: texts are read once, images one at a time. Opened by zero_shot.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.pretrained.loading import (
    Image,
    device,
    load_network,
    load_processor,
    load_tokenizer,
    prepare,
    told_of,
)


class TextMatcher:
    """Softmax over texts of the scaled cosines between the image and each of them.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
    Supervision", section 3.1.2.
    """

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder = folder
        self._network = load_network("AutoModel", folder)
        self._processor = load_processor(folder)
        self._texts = self._read(texts)

    @torch.inference_mode()
    def probabilities(self, image: Image) -> NDArray[np.float64]:
        """image: (H, W, C) uint8. Returns (texts,)."""
        pixels = prepare(self._processor, image, self._folder)["pixel_values"]
        with told_of(self._folder):
            seen = self._network.get_image_features(pixel_values=pixels).pooler_output
            cosines = torch.nn.functional.normalize(seen) @ self._texts.T
        logits = cosines[0].double().cpu() * self._network.logit_scale.double().exp().cpu()
        shares = np.asarray(logits.softmax(-1).numpy(), np.float64)
        if not np.isfinite(shares).all():
            raise ModelError(f"{self._folder}: it gives what is no number; check its weights")
        return shares

    @torch.inference_mode()
    def _read(self, texts: Sequence[str]) -> torch.Tensor:
        """(texts, width), of length one: one at a time, so that none depends on the others."""
        tokenizer = load_tokenizer(self._folder)
        limit = int(self._network.config.text_config.max_position_embeddings)
        with told_of(self._folder):
            rows = [self._embed(*tokenized(tokenizer, text, limit, self._folder)) for text in texts]
        return torch.nn.functional.normalize(torch.cat(rows))

    def _embed(self, ids: torch.Tensor, is_read: torch.Tensor) -> Any:
        """SigLIP was trained without a mask: it reads the padding as well."""
        given = {} if self._network.config.model_type == "siglip" else {"attention_mask": is_read}
        given = {name: each.to(device()) for name, each in (given | {"input_ids": ids}).items()}
        return self._network.get_text_features(**given).pooler_output


def tokenized(
    tokenizer: Any, text: str, limit: int, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, limit) token ids, padded, and 1 where they are none of the padding. Raises ModelError if
    the text is too long for the network: cut, it would say something else."""
    ids = tokenizer(text)["input_ids"]
    if len(ids) > limit:
        raise ModelError(
            f"{folder}: text {text[:60]!r} has {len(ids)} tokens; its text encoder takes {limit}: "
            "say it shorter"
        )
    padded = tokenizer(
        text,
        padding="max_length",
        max_length=limit,
        return_tensors="pt",
        return_attention_mask=True,
    )
    return torch.as_tensor(padded["input_ids"]), torch.as_tensor(padded["attention_mask"])
