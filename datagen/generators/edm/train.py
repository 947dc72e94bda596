"""The EDM objective: denoising score matching under log-normal noise levels.

Source: Karras et al. 2022 (arXiv 2206.00364), equation 8 and table 1; class dropout for guidance:
Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1; augmentation: edm/augmentation.py.
"""

from __future__ import annotations

import torch

from datagen.generators.edm.augmentation import augment
from datagen.generators.edm.averaged import AveragedDenoiser
from datagen.generators.edm.options import EdmObjectiveOptions, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import autocast, descend
from datagen.generators.weights import update_ema


class EdmObjective(AveragedDenoiser):
    def __init__(
        self, config: ModelConfig, options: EdmObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        super().__init__(config, seed=seed, device=device)
        self.options = options
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        loss = self.losses(real, class_ids, rng=update.rng).mean()
        norm = descend(loss, self.optimizer, update, max_grad_norm=1.0)
        assert norm is not None
        update_ema(self.ema, self.network, update.ema_decay)
        return {"denoising": loss.item(), "gradient_norm": norm.item()}

    def losses(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, rng: torch.Generator
    ) -> torch.Tensor:
        """(N,): the weighted squared error of one draw of noise, a mean over pixels."""
        num, data = len(real), self.network.sigma_data
        dropped = torch.rand(num, generator=rng) < self.options.class_dropout
        class_ids = class_ids.masked_fill(dropped.to(self.device), self.network.null_class)
        real, augment_labels = self._augmented(real, rng=rng)
        log_sigma = torch.randn(num, generator=rng) * self.options.p_std + self.options.p_mean
        sigma = log_sigma.exp().to(self.device)
        noise = torch.randn(real.shape, generator=rng).to(self.device) * sigma.view(-1, 1, 1, 1)
        weight = (sigma**2 + data**2) / (sigma * data) ** 2
        with autocast(self.device, self.options.precision):
            denoised = self.network(real + noise, sigma, class_ids, augment_labels)
        errors: torch.Tensor = (denoised - real).square().mean(dim=(1, 2, 3))
        return weight * errors

    def _augmented(
        self, real: torch.Tensor, *, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The images and their labels. Off, it draws nothing: trainings from before it repeat."""
        options = self.options
        if options.augment_probability == 0:
            return real, None
        return augment(
            real,
            probability=options.augment_probability,
            transforms=options.augment_with,
            rng=rng,
        )

    def ema_sampler(self, batch_size: int) -> EdmSampler:
        options = EdmOptions(num_inference_steps=self.options.evaluation_steps)
        return EdmSampler(
            self.ema, batch_size=batch_size, image_shape=self.image_shape, options=options
        )
