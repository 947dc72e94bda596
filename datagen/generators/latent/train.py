"""The objective of latent-edm: an autoencoder first, then edm on its latents.

Which of the two a step trains is a function of the images seen. Source: Rombach et al. 2022
(arXiv 2112.10752), sections 3.1 and 3.2.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch

from datagen.errors import TrainingError
from datagen.generators.edm.options import EdmOptions
from datagen.generators.edm.train import augmented, denoising_losses
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.latent.autoencoding import (
    adaptive_weight,
    discrimination,
    divergence,
    reconstruction,
)
from datagen.generators.latent.networks import LatentDiffusion, patch_discriminator
from datagen.generators.latent.options import LatentNetwork, LatentObjectiveOptions
from datagen.generators.latent.sample import LatentSampler
from datagen.generators.optimization import autocast, descend, transferred
from datagen.generators.perceptual import PerceptualLoss
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema

# Share of the denoiser's images that its average looks back on, at most.
_EMA_RAMPUP = 0.05
_BETAS = (0.9, 0.99)


class LatentObjective:
    """ema's autoencoder is what the denoiser learns from and what ships."""

    def __init__(
        self, config: ModelConfig, options: LatentObjectiveOptions, *, seed: int, device: str
    ) -> None:
        self.device = torch.device(device)
        self.options = options
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = LatentDiffusion(config, LatentNetwork.model_validate(config.network))
            discriminator = patch_discriminator(config.channels)
        self.model, self.discriminator = model.to(self.device), discriminator.to(self.device)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        # Beside the modules of _modules: what it was trained to is no state of this training.
        compares_features = options.perceptual_weight > 0 and options.autoencoder_images > 0
        self.perceptual = PerceptualLoss(self.device) if compares_features else None
        self.optimizers = {
            name: torch.optim.Adam(module.parameters(), betas=_BETAS)
            for name, module in (
                ("autoencoder", self.model.autoencoder),
                ("discriminator", self.discriminator),
                ("denoiser", self.model.denoiser),
            )
        }
        channels = len(self.ema.latent_mean)
        # Number, sum and sum of squares of each channel's latents.
        self.has_autoencoder = False
        self.moments = torch.zeros(3, channels, dtype=torch.float64, device=self.device)

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        options = self.options
        if options.autoencoder_images == 0 and not self.has_autoencoder:
            raise TrainingError(
                "objective.autoencoder_images: 0 needs a model to start from, which brings an "
                "autoencoder: name it in init, or give it images to learn from"
            )
        if update.images_seen < options.autoencoder_images:
            return self._train_autoencoder(real, update)
        since = update.images_seen - options.autoencoder_images
        if since < options.statistics_images:
            return self._measure(real, update)
        return self._train_denoiser(real, class_ids, update, since - options.statistics_images)

    def _train_autoencoder(self, real: torch.Tensor, update: Update) -> dict[str, float]:
        options = self.options
        with autocast(self.device, options.precision):
            mean, log_variance = self.model.posterior(real)
            decoded = self.model.decode(_drawn(mean, log_variance, rng=update.rng))
        error = reconstruction(decoded, real)
        losses = {"reconstruction": error.item()}
        if self.perceptual is not None:
            distance = self.perceptual(decoded, real)
            error = error + options.perceptual_weight * distance
            losses["perceptual"] = distance.item()
        loss = error + options.kl_weight * divergence(mean, log_variance)
        compete = 2 * update.images_seen >= options.autoencoder_images
        compete = compete and options.adversarial_weight > 0
        if compete:
            with autocast(self.device, options.precision):
                fooled = -self.discriminator(decoded).float().mean()
            last_layer = self.model.autoencoder.decoder.conv_out.weight
            weight = options.adversarial_weight * adaptive_weight(error, fooled, last_layer)
            loss = loss + weight * fooled
        descend(loss, self.optimizers["autoencoder"], update, max_grad_norm=1.0)
        update_ema(self.ema.autoencoder, self.model.autoencoder, update.ema_decay)
        if compete:
            losses["discrimination"] = self._train_discriminator(real, decoded.detach(), update)
        return losses

    def _train_discriminator(
        self, real: torch.Tensor, decoded: torch.Tensor, update: Update
    ) -> float:
        with autocast(self.device, self.options.precision):
            scores = self.discriminator(real).float(), self.discriminator(decoded).float()
        loss = discrimination(*scores)
        descend(loss, self.optimizers["discriminator"], update, max_grad_norm=1.0)
        return loss.item()

    @torch.no_grad()
    def _measure(self, real: torch.Tensor, update: Update) -> dict[str, float]:
        """The latents' mean and deviation so far; the autoencoder no longer changes."""
        latents = _drawn(*self._posterior(real), rng=update.rng).double()
        count = torch.full_like(latents[:, :, 0, 0], latents[0, 0].numel()).sum(0)
        found = torch.stack([count, latents.sum((0, 2, 3)), latents.square().sum((0, 2, 3))])
        if update.average is not None:
            update.average([found])
        self.moments += found
        mean = self.moments[1] / self.moments[0]
        variance = self.moments[2] / self.moments[0] - mean.square()
        for model in (self.model, self.ema):
            model.latent_mean.copy_(mean)
            model.latent_std.copy_(variance.clamp_min(1e-12).sqrt())
        return {"latent_std": float(self.ema.latent_std.mean())}

    def _train_denoiser(
        self, real: torch.Tensor, class_ids: torch.Tensor, update: Update, images_seen: int
    ) -> dict[str, float]:
        """images_seen: by the denoiser."""
        real, augment_labels = augmented(real, self.options, rng=update.rng)
        with torch.no_grad():
            latents = _drawn(*self._posterior(real), rng=update.rng)
            clean = self.ema.normalized(latents)
        losses = denoising_losses(
            self.model.denoiser,
            clean,
            class_ids,
            augment_labels,
            options=self.options,
            rng=update.rng,
        )
        loss = losses.mean()
        norm = descend(loss, self.optimizers["denoiser"], update, max_grad_norm=1.0)
        assert norm is not None
        # The loop's average counts the autoencoder's images too: it would keep the first weights.
        rampup = 0.5 ** (update.num_processes * len(real) / max(_EMA_RAMPUP * images_seen, 1e-8))
        update_ema(self.ema.denoiser, self.model.denoiser, min(update.ema_decay, rampup))
        return {"denoising": loss.item(), "gradient_norm": norm.item()}

    def _posterior(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with autocast(self.device, self.options.precision):
            return self.ema.posterior(real)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        table = f"denoiser.{self.model.denoiser.class_table}"
        null_row = len(weights[table]) - 1 if table in weights else None
        state = transferred(
            self.ema.state_dict(),
            weights,
            class_rows=[*class_rows, null_row],
            class_tensors=[table],
        )
        self.model.load_state_dict(state)
        self.ema.load_state_dict(state)
        self.has_autoencoder = True

    def state(self) -> dict[str, torch.Tensor]:
        flat = {"moments": self.moments}
        for name, module in self._modules().items():
            flat |= {f"{name}.{k}": v for k, v in module.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            flat |= flatten_optimizer(f"optimizer.{name}", optimizer)
        return flat

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.moments.copy_(state["moments"])
        for name, module in self._modules().items():
            module.load_state_dict(take_prefix(state, f"{name}."))
        for name, optimizer in self.optimizers.items():
            load_optimizer(f"optimizer.{name}", optimizer, state)

    def _modules(self) -> dict[str, torch.nn.Module]:
        return {"model": self.model, "discriminator": self.discriminator, "ema": self.ema}

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> LatentSampler:
        options = EdmOptions(num_inference_steps=self.options.evaluation_steps)
        return LatentSampler(self.ema, batch_size=batch_size, options=options)


def _drawn(mean: torch.Tensor, log_variance: torch.Tensor, *, rng: torch.Generator) -> torch.Tensor:
    """One draw of the posterior (arXiv 1312.6114, equation 10)."""
    noise = torch.randn(mean.shape, generator=rng).to(mean.device)
    return mean + (log_variance / 2).exp() * noise
