"""DP-SGD with Opacus, around the objective of a family. Called by plan.py.

Each example's gradient is clipped, the sum over a Poisson sample is noised (Abadi et al. 2016,
arXiv 1607.00133, algorithm 1), and an example's loss is a mean over several draws of the
objective's own randomness: noise multiplicity, Dockhorn et al. 2023 (DPDM, arXiv 2210.09929),
section 3.2.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from datagen.errors import TrainingError
from datagen.generators.interface import PerExampleObjective, Sampler, Update
from datagen.generators.weights import (
    flatten_optimizer,
    load_optimizer,
    take_prefix,
    update_ema,
)
from datagen.training.privacy.audit import Audit, Canaries
from datagen.training.privacy.secure import secure_normal

# Gradients of so many (example, draw) pairs are held at once.
_ROWS_AT_ONCE = 128
_GRADIENT_TOLERANCE = 1e-3


class PerExampleGradients(GradSampleModule):  # type: ignore[misc]
    """Opacus 1.6 takes patches of convolutions as if memory were in NCHW order: on tensors of other
    strides, channels-last ones or those that attention leaves, its gradients were wrong."""

    def rearrange_grad_samples(
        self,
        *,
        module: nn.Module,
        backprops: torch.Tensor,
        loss_reduction: str,
        batch_first: bool,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        activations, backprops = super().rearrange_grad_samples(
            module=module,
            backprops=backprops,
            loss_reduction=loss_reduction,
            batch_first=batch_first,
        )
        return [each.contiguous() for each in activations], backprops.contiguous()


class AuditedOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus's optimizer with noise that cannot be predicted; the canaries' sums are noised by the
    same call."""

    canaries: Canaries
    sample_rate: float

    def add_noise(self) -> None:
        for parameter in self.params:
            parameter.grad = self._noised(parameter.summed_grad).view_as(parameter)
        part = self.canaries.contribution(sample_rate=self.sample_rate, norm=self.max_grad_norm)
        self.canaries.observe(self._noised(part))

    def _noised(self, total: torch.Tensor) -> torch.Tensor:
        std = self.noise_multiplier * self.max_grad_norm
        return total + secure_normal(tuple(total.shape), std=std)


class DpSgdObjective:
    """An Objective whose every step is one noised sum. Its state holds nothing that was not noised,
    apart from the canaries, who are nobody."""

    def __init__(
        self,
        inner: PerExampleObjective,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        noise_multiplicity: int,
        sample_rate: float,
        expected_batch_size: int,
        num_canaries: int,
    ) -> None:
        self.inner = inner
        self.noise_multiplicity = noise_multiplicity
        self.canaries = Canaries(num_canaries)
        self.optimizer = AuditedOptimizer(
            inner.optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
        )
        self.optimizer.canaries, self.optimizer.sample_rate = self.canaries, sample_rate
        self.hooked = PerExampleGradients(inner.network, loss_reduction="sum")

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        """real: (N, C, H, W), a Poisson sample: N differs from step to step and may be 0."""
        for parameter in self.optimizer.params:
            parameter.grad_sample = None
            parameter.summed_grad = torch.zeros_like(parameter)
        size = max(1, _ROWS_AT_ONCE // self.noise_multiplicity)
        for first in range(0, len(real), size):
            rows = slice(first, first + size)
            self.per_example_gradients(real[rows], class_ids[rows], rng=update.rng)
            self.optimizer.clip_and_accumulate()
            for parameter in self.optimizer.params:
                parameter.grad_sample = None
        self.optimizer.add_noise()
        for parameter in self.optimizer.params:
            parameter.grad /= self.optimizer.expected_batch_size
        self.optimizer.param_groups[0]["lr"] = update.learning_rate
        self.inner.optimizer.step()
        update_ema(self.inner.ema, self.inner.network, update.ema_decay)
        # The loss of the examples is theirs: nothing of it leaves this function.
        return {"noised_gradient_norm": self._gradient_norm()}

    def per_example_gradients(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, rng: torch.Generator
    ) -> None:
        """Sets each parameter's grad_sample: (N, ...) float32, means over the draws."""
        num, draws = len(real), self.noise_multiplicity
        with _quiet():
            self.inner.losses(
                real.repeat_interleave(draws, 0), class_ids.repeat_interleave(draws), rng=rng
            ).sum().backward()
        for parameter in self.optimizer.params:
            parameter.grad = None
            # As float32 before they are clipped: rounded norms would not bound the sums.
            each = parameter.grad_sample.float().view(num, draws, *parameter.shape)
            parameter.grad_sample = each.mean(1)

    def check_gradients(self, image_shape: tuple[int, int, int]) -> None:
        """Raises TrainingError unless Opacus's gradients are autograd's, on two made-up images.

        Those of its layers have been wrong without a word: see PerExampleGradients.
        """
        rng = torch.Generator().manual_seed(0)
        images = torch.rand((2, *image_shape), generator=rng) * 2 - 1
        with self._shaken(rng):
            found, expected = self._gradients_twice(images)
        wrong = sum(float((a - b).norm()) for a, b in zip(found, expected, strict=True))
        if not wrong <= _GRADIENT_TOLERANCE * sum(float(each.norm()) for each in expected):
            raise TrainingError(
                "privacy: Opacus's gradients of this network are not those of PyTorch (off by "
                f"{wrong:.3g}); set objective.precision: float32, or report this as a defect"
            )

    @contextmanager
    def _shaken(self, rng: torch.Generator) -> Iterator[None]:
        """Off the start, where layers behind one of zeros have no gradient to compare."""
        before = [parameter.detach().clone() for parameter in self.optimizer.params]
        with torch.no_grad():
            for parameter in self.optimizer.params:
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
        yield
        with torch.no_grad():
            for parameter, value in zip(self.optimizer.params, before, strict=True):
                parameter.copy_(value)
                parameter.grad_sample = None

    def _gradients_twice(
        self, images: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Of the sum of the losses: by Opacus, by autograd."""
        class_ids = torch.zeros(len(images), dtype=torch.long)
        draws, self.noise_multiplicity = self.noise_multiplicity, 1
        self.per_example_gradients(images, class_ids, rng=torch.Generator().manual_seed(1))
        self.noise_multiplicity = draws
        found = [parameter.grad_sample.sum(0) for parameter in self.optimizer.params]
        self.hooked.disable_hooks()
        with _quiet():
            rng = torch.Generator().manual_seed(1)
            total = self.inner.losses(images, class_ids, rng=rng).sum()
            expected = torch.autograd.grad(total, self.optimizer.params)
        self.hooked.enable_hooks()
        return found, list(expected)

    def audit(self, *, delta: float) -> Audit:
        return self.canaries.audit(delta=delta)

    def _gradient_norm(self) -> float:
        return float(torch.stack([p.grad.norm() for p in self.optimizer.params]).norm())

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        self.inner.init_from(weights, class_rows)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"network.{k}": v for k, v in self.inner.network.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.inner.ema.state_dict().items()}
            | {f"canaries.{k}": v for k, v in self.canaries.state().items()}
            | flatten_optimizer("optimizer", self.inner.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.inner.network.load_state_dict(take_prefix(state, "network."))
        self.inner.ema.load_state_dict(take_prefix(state, "ema."))
        self.canaries.load_state(take_prefix(state, "canaries."))
        load_optimizer("optimizer", self.inner.optimizer, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return self.inner.ema_weights()

    def ema_sampler(self, batch_size: int) -> Sampler:
        return self.inner.ema_sampler(batch_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """PyTorch warns of hooks where the inputs, here images, need no gradient."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
