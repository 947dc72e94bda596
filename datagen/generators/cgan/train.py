"""The R3GAN objective: relativistic pairing loss with gradient penalties, and EMA weights.

Source: arXiv 2501.05441, equations 2 and 3. The penalties are lazy (Karras et al. 2020,
arXiv 1912.04958, appendix B): every `penalty_every` steps, scaled by as much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from datagen.generators.cgan.adaptation import AdaptiveProbability
from datagen.generators.cgan.augmentation import augment
from datagen.generators.cgan.networks import build_discriminator, build_generator
from datagen.generators.cgan.options import CganNetwork, CganObjectiveOptions
from datagen.generators.cgan.sample import CganSampler
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import autocast, descend, transferred
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema


class CganObjective:
    def __init__(
        self, config: ModelConfig, options: CganObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        network = CganNetwork.model_validate(config.network)
        self.options = options
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.generator = build_generator(config, network)
            self.discriminator = build_discriminator(config, network, options)
        self.generator.to(self.device)
        self.discriminator.to(self.device)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), betas=(0.0, 0.99))
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), betas=(0.0, 0.99))
        self.adaptive = AdaptiveProbability(
            options.augment_probability,
            target=options.augment_target,
            ramp_images=options.augment_ramp_images,
        )

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        losses = self._step_discriminator(real, class_ids, update)
        losses |= self._step_generator(real, class_ids, update)
        update_ema(self.ema, self.generator, update.ema_decay)
        return losses

    def _step_discriminator(
        self, real: torch.Tensor, class_ids: torch.Tensor, update: Update
    ) -> dict[str, float]:
        rng = update.rng
        with torch.no_grad(), self._autocast():
            fake = self.generator(self._latents(len(real), rng), class_ids).float()
        real, fake = self._augment(real, rng), self._augment(fake, rng)
        with self._autocast():
            logits_real, logits_fake = self._logits(real, fake, class_ids)
        loss = relativistic_loss(logits_real, logits_fake)
        losses = {"discriminator": loss.item()}
        if update.step % self.options.penalty_every == 0:
            penalty = self._penalty(real, fake, class_ids, rng)
            losses["penalty"] = penalty.item()
            loss = loss + 0.5 * self.options.gamma * self.options.penalty_every * penalty
        descend(loss, self.optimizer_d, update)
        if self.options.augment_target:
            losses["augment_probability"] = self.adaptive.value
            self.adaptive.observe(logits_real, logits_fake, update.average, update.num_processes)
        return losses

    def _step_generator(
        self, real: torch.Tensor, class_ids: torch.Tensor, update: Update
    ) -> dict[str, float]:
        rng = update.rng
        self.discriminator.requires_grad_(False)
        with self._autocast():
            fake = self.generator(self._latents(len(real), rng), class_ids)
            fake, real = self._augment(fake.float(), rng), self._augment(real, rng)
            logits_fake, logits_real = self._logits(fake, real, class_ids)
        loss = relativistic_loss(logits_fake, logits_real)
        descend(loss, self.optimizer_g, update)
        self.discriminator.requires_grad_(True)
        return {"generator": loss.item()}

    def _logits(
        self, first: torch.Tensor, second: torch.Tensor, class_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) float32 of each, in one call where the batch has no statistics."""
        if self.options.minibatch_stddev:
            a, b = self.discriminator(first, class_ids), self.discriminator(second, class_ids)
        else:
            both = self.discriminator(torch.cat([first, second]), class_ids.repeat(2))
            a, b = both.chunk(2)
        return a.float(), b.float()

    def _penalty(
        self,
        real: torch.Tensor,
        fake: torch.Tensor,
        class_ids: torch.Tensor,
        rng: torch.Generator,
    ) -> torch.Tensor:
        def logits_of(images: torch.Tensor) -> torch.Tensor:
            with self._autocast():
                logits: torch.Tensor = self.discriminator(images, class_ids).float()
            return logits

        if self.options.penalty == "wgan-gp":
            share = torch.rand(len(real), 1, 1, 1, generator=rng).to(self.device)
            return lipschitz_penalty(logits_of, real + share * (fake - real))
        penalty = gradient_penalty(logits_of, real)
        if self.options.penalty == "r1r2":
            penalty = penalty + gradient_penalty(logits_of, fake)
        return penalty

    def _augment(self, images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        return augment(images, self.options, probability=self.adaptive.value, rng=rng)

    def _latents(self, num: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(num, self.generator.latent_dim, generator=rng).to(self.device)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.options.precision)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        """The discriminator starts afresh: it does not ship."""
        state = transferred_generator(self.ema, weights, class_rows)
        self.generator.load_state_dict(state)
        self.ema.load_state_dict(state)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"generator.{k}": v for k, v in self.generator.state_dict().items()}
            | {f"discriminator.{k}": v for k, v in self.discriminator.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | ({"adaptive": self.adaptive.state()} if self.options.augment_target else {})
            | flatten_optimizer("optimizer_g", self.optimizer_g)
            | flatten_optimizer("optimizer_d", self.optimizer_d)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.generator.load_state_dict(take_prefix(state, "generator."))
        self.discriminator.load_state_dict(take_prefix(state, "discriminator."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        if self.options.augment_target:
            self.adaptive.load_state(state["adaptive"])
        load_optimizer("optimizer_g", self.optimizer_g, state)
        load_optimizer("optimizer_d", self.optimizer_d, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> CganSampler:
        return CganSampler(self.ema, batch_size=batch_size)


def transferred_generator(
    generator: nn.Module, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
) -> dict[str, torch.Tensor]:
    """See generators/optimization.py."""
    return transferred(
        generator.state_dict(),
        weights,
        class_rows=class_rows,
        class_tensors=["embedding.weight"],
    )


def relativistic_loss(logits: torch.Tensor, rivals: torch.Tensor) -> torch.Tensor:
    """Mean softplus of how far each rival lies above its pair (equation 2, with f(t) the softplus
    of -t). logits, rivals: (N,)."""
    return F.softplus(rivals - logits).mean()


def gradient_penalty(
    logits_of: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """Mean squared norm of the logits' gradient at the images: R1 on real, R2 on fake ones
    (equation 3); R1 alone: Mescheder et al. 2018 (arXiv 1801.04406), equation 9. logits_of:
    (N, C, H, W) => (N,)."""
    return _gradients(logits_of, images).square().sum(dim=(1, 2, 3)).mean()


def lipschitz_penalty(
    logits_of: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """Mean squared distance of the gradient's norm from 1, at mixes of real and fake images.

    Source: Gulrajani et al. 2017 (arXiv 1704.00028), equation 3, with its lambda as gamma / 2.
    """
    squared = _gradients(logits_of, images).square().sum(dim=(1, 2, 3))
    return ((squared + 1e-12).sqrt() - 1).square().mean()


def _gradients(
    logits_of: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    images = images.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(logits_of(images).sum(), images, create_graph=True)
    return gradient
