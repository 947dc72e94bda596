"""Sampling from any pipeline of diffusers, at one batch shape.

An image's bits depend on its own seed, class and condition: a generator an image, schedulers as
they were before their first call, words encoded apart, and a batch that is always full.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from datagen.conditions import Condition, Mix
from datagen.errors import ModelError
from datagen.generators.interface import Images, ModelConfig
from datagen.generators.pipeline.calls import Arguments, told_options
from datagen.generators.pipeline.latents import latents_of
from datagen.generators.pipeline.loading import networks_of
from datagen.generators.pipeline.mixes import (
    mix_encodings,
    mix_rows,
    mixed_classes,
    mixed_noise,
    seeds_of_draws,
)
from datagen.generators.pipeline.pictures import (
    Picture,
    as_tensor,
    pictures_of,
    regions_of,
    shown,
)
from datagen.generators.pipeline.randomness import (
    FreshSchedulers,
    no_other_draws,
    seeded_generators,
    seeded_vae,
)
from datagen.generators.pipeline.request import OpenedPipeline
from datagen.generators.pipeline.sizes import upscale_factor
from datagen.generators.pipeline.weight_types import held_bytes
from datagen.generators.pipeline.words import Encoding, Words
from datagen.generators.weights import pad_batch


@dataclass(frozen=True)
class _Batch:
    """A full batch. conditions: None where the images are asked for without any."""

    seeds: Sequence[int]
    class_ids: Sequence[int]
    conditions: Sequence[Condition] | None

    @property
    def mixes(self) -> list[Mix | None]:
        if self.conditions is None:
            return [None] * len(self.seeds)
        return [condition.mix for condition in self.conditions]

    def only(self, row: int) -> _Batch:
        """One of its images."""
        conditions = None if self.conditions is None else [self.conditions[row]]
        return _Batch([self.seeds[row]], [self.class_ids[row]], conditions)


class PipelineSampler:
    """A loaded pipeline at one batch shape, where its networks are."""

    def __init__(
        self,
        pipe: Any,
        opened: OpenedPipeline,
        config: ModelConfig,
        *,
        batch_size: int,
        class_numbers: Sequence[int],
    ) -> None:
        """config: fitted. class_numbers: the pipeline's own, of each class of the config."""
        self.pipe = pipe
        self.opened = opened
        self.config = config
        self.batch_size = batch_size
        self.class_numbers = class_numbers
        self.memory_bytes = held_bytes(networks_of(pipe))
        self._schedulers = FreshSchedulers(pipe)
        self._told = told_options(opened, config.image_size)
        length = opened.options.max_sequence_length or opened.call.sequence_length or 0
        self._words = Words(
            pipe,
            opened.call,
            batch_size=batch_size,
            guidance={
                "guidance_scale": opened.guidance_scale or 1.0,
                "true_cfg_scale": opened.options.true_cfg_scale or 1.0,
            },
            length=length,
        )

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) uint8; see interface.Sampler. Raises ModelError if the pipeline is
        told of words, or shown a picture."""
        if self.opened.call.words != "none" or self.opened.call.picture is not None:
            raise ModelError(
                f"pipeline {self.opened.pipeline_class}: draws nothing without its "
                f"{'prompt' if self.opened.call.picture is None else 'picture'}; give the recipe "
                "a conditioning"
            )
        padded = pad_batch(seeds, class_ids, self.batch_size)
        return self._images(_Batch(*padded, None))[: len(seeds)]

    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """Returns (N, H, W, C) uint8; see interface.ConditionedSampler. Of an inpainted image all
        that lies outside the region is the picture's, bit for bit."""
        padded = pad_batch(seeds, class_ids, self.batch_size)
        missing = self.batch_size - len(conditions)
        full = [*conditions, *[conditions[0]] * missing]
        images = self._images(_Batch(*padded, full))[: len(seeds)]
        if self.opened.call.mask:
            pictures = pictures_of(conditions, image_size=self.config.image_size)
            for image, picture, condition in zip(images, pictures, conditions, strict=True):
                assert condition.region is not None
                image[~condition.region] = picture[~condition.region]
        return images

    def _images(self, batch: _Batch) -> Images:
        if not self.opened.call.one_by_one:
            return self._draw(batch)
        return np.concatenate([self._draw(batch.only(row)) for row in range(self.batch_size)])

    @torch.inference_mode()
    def _draw(self, batch: _Batch) -> Images:
        call, mixes = self.opened.call, batch.mixes
        arguments = self._told | self._words_of(batch) | self._shown(batch)
        if call.batch_argument:
            arguments["batch_size"] = len(batch.seeds)
        if "class_labels" in call.options:
            arguments["class_labels"] = [self.class_numbers[i] for i in batch.class_ids]
        generators = seeded_generators(seeds_of_draws(batch.seeds, mixes))
        self._schedulers.renew(generators)
        with ExitStack() as patched:
            patched.enter_context(no_other_draws(f"pipeline {self.opened.pipeline_class}"))
            patched.enter_context(seeded_vae(self.pipe, generators))
            patched.enter_context(mixed_noise(self.pipe, batch.seeds, mixes))
            if "class_labels" in call.options:
                ids = [None if mix is None else mix.class_id for mix in mixes]
                others = [self.class_numbers[0 if i is None else i] for i in ids]
                patched.enter_context(mixed_classes(self.pipe, others, mixes))
            drawn = self._called(arguments, generators)
        return self._checked(drawn, len(batch.seeds))

    def _called(self, arguments: Arguments, generators: Sequence[torch.Generator]) -> Any:
        """Raises ModelError for what the pipeline says against its arguments."""
        try:
            return self.pipe(**arguments, generator=generators).images
        except (IndexError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"pipeline {self.opened.pipeline_class}: cannot draw with these options and "
                f"weights ({reason}); change num_inference_steps, scheduler or image_size"
            ) from error

    def _checked(self, drawn: Any, num_images: int) -> Images:
        """Images in [0, 1], (N, C, H, W) or NHWC of numpy => NHWC uint8; the one range
        conversion."""
        images = drawn if isinstance(drawn, torch.Tensor) else torch.from_numpy(np.asarray(drawn))
        if isinstance(drawn, torch.Tensor):
            images = images.permute(0, 2, 3, 1)
        wanted = (num_images, *self.config.image_size, self.config.channels)
        if tuple(images.shape) != wanted:
            raise ModelError(
                f"pipeline {self.opened.pipeline_class}: made images of {tuple(images.shape)}; "
                f"expected {wanted}, and none is resized: set image_size to what it makes"
            )
        images = images.float()
        if not bool(torch.isfinite(images).all()):
            raise ModelError(
                f"pipeline {self.opened.pipeline_class}: pixels that are no numbers in "
                f"{self.opened.options.dtype}; set dtype: float32 or bfloat16"
            )
        scaled = images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
        return np.ascontiguousarray(scaled.cpu().numpy())

    def _words_of(self, batch: _Batch) -> Arguments:
        call = self.opened.call
        if call.words == "none":
            return {}
        texts = [self._texts(row, batch) for row in range(len(batch.seeds))]
        if call.words == "texts":
            return {"prompt": [own[0] for own, _, _ in texts]}
        pairs = [pair for own, other, _ in texts for pair in (own, other)]
        found = self._words.encode(pairs)
        encodings = [
            mix_encodings(found[2 * row], found[2 * row + 1], weight)
            for row, (_, _, weight) in enumerate(texts)
        ]
        return _stacked(encodings) | ({"negative_prompt": None} if call.words == "masked" else {})

    def _texts(self, row: int, batch: _Batch) -> tuple[tuple[str, str], tuple[str, str], float]:
        """Prompt and negative prompt of an image, those of the class that it is mixed with, and the
        weight of these."""
        assert batch.conditions is not None
        condition = batch.conditions[row]
        prompt, mix = condition.prompt, condition.mix
        own = ("", "") if prompt is None else (prompt.text, prompt.negative)
        if own[1] and not self.opened.call.negative and self._words.guidance["true_cfg_scale"] <= 1:
            raise ModelError(
                f"conditioning.prompt.negative {own[1][:80]!r}: {self.opened.pipeline_class} takes "
                "no negative prompt; leave it out"
            )
        if mix is None or mix.kind != "classes" or mix.prompt is None:
            return own, own, 0.0
        return own, (mix.prompt.text, own[1]), mix.weight

    def _shown(self, batch: _Batch) -> Arguments:
        """The pictures, and the region that is made anew."""
        call, size = self.opened.call, self.config.image_size
        if call.picture is None:
            return {}
        if batch.conditions is None:
            raise ModelError(f"pipeline {self.opened.pipeline_class}: needs a picture an image")
        factor = upscale_factor(self.opened)
        pictures = pictures_of(batch.conditions, image_size=size, factor=factor)
        shown_as: Any = as_tensor(pictures, signed=call.signed)
        if call.latents_picture:
            shown_as = self._latents(pictures, batch)
        given: Arguments = {call.picture: shown_as}
        if call.mask:
            given["mask_image"] = regions_of(batch.conditions, image_size=size)
        return given

    def _latents(self, pictures: Sequence[Picture], batch: _Batch) -> torch.Tensor:
        """Of the pictures, or between them and those that they are mixed with."""
        mixes = batch.mixes
        own = latents_of(self.pipe, as_tensor(pictures, signed=True))
        if all(mix is None or mix.kind != "images" for mix in mixes):
            return own
        others = [
            shown(mix.image, image_size=self.config.image_size)
            if mix is not None and mix.kind == "images"
            else picture
            for picture, mix in zip(pictures, mixes, strict=True)
        ]
        return mix_rows(own, latents_of(self.pipe, as_tensor(others, signed=True)), mixes)


def _stacked(encodings: Sequence[Encoding]) -> Arguments:
    return {name: torch.cat([each[name] for each in encodings]) for name in encodings[0]}
