"""The EDM objective: denoising score matching under log-normal noise levels.

Source: Karras et al. 2022 (arXiv 2206.00364), equation 8 and table 1; class dropout for guidance:
Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1.
"""

from __future__ import annotations

import copy

import torch

from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.interface import ModelConfig
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema


class EdmObjective:
    def __init__(self, config: ModelConfig, options: EdmObjectiveOptions, *, seed: int) -> None:
        self.options = options
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = EdmDenoiser(config, EdmNetwork.model_validate(config.network))
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
            self.network.parameters(), betas=(0.9, 0.99)
        )

    def step(
        self,
        real: torch.Tensor,
        class_ids: torch.Tensor,
        *,
        step: int,
        learning_rate: float,
        ema_decay: float,
        rng: torch.Generator,
    ) -> dict[str, float]:
        loss = self.losses(real, class_ids, rng=rng).mean()
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        update_ema(self.ema, self.network, ema_decay)
        return {"denoising": loss.item(), "gradient_norm": norm.item()}

    def losses(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, rng: torch.Generator
    ) -> torch.Tensor:
        """(N,): the weighted squared error of one draw of noise, a mean over pixels."""
        num, data = len(real), self.network.sigma_data
        dropped = torch.rand(num, generator=rng) < self.options.class_dropout
        class_ids = class_ids.masked_fill(dropped, self.network.null_class)
        log_sigma = torch.randn(num, generator=rng) * self.options.p_std + self.options.p_mean
        sigma = log_sigma.exp()
        noise = torch.randn(real.shape, generator=rng) * sigma.view(-1, 1, 1, 1)
        weight = (sigma**2 + data**2) / (sigma * data) ** 2
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            denoised = self.network(real + noise, sigma, class_ids)
        errors: torch.Tensor = (denoised - real).square().mean(dim=(1, 2, 3))
        return weight * errors

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"denoiser.{k}": v for k, v in self.network.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | flatten_optimizer("optimizer", self.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(take_prefix(state, "denoiser."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        load_optimizer("optimizer", self.optimizer, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> EdmSampler:
        height, width = self.config.image_size
        options = EdmOptions(num_inference_steps=self.options.evaluation_steps)
        shape = (self.config.channels, height, width)
        return EdmSampler(self.ema, batch_size=batch_size, image_shape=shape, options=options)
