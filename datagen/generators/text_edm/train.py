"""The objective of edm with texts: benchmarks/text_to_image.py drives it."""

from __future__ import annotations

import torch

from datagen.errors import TrainingError
from datagen.generators.edm.averaged import AveragedDenoiser
from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.edm.train import denoising_losses
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import descend
from datagen.generators.text_edm.encoder import check_encoder
from datagen.generators.text_edm.networks import WITH_TEXT, TextDenoiser
from datagen.generators.text_edm.options import TextEdmNetwork, TextEdmOptions
from datagen.generators.text_edm.sample import TextEdmSampler
from datagen.generators.weights import update_ema

_LEAST_STD = 1e-3  # others lie from 0.018 to 0.065


class TextEdmObjective(AveragedDenoiser):
    """EdmObjective whose Update.condition holds the texts' vectors, (N, text_dim)."""

    def __init__(
        self, config: ModelConfig, options: EdmObjectiveOptions, *, seed: int, device: str = "cpu"
    ) -> None:
        super().__init__(config, seed=seed, device=device)
        self.options = options
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))

    def build(self, config: ModelConfig) -> EdmDenoiser:
        return TextDenoiser(config, TextEdmNetwork.model_validate(config.network))

    def set_text_statistics(self, vectors: torch.Tensor) -> None:
        """Before the first step. vectors: (M, text_dim), of all texts that the training may use."""
        for network in (self.network, self.ema):
            assert isinstance(network, TextDenoiser)
            network.text_mean.copy_(vectors.mean(0))
            # Dimensions that never change: 0 in half precision, and divided by it.
            network.text_std.copy_(vectors.std(0).clamp(min=_LEAST_STD))

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        """As interface.Objective; class_ids say nothing here: the texts do."""
        if update.condition is None:
            raise TrainingError("generator text-edm: a step without the vectors of its texts")
        losses = denoising_losses(
            self.network,
            real,
            torch.full_like(class_ids, WITH_TEXT),
            update.condition,
            options=self.options,
            rng=update.rng,
        )
        loss = losses.mean()
        norm = descend(loss, self.optimizer, update, max_grad_norm=1.0)
        assert norm is not None
        update_ema(self.ema, self.network, update.ema_decay)
        return {"denoising": loss.item(), "gradient_norm": norm.item()}

    def ema_sampler(self, batch_size: int) -> TextEdmSampler:
        """It takes prompts, by sample_conditioned."""
        assert isinstance(self.ema, TextDenoiser)
        network = TextEdmNetwork.model_validate(self.config.network)
        return TextEdmSampler(
            self.ema,
            batch_size=batch_size,
            image_shape=self.image_shape,
            options=TextEdmOptions(num_inference_steps=self.options.evaluation_steps),
            encoder=check_encoder(network.encoder_sha256),
        )
