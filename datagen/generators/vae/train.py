"""The VAE's objective: Gaussian likelihood of the best variance, KL with warm-up and free bits.

Source: Kingma & Welling 2014 (arXiv 1312.6114), equation 10. The variance is the batch's own mean
squared error (Rybkin et al. 2021, arXiv 2006.13202, the optimal variance): no weight to tune
between the two terms. Warm-up: Sonderby et al. 2016 (arXiv 1602.02282).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch

from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import autocast, descend, transferred
from datagen.generators.vae.networks import build_vae
from datagen.generators.vae.options import VaeNetwork, VaeObjectiveOptions
from datagen.generators.vae.prior import ClassMoments
from datagen.generators.vae.sample import VaeSampler
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema

# Of rounding to 255 steps over [-1, 1]: no likelihood is sharper than the images are.
_MIN_VARIANCE = (2 / 255) ** 2 / 12
_CLASS_TENSORS = ("embedding.weight", "prior_mean", "prior_covariance")


class VaeObjective:
    def __init__(
        self, config: ModelConfig, options: VaeObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.options = options
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_vae(config, VaeNetwork.model_validate(config.network))
        self.network = network.to(self.device)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))
        self.moments = ClassMoments(self.ema.prior_mean, self.ema.prior_covariance)

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        noise = torch.randn(len(real), self.network.latent_dim, generator=update.rng)
        with autocast(self.device, self.options.precision):
            mean, log_variance = self.network.encode(real, class_ids)
            latents = mean + (log_variance / 2).exp() * noise.to(self.device)
            decoded = self.network(latents, class_ids).float()
        num_values = real[0].numel()
        reconstruction = gaussian_nats(decoded, real)
        divergence = divergence_nats(mean, log_variance, free=self.options.free_bits) / num_values
        loss = reconstruction + self._kl_weight(update.images_seen) * divergence
        norm = descend(loss, self.optimizer, update, max_grad_norm=1.0)
        assert norm is not None
        update_ema(self.ema, self.network, update.ema_decay)
        self.moments.observe(
            mean.detach(),
            log_variance.detach(),
            class_ids,
            decay=update.ema_decay,
            average=update.average,
        )
        return {
            "reconstruction": reconstruction.item(),
            "divergence": divergence.item(),
            "gradient_norm": norm.item(),
        }

    def _kl_weight(self, images_seen: int) -> float:
        warmup = self.options.kl_warmup_images
        return self.options.kl_weight * (min(1.0, images_seen / warmup) if warmup else 1.0)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        state = transferred(
            self.ema.state_dict(), weights, class_rows=class_rows, class_tensors=_CLASS_TENSORS
        )
        self.network.load_state_dict(state)
        self.ema.load_state_dict(state)
        self.moments = ClassMoments(self.ema.prior_mean, self.ema.prior_covariance)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"vae.{k}": v for k, v in self.network.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | {f"moments.{k}": v for k, v in self.moments.sums.items()}
            | flatten_optimizer("optimizer", self.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(take_prefix(state, "vae."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        for name, value in take_prefix(state, "moments.").items():
            self.moments.sums[name].copy_(value)
        load_optimizer("optimizer", self.optimizer, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        """Encoder too: a training that starts from these needs it."""
        self._fit_prior()
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> VaeSampler:
        self._fit_prior()
        return VaeSampler(self.ema, batch_size=batch_size)

    def _fit_prior(self) -> None:
        for buffer, fitted in zip(
            (self.ema.prior_mean, self.ema.prior_covariance), self.moments.fit(), strict=True
        ):
            buffer.copy_(fitted)


def gaussian_nats(decoded: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """(): nats for each value of the images, under the variance that makes them fewest.

    decoded, real: (N, C, H, W). Source: arXiv 2006.13202.
    """
    squared = (decoded - real).square().mean()
    variance = squared.detach().clamp_min(_MIN_VARIANCE)
    return 0.5 * (squared / variance + (2 * math.pi * variance).log())


def divergence_nats(mean: torch.Tensor, log_variance: torch.Tensor, *, free: float) -> torch.Tensor:
    """(): KL of the posteriors from the standard normal, nats for an image: a sum over dimensions,
    of which each costs no less than `free`.

    mean, log_variance: (N, D). Source: arXiv 1312.6114, appendix B; free bits: Kingma et al. 2016
    (arXiv 1606.04934).
    """
    each = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
    return each.mean(0).clamp_min(free).sum()
