"""The spade objective: hinge loss, feature matching and a perceptual loss, and EMA weights.

Source: Park et al. 2019 (arXiv 1903.07291), appendix A; hinge loss: Lim & Ye 2017 (arXiv
1705.02894); feature matching: Wang et al. 2018 (arXiv 1711.11585), equation 4.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import autocast, descend, transferred
from datagen.generators.spade.networks import build_discriminators, build_generator
from datagen.generators.spade.options import SpadeNetwork, SpadeObjectiveOptions
from datagen.generators.spade.sample import SpadeSampler
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema

_BETAS = (0.0, 0.999)


class SpadeObjective:
    def __init__(
        self, config: ModelConfig, options: SpadeObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.options = options
        self.config = config
        network = SpadeNetwork.model_validate(config.network)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.generator = build_generator(config, network)
            self.discriminators = build_discriminators(config, options)
        self.generator.to(self.device)
        self.discriminators.to(self.device)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), betas=_BETAS)
        self.optimizer_d = torch.optim.Adam(self.discriminators.parameters(), betas=_BETAS)
        self.perceptual = None
        if options.perceptual:
            from datagen.generators.perceptual import PerceptualLoss

            self.perceptual = PerceptualLoss(self.device)

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        planes = update.condition
        assert planes is not None
        with self._autocast():
            latents = self._latents(len(real), update.rng)
            fake = self.generator(latents, class_ids, planes).float()
        losses = self._step_discriminators(real, fake.detach(), planes, update)
        losses |= self._step_generator(real, fake, planes, update)
        update_ema(self.ema, self.generator, update.ema_decay)
        return losses

    def _step_discriminators(
        self, real: torch.Tensor, fake: torch.Tensor, planes: torch.Tensor, update: Update
    ) -> dict[str, float]:
        with self._autocast():
            found = self.discriminators(torch.cat([real, fake]), planes.repeat(2, 1, 1, 1))
        logits = [features[-1].float().chunk(2) for features in found]
        loss = sum_of([F.relu(1 - a).mean() + F.relu(1 + b).mean() for a, b in logits])
        rate = update.learning_rate * self.options.discriminator_rate
        descend(loss / len(logits), self.optimizer_d, replace(update, learning_rate=rate))
        return {"discriminator": loss.item() / len(logits)}

    def _step_generator(
        self, real: torch.Tensor, fake: torch.Tensor, planes: torch.Tensor, update: Update
    ) -> dict[str, float]:
        """fake: with the gradients of the generator; its discriminators have moved since."""
        options = self.options
        self.discriminators.requires_grad_(False)
        with self._autocast():
            found = self.discriminators(torch.cat([real, fake]), planes.repeat(2, 1, 1, 1))
        logits = [features[-1].float().chunk(2)[1] for features in found]
        losses = {"generator": -sum_of([each.mean() for each in logits]) / len(logits)}
        loss = losses["generator"]
        if options.feature_matching:
            losses["feature_matching"] = feature_distance(found)
            loss = loss + options.feature_matching * losses["feature_matching"]
        if self.perceptual is not None:
            losses["perceptual"] = self.perceptual(fake, real)
            loss = loss + options.perceptual * losses["perceptual"]
        descend(loss, self.optimizer_g, update)
        self.discriminators.requires_grad_(True)
        return {name: value.item() for name, value in losses.items()}

    def _latents(self, num: int, rng: torch.Generator) -> torch.Tensor:
        return torch.randn(num, self.generator.latent_dim, generator=rng).to(self.device)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.options.precision)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        """The discriminators start afresh: they do not ship."""
        state = transferred(
            self.ema.state_dict(),
            weights,
            class_rows=class_rows,
            class_tensors=["embedding.weight"],
        )
        self.generator.load_state_dict(state)
        self.ema.load_state_dict(state)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"generator.{k}": v for k, v in self.generator.state_dict().items()}
            | {f"discriminators.{k}": v for k, v in self.discriminators.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | flatten_optimizer("optimizer_g", self.optimizer_g)
            | flatten_optimizer("optimizer_d", self.optimizer_d)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.generator.load_state_dict(take_prefix(state, "generator."))
        self.discriminators.load_state_dict(take_prefix(state, "discriminators."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        load_optimizer("optimizer_g", self.optimizer_g, state)
        load_optimizer("optimizer_d", self.optimizer_d, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> SpadeSampler:
        assert self.config.condition is not None
        return SpadeSampler(
            self.ema,
            batch_size=batch_size,
            image_size=self.config.image_size,
            condition=self.config.condition,
        )


def feature_distance(found: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """(): mean over scales and layers of how far the features of made images lie from those of the
    real ones. found: of each scale, (2 N, ...), the real images first; the last are the logits."""
    layers = [layer.float().chunk(2) for features in found for layer in features[:-1]]
    return sum_of([(fake - real.detach()).abs().mean() for real, fake in layers]) / len(layers)


def sum_of(values: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(values)).sum()
