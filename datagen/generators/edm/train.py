"""The EDM objective: denoising score matching under log-normal noise levels.

Source: Karras et al. 2022 (arXiv 2206.00364), equation 8 and table 1; class dropout for guidance:
Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1; augmentation: edm/augmentation.py.
"""

from __future__ import annotations

import torch

from datagen.generators.edm.augmentation import augment
from datagen.generators.edm.averaged import AveragedDenoiser
from datagen.generators.edm.networks import EdmDenoiser, with_presence
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
        losses = self.losses(real, class_ids, rng=update.rng, planes=update.condition)
        loss = losses.mean()
        norm = descend(loss, self.optimizer, update, max_grad_norm=1.0)
        assert norm is not None
        update_ema(self.ema, self.network, update.ema_decay)
        return {"denoising": loss.item(), "gradient_norm": norm.item()}

    def losses(
        self,
        real: torch.Tensor,
        class_ids: torch.Tensor,
        *,
        rng: torch.Generator,
        planes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(N,). planes: (N, K, H, W), what the images are conditioned on: augmentations move them
        with their images."""
        together = real if planes is None else torch.cat([real, planes], dim=1)
        together, augment_labels = augmented(together, self.options, rng=rng)
        if planes is not None:
            planes = together[:, real.shape[1] :]
        return denoising_losses(
            self.network,
            together[:, : real.shape[1]],
            class_ids,
            augment_labels,
            options=self.options,
            rng=rng,
            planes=planes,
        )

    def ema_sampler(self, batch_size: int) -> EdmSampler:
        options = EdmOptions(num_inference_steps=self.options.evaluation_steps)
        return EdmSampler(
            self.ema,
            batch_size=batch_size,
            image_shape=self.image_shape,
            options=options,
            condition=self.config.condition,
        )


def augmented(
    real: torch.Tensor, options: EdmObjectiveOptions, *, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The images and their labels. Off, it draws nothing: trainings from before it repeat."""
    if options.augment_probability == 0:
        return real, None
    return augment(
        real,
        probability=options.augment_probability,
        transforms=options.augment_with,
        rng=rng,
    )


def denoising_losses(
    network: EdmDenoiser,
    clean: torch.Tensor,
    class_ids: torch.Tensor,
    augment_labels: torch.Tensor | None,
    *,
    options: EdmObjectiveOptions,
    rng: torch.Generator,
    planes: torch.Tensor | None = None,
) -> torch.Tensor:
    """(N,): the weighted squared error of one draw of noise, a mean over values.

    clean: (N, C, H, W) float32, of standard deviation network.sigma_data. rng: on the CPU.
    planes: (N, K, H, W) float32; None draws nothing more, so that trainings from before there were
    any repeat.
    """
    num, data, device = len(clean), network.sigma_data, clean.device
    dropped = torch.rand(num, generator=rng) < options.class_dropout
    class_ids = class_ids.masked_fill(dropped.to(device), network.null_class)
    log_sigma = torch.randn(num, generator=rng) * options.p_std + options.p_mean
    sigma = log_sigma.exp().to(device)
    noise = torch.randn(clean.shape, generator=rng).to(device) * sigma.view(-1, 1, 1, 1)
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    told = None
    if planes is not None:
        draws = torch.rand(num, generator=rng)
        absent = dropped if options.drop_together else draws < options.condition_dropout
        told = with_presence(planes, ~absent.to(device))
    with autocast(device, options.precision):
        denoised = network(clean + noise, sigma, class_ids, augment_labels, told)
    errors: torch.Tensor = (denoised - clean).square().mean(dim=(1, 2, 3))
    return weight * errors
