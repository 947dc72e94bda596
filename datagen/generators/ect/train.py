"""Consistency tuning: a trained edm learns to say at every noise level what it says at a slightly
lower one, until one call does the work of many.

Source: Geng et al. 2024, "Consistency models made easy" (ECT, arXiv 2406.14548): sections 3.2 and
3.3 for the mapping and weighting functions, table of the training settings in the appendix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.resnet import ResnetBlock2D

from datagen.generators.ect.options import EctObjectiveOptions, EctOptions
from datagen.generators.ect.sample import EctSampler
from datagen.generators.edm.averaged import AveragedDenoiser
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import autocast, descend
from datagen.generators.weights import update_ema

# Below the square of any real difference: the root of an exact 0 has no gradient.
_SMALLEST_SQUARE = 1e-12


def stage_of(options: EctObjectiveOptions, images_seen: int) -> int:
    return min(images_seen // options.doubling_images, options.num_stages - 1)


def lower_level(t: torch.Tensor, stage: int, options: EctObjectiveOptions) -> torch.Tensor:
    """r < t, both (N,): the closer to t, the later the stage; 0 where t is small and the stage
    early. Source: arXiv 2406.14548, the mapping function p(r | t) of section 3.2."""
    n = 1 + options.k * torch.sigmoid(-options.b * t)
    return (t * (1 - n / options.q ** (stage + 1))).clamp_min(0)


class EctObjective(AveragedDenoiser):
    """Starts from the weights of an edm, by init_from."""

    def __init__(
        self, config: ModelConfig, options: EctObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        super().__init__(config, seed=seed, device=device)
        self.options = options
        for module in self.network.modules():
            if isinstance(module, ResnetBlock2D):
                module.dropout.p = options.dropout
        self.optimizer = torch.optim.RAdam(self.network.parameters())

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        stage = stage_of(self.options, update.images_seen)
        loss = self.losses(real, class_ids, stage=stage, rng=update.rng).mean()
        # Weights of 1 / (t - r) spread over decades: no clipping unless the recipe asks for it.
        descend(loss, self.optimizer, update)
        update_ema(self.ema, self.network, update.ema_decay)
        return {"consistency": loss.item()}

    def losses(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, stage: int, rng: torch.Generator
    ) -> torch.Tensor:
        """(N,): the distance of the estimates at levels t and r of one draw of noise, over t - r.

        The target is the network's own, at the weights of this step; at r = 0, the real image.
        """
        options = self.options
        log_t = torch.randn(len(real), generator=rng) * options.p_std + options.p_mean
        t = log_t.exp().to(self.device)
        r = lower_level(t, stage, options)
        noise = torch.randn(real.shape, generator=rng).to(self.device)
        mask_seed = int(torch.randint(2**31, (1,), generator=rng))
        with autocast(self.device, options.precision):
            with torch.no_grad(), self._dropout_masks(mask_seed):
                target = self._estimate(real, noise, r.clamp_min(1e-6), class_ids)
            with self._dropout_masks(mask_seed):
                estimate = self._estimate(real, noise, t, class_ids)
        target = torch.where(r.view(-1, 1, 1, 1) > 0, target, real)
        squares = (estimate - target).square().sum(dim=(1, 2, 3))
        c = options.huber_c
        distance: torch.Tensor = (squares + max(c**2, _SMALLEST_SQUARE)).sqrt() - c
        return distance / (t - r)

    def _estimate(
        self, real: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, class_ids: torch.Tensor
    ) -> torch.Tensor:
        out: torch.Tensor = self.network(real + sigma.view(-1, 1, 1, 1) * noise, sigma, class_ids)
        return out

    @contextmanager
    def _dropout_masks(self, seed: int) -> Iterator[None]:
        """Dropout draws from the global generators: inside, from this seed."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield

    def ema_sampler(self, batch_size: int) -> EctSampler:
        options = EctOptions(num_inference_steps=self.options.evaluation_steps)
        return EctSampler(
            self.ema, batch_size=batch_size, image_shape=self.image_shape, options=options
        )
