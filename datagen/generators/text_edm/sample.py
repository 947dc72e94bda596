"""Sampling from the diffusion model that reads prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from datagen import mixing
from datagen.conditions import Condition
from datagen.errors import ModelError
from datagen.generators.edm.samplers import SAMPLERS, Denoise, karras_sigmas
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.text_edm.encoder import TEXT_DIM, encode_texts
from datagen.generators.text_edm.networks import NULL_TEXT, WITH_TEXT, TextDenoiser
from datagen.generators.text_edm.options import TextEdmOptions
from datagen.generators.weights import pad_batch, to_pixels_nhwc


@dataclass(frozen=True)
class _Told:
    """What the network is told of a batch. texts, negatives: (N, TEXT_DIM). away_from: (N,), of the
    network's ids: whether an image is led away from its negative or from the null text."""

    texts: torch.Tensor
    negatives: torch.Tensor
    away_from: torch.Tensor


class TextEdmSampler:
    """A denoiser and an ODE sampler at one batch shape, on the device of its weights; prompts are
    encoded on the CPU, whatever the device."""

    def __init__(
        self,
        network: TextDenoiser,
        *,
        batch_size: int,
        image_shape: tuple[int, int, int],
        options: TextEdmOptions,
        encoder: Path,
        bits: int = 8,
    ) -> None:
        """image_shape: (C, H, W). encoder: the folder of its files."""
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.options = options
        self.encoder = encoder
        self.bits = bits

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Raises ModelError: without a prompt there is nothing to draw."""
        raise ModelError(
            "generator text-edm makes images from prompts; give the recipe "
            'conditioning: {prompt: {template: "a {class}"}}'
        )

    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.ConditionedSampler. Raises
        ModelError for a condition without a prompt, or one that is too long."""
        padded_seeds, _ = pad_batch(seeds, class_ids, self.batch_size)
        padded = [*conditions, *[conditions[0]] * (self.batch_size - len(conditions))]
        images = self.draw(self._noise(padded_seeds, padded), self._told(padded))
        return to_pixels_nhwc(images, self.bits)[: len(seeds)]

    @torch.inference_mode()
    def draw(self, noise: torch.Tensor, told: _Told) -> torch.Tensor:
        """noise: (batch_size, C, H, W), standard normal. Returns images of this shape, float32."""
        options = self.options
        sigmas = karras_sigmas(
            options.num_inference_steps,
            sigma_min=options.sigma_min,
            sigma_max=options.sigma_max,
            rho=options.rho,
        )
        return SAMPLERS[options.sampler](self._guided(told), noise * sigmas[0], sigmas)

    def _guided(self, told: _Told) -> Denoise:
        """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, equation 6, with w + 1 as
        the scale), away from the negative prompt where there is one. Two calls at the one batch
        shape, never one call at twice it: the shape decides an image's bits."""
        scale = self.options.guidance_scale
        with_text = torch.full_like(told.away_from, WITH_TEXT)

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            sigmas = torch.full((len(x),), sigma, device=x.device)
            conditional: torch.Tensor = self.network(x, sigmas, with_text, told.texts)
            if scale == 1:
                return conditional
            away: torch.Tensor = self.network(x, sigmas, told.away_from, told.negatives)
            return away + scale * (conditional - away)

        return denoise

    def _noise(self, seeds: Sequence[int], conditions: Sequence[Condition]) -> torch.Tensor:
        """Drawn on the CPU, whatever the device: the same seeds give the same noise."""
        noise = torch.from_numpy(seeded_normal(seeds, self.image_shape))
        for row, condition in zip(noise, conditions, strict=True):
            mix = condition.mix
            if mix is not None and mix.kind == "seeds":
                other = torch.from_numpy(seeded_normal([mix.seed], self.image_shape))[0]
                row.copy_(slerp(row.clone(), other, mix.weight))
        return noise.to(self.device)

    def _told(self, conditions: Sequence[Condition]) -> _Told:
        texts, negatives, away_from = [], [], []
        for condition in conditions:
            if condition.prompt is None:
                raise ModelError(
                    "generator text-edm: an image without a prompt: give the recipe one"
                )
            text = condition.prompt.text
            vector = encode_texts(self.encoder, [text])[0]
            mix = condition.mix
            if mix is not None and mix.prompt is not None:
                end = encode_texts(self.encoder, [mix.prompt.text])[0]
                vector = slerp(vector, end, mix.weight)
            texts.append(vector)
            negative = condition.prompt.negative
            negatives.append(
                encode_texts(self.encoder, [negative])[0] if negative else torch.zeros(TEXT_DIM)
            )
            away_from.append(WITH_TEXT if negative else NULL_TEXT)
        return _Told(
            texts=torch.stack(texts).to(self.device),
            negatives=torch.stack(negatives).to(self.device),
            away_from=torch.tensor(away_from, device=self.device),
        )


def slerp(start: torch.Tensor, end: torch.Tensor, weight: float) -> torch.Tensor:
    """mixing.slerp of tensors on the CPU. Returns float32."""
    return torch.from_numpy(mixing.slerp(start.numpy(), end.numpy(), weight))
