"""Prompts as the tensors that a pipeline is told of, each encoded once. Called by sample.py.

A text is encoded at the one batch shape, so that its neighbours do not change its bits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from datagen.generators.pipeline.families import Call

Encoding = dict[str, torch.Tensor]  # argument of the pipeline -> (1, ...) of one image
_Pair = tuple[str, str]  # a prompt and its negative; "" for none

# A T5 encoding of 512 tokens takes 4 MB in half precision.
_MAX_KEPT = 64
_WITH_POOLED = (
    *("prompt_embeds", "negative_prompt_embeds"),
    *("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
)
_WITH_MASKS = (
    *("prompt_embeds", "prompt_attention_mask"),
    *("negative_prompt_embeds", "negative_prompt_attention_mask"),
)


class Words:
    """The text encoders of one pipeline, and the encodings that they made last."""

    def __init__(
        self, pipe: Any, call: Call, *, batch_size: int, guidance: Mapping[str, float], length: int
    ) -> None:
        """guidance: guidance_scale, true_cfg_scale. length: tokens of the T5 or Gemma encoder."""
        self.pipe = pipe
        self.call = call
        self.batch_size = batch_size
        self.guidance = guidance
        self.length = length
        self._kept: OrderedDict[_Pair, Encoding] = OrderedDict()

    def encode(self, pairs: Sequence[_Pair]) -> list[Encoding]:
        """One a prompt and negative prompt."""
        for has_negative in (False, True):
            lacking = [p for p in dict.fromkeys(pairs) if p not in self._kept]
            self._add([pair for pair in lacking if bool(pair[1]) == has_negative])
        found = [self._kept[pair] for pair in pairs]
        for pair in pairs:
            self._kept.move_to_end(pair)
        while len(self._kept) > max(_MAX_KEPT, 2 * self.batch_size):
            self._kept.popitem(last=False)
        return found

    def _add(self, pairs: Sequence[_Pair]) -> None:
        for first in range(0, len(pairs), self.batch_size):
            part = pairs[first : first + self.batch_size]
            padded = [*part, *[part[0]] * (self.batch_size - len(part))]
            # Without any, an encoder may be given none: XL has zeros then, not an empty text.
            negatives = [negative for _, negative in padded] if part[0][1] else None
            encoded = _ENCODERS[self.call.words](self, [text for text, _ in padded], negatives)
            for row, pair in enumerate(part):
                self._kept[pair] = {
                    name: tensor[row : row + 1].clone()
                    for name, tensor in encoded.items()
                    if tensor is not None
                }

    @property
    def is_guided(self) -> bool:
        return self.guidance.get("guidance_scale", 1.0) > 1

    def told(self) -> dict[str, Any]:
        return {
            "device": self.pipe._execution_device,
            "do_classifier_free_guidance": self.is_guided,
        }


_Encoded = dict[str, Any]
_Negatives = list[str] | None


def _clip(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    told = words.told() | {"num_images_per_prompt": 1}
    found = words.pipe.encode_prompt(texts, negative_prompt=negatives, **told)
    return dict(zip(_WITH_POOLED[:2], found, strict=True))


def _xl(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    found = words.pipe.encode_prompt(texts, negative_prompt=negatives, **words.told())
    return dict(zip(_WITH_POOLED, found, strict=True))


def _sd3(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    found = words.pipe.encode_prompt(
        texts,
        None,
        None,
        negative_prompt=negatives,
        max_sequence_length=words.length,
        **words.told(),
    )
    return dict(zip(_WITH_POOLED, found, strict=True))


def _flux(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    """Flux is guided by its own number; a negative prompt needs true_cfg_scale besides."""
    found = _flux_texts(words, texts)
    if words.guidance.get("true_cfg_scale", 1.0) > 1:
        away = _flux_texts(words, negatives or [""] * len(texts))
        found |= {f"negative_{name}": tensor for name, tensor in away.items()}
    return found


def _flux_texts(words: Words, texts: list[str]) -> _Encoded:
    device = words.pipe._execution_device
    embeds, pooled, _ = words.pipe.encode_prompt(
        texts, None, device=device, max_sequence_length=words.length
    )
    return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}


def _masked(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    found = words.pipe.encode_prompt(
        texts,
        negative_prompt=negatives or [""] * len(texts),
        max_sequence_length=words.length,
        **words.told(),
    )
    return dict(zip(_WITH_MASKS, found, strict=True))


def _pixels(words: Words, texts: list[str], negatives: _Negatives) -> _Encoded:
    found = words.pipe.encode_prompt(texts, negative_prompt=negatives, **words.told())
    return dict(zip(_WITH_POOLED[:2], found, strict=True))


_ENCODERS: Mapping[str, Callable[[Words, list[str], _Negatives], _Encoded]] = {
    "clip": _clip,
    "xl": _xl,
    "sd3": _sd3,
    "flux": _flux,
    "masked": _masked,
    "pixels": _pixels,
    "hidden": _xl,  # the latent upscaler's encoder: another network, the same four
}
