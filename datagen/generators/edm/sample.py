"""Sampling from the diffusion model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.conditions import Condition, ConditionConfig, Mix
from datagen.generators.edm.mixed import OtherClasses, mixed_noise, other_classes, padded_mixes
from datagen.generators.edm.networks import EdmDenoiser, with_presence
from datagen.generators.edm.options import EdmOptions
from datagen.generators.edm.samplers import SAMPLERS, Denoise, karras_sigmas
from datagen.generators.encoding import encode_batch, refuse_unconditioned
from datagen.generators.interface import Images
from datagen.generators.weights import pad_batch, to_pixels_nhwc
from datagen.images import to_16_bits


class EdmSampler:
    """A denoiser and an ODE sampler at one batch shape, on the device of its weights."""

    def __init__(
        self,
        network: EdmDenoiser,
        *,
        batch_size: int,
        image_shape: tuple[int, int, int],
        options: EdmOptions,
        condition: ConditionConfig | None = None,
        bits: int = 8,
    ) -> None:
        """image_shape: (C, H, W). condition: what the network takes."""
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.options = options
        self.condition = condition
        self.bits = bits

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler. Raises ModelError if the
        network takes a condition."""
        refuse_unconditioned(self.condition)
        return to_pixels_nhwc(self.draw(seeds, class_ids), self.bits)[: len(seeds)]

    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.ConditionedSampler. Of an
        inpainted image all that lies outside the region is the picture's, exactly."""
        mixes = padded_mixes(conditions, self.batch_size)
        if self.condition is None:
            mixed = self.draw(seeds, class_ids, mixes=mixes)
            return to_pixels_nhwc(mixed, self.bits)[: len(seeds)]
        planes = encode_batch(
            conditions, self.condition, size=self.image_shape[1:], batch_size=self.batch_size
        )
        told = with_presence(torch.from_numpy(planes).to(self.device))
        drawn = self.draw(seeds, class_ids, told, mixes=mixes)
        images = to_pixels_nhwc(drawn, self.bits)[: len(seeds)]
        if self.condition.kind == "inpaint":
            for image, condition in zip(images, conditions, strict=True):
                assert condition.region is not None
                assert condition.image is not None
                picture = condition.image if self.bits == 8 else to_16_bits(condition.image)
                image[~condition.region] = picture[~condition.region]
        return images

    @torch.inference_mode()
    def draw(
        self,
        seeds: Sequence[int],
        class_ids: Sequence[int],
        planes: torch.Tensor | None = None,
        *,
        mixes: Sequence[Mix | None] | None = None,
    ) -> torch.Tensor:
        """Returns (batch_size, *image_shape) float32, the first of the seeds, the rest padding.
        planes: (batch_size, K, H, W), as the network takes them. mixes: (batch_size,)."""
        options = self.options
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        sigmas = karras_sigmas(
            options.num_inference_steps,
            sigma_min=options.sigma_min,
            sigma_max=options.sigma_max,
            rho=options.rho,
        )
        mixes = [None] * self.batch_size if mixes is None else mixes
        # Drawn on the CPU, whatever the device: the same seeds give the same noise.
        noise = torch.from_numpy(mixed_noise(padded_seeds, mixes, self.image_shape)).to(self.device)
        ids = torch.tensor(padded_ids, device=self.device)
        others = other_classes(padded_ids, mixes, self.device)
        denoise = self._guided(ids, planes, others)
        return SAMPLERS[options.sampler](denoise, noise * sigmas[0], sigmas)

    def _guided(
        self,
        class_ids: torch.Tensor,
        planes: torch.Tensor | None = None,
        others: OtherClasses | None = None,
    ) -> Denoise:
        """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, equation 6, with w + 1 as
        the scale), away from the null class and the null condition together. Two calls at the one
        batch shape, never one call at twice it: the shape decides an image's bits.
        others: a call more, where images are mixed with classes."""
        scale = self.options.guidance_scale
        null_ids = torch.full_like(class_ids, self.network.null_class)
        told = {} if planes is None else {"planes": planes}

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            sigmas = torch.full((len(x),), sigma, device=x.device)
            conditional: torch.Tensor = self.network(x, sigmas, class_ids, **told)
            if others is not None:
                other = self.network(x, sigmas, others.ids, **told)
                conditional = others.blend(conditional, other)
            if scale == 1:
                return conditional
            unconditional: torch.Tensor = self.network(x, sigmas, null_ids)
            return unconditional + scale * (conditional - unconditional)

        return denoise
