"""The objective: predict the noise of noised latents, by low-rank layers of the UNet alone.

Source: Ho et al. 2020 (arXiv 2006.11239), equation 14; v-prediction: Salimans & Ho 2022 (arXiv
2202.00512), section 4; weights: Hang et al. 2023, "Min-SNR" (arXiv 2303.09556), section 3.4; class
dropout: Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from datagen.errors import ModelError
from datagen.generators.interface import Images, ModelConfig, Update
from datagen.generators.lora.networks import (
    Adapter,
    TextToImage,
    add_adapter,
    copy_into,
    holding,
    load_pipeline,
)
from datagen.generators.lora.options import LoraNetwork, LoraObjectiveOptions, LoraOptions
from datagen.generators.lora.pipeline_files import PipelineFiles
from datagen.generators.lora.sample import LoraSampler
from datagen.generators.optimization import autocast, descend, transferred
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix

_MAX_EVALUATION_BATCH = 8
_MAX_GRAD_NORM = 1.0


class LoraObjective:
    def __init__(
        self,
        config: ModelConfig,
        options: LoraObjectiveOptions,
        files: PipelineFiles,
        *,
        seed: int,
        device: str = "cpu",
    ) -> None:
        network = LoraNetwork.model_validate(config.network)
        self.config = config
        self.options = options
        self.files = files
        self.device = torch.device(device)
        prompts = network.class_prompts(config.class_names)
        self.parts: TextToImage = load_pipeline(
            files, prompts, image_size=config.image_size, device=device
        )
        self.adapter: Adapter = add_adapter(self.parts.unet, network, seed=seed)
        # The pipeline is held once: the moving average is of the added layers alone.
        self.average = {name: p.detach().clone() for name, p in self.adapter.items()}
        if options.gradient_checkpointing:
            self.parts.unet.enable_gradient_checkpointing()
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.adapter.values(), weight_decay=options.weight_decay
        )

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        self.parts.unet.train(self.options.gradient_checkpointing)
        loss = self.losses(real, class_ids, rng=update.rng).mean()
        norm = descend(loss, self.optimizer, update, max_grad_norm=_MAX_GRAD_NORM)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.values()), list(self.adapter.values()), 1 - update.ema_decay
            )
        return {"denoising": loss.item()} | ({} if norm is None else {"gradient_norm": norm.item()})

    def losses(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, rng: torch.Generator
    ) -> torch.Tensor:
        """(N,): the weighted squared error of one draw of noise, a mean over the latents."""
        num = len(real)
        latents = self._encode(real, rng)
        dropped = torch.rand(num, generator=rng) < self.options.class_dropout
        rows = class_ids.masked_fill(dropped.to(self.device), self.parts.prompts.null_class)
        timesteps = torch.randint(len(self.parts.alphas), (num,), generator=rng)
        noise = torch.randn(latents.shape, generator=rng).to(self.device)
        alpha = self.parts.alphas[timesteps].to(self.device)
        signal, spread = (part.sqrt().view(-1, 1, 1, 1) for part in (alpha, 1 - alpha))
        noisy = signal * latents + spread * noise
        target = signal * noise - spread * latents if self.parts.is_velocity else noise
        condition = self.parts.prompts.of(rows)
        with autocast(self.device, self.options.precision):
            predicted = self.parts.unet(
                noisy.contiguous(memory_format=torch.channels_last),
                timesteps.to(self.device),
                condition.hidden,
                added_cond_kwargs=condition.added,
                return_dict=False,
            )[0]
        errors: torch.Tensor = (predicted.float() - target).square().mean(dim=(1, 2, 3))
        return self._weights(alpha) * errors

    def _encode(self, real: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """(N, C, H, W) => (N, c, h, w): a draw from the VAE's posterior. Grey becomes RGB."""
        with torch.no_grad():
            colours = real.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
            posterior = self.parts.vae.encode(colours).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=rng).to(self.device)
            latents: torch.Tensor = posterior.mean + posterior.std * noise
            return latents * self.parts.scaling_factor

    def _weights(self, alpha: torch.Tensor) -> torch.Tensor:
        """(N,): min(SNR, gamma) over SNR, or over SNR + 1 where v is predicted."""
        gamma = self.options.min_snr_gamma
        if gamma is None:
            return torch.ones_like(alpha)
        snr = alpha / (1 - alpha)
        if self.parts.is_velocity:
            return snr.clamp(max=gamma) / (snr + 1)
        return (gamma / snr).clamp(max=1)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        """Classes are prompts, so that new ones need nothing. The weights do not say which pipeline
        they were tuned on: those of another one of the same sizes are a poor start, no error."""
        state = transferred(self.adapter, weights, class_rows=class_rows, class_tensors=())
        copy_into(self.adapter, state)
        copy_into(self.average, state)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"adapter.{name}": parameter.detach() for name, parameter in self.adapter.items()}
            | {f"average.{name}": tensor for name, tensor in self.average.items()}
            | {"pipeline_sha256": self._pipeline_digest()}
            | flatten_optimizer("optimizer", self.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Raises ModelError if it belongs to another pipeline."""
        if not torch.equal(state["pipeline_sha256"].cpu(), self._pipeline_digest()):
            raise ModelError(
                f"pipeline {self.files.folder}: the checkpoint was made on another pipeline; put "
                "that one there, or train into another folder"
            )
        copy_into(self.adapter, take_prefix(state, "adapter."))
        copy_into(self.average, take_prefix(state, "average."))
        load_optimizer("optimizer", self.optimizer, state)

    def _pipeline_digest(self) -> torch.Tensor:
        return torch.tensor(list(bytes.fromhex(self.files.sha256)), dtype=torch.uint8)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.average)

    def ema_sampler(self, batch_size: int) -> _AverageSampler:
        """batch_size: lowered to what fits beside the training."""
        options = LoraOptions(num_inference_steps=self.options.evaluation_steps)
        sampler = LoraSampler(
            self.parts,
            batch_size=min(batch_size, _MAX_EVALUATION_BATCH),
            image_shape=(self.config.channels, *self.config.image_size),
            latent_shape=self.files.configs.latent_shape(self.config.image_size),
            options=options,
        )
        return _AverageSampler(sampler, self.adapter, self.average)


class _AverageSampler:
    """Samples with the moving average in the place of the layers in training."""

    def __init__(
        self, sampler: LoraSampler, adapter: Adapter, average: Mapping[str, torch.Tensor]
    ) -> None:
        self.sampler = sampler
        self.adapter = adapter
        self.average = average
        self.batch_size = sampler.batch_size

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        with holding(self.adapter, self.average):
            return self.sampler.sample(seeds, class_ids)
