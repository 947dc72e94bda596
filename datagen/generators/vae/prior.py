"""What the latents of each class look like: a Gaussian fitted while training goes on.

The decoder is trained on posteriors of real images; their aggregate in a class is not quite the
standard normal of the loss, and samples from where it is not have no such training.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


class ClassMoments:
    """Moving sums over the aggregate posterior of each of K classes: of the images seen, of their
    latents and of the latents' outer products."""

    def __init__(self, mean: torch.Tensor, covariance: torch.Tensor) -> None:
        """Begins as if one image of each class had given these. mean: (K, D). covariance:
        (K, D, D)."""
        self.sums = {
            "num": mean.new_ones(len(mean)),
            "first": mean.clone(),
            "second": covariance + mean[:, :, None] * mean[:, None, :],
        }

    def observe(
        self,
        mean: torch.Tensor,
        log_variance: torch.Tensor,
        class_ids: torch.Tensor,
        *,
        decay: float,
        average: Callable[[list[torch.Tensor]], None] | None = None,
    ) -> None:
        """Adds a batch of posteriors, each (N, D); what the classes in it held before decays, so
        that a class never runs empty. average: as in Update."""
        outer = mean[:, :, None] * mean[:, None, :] + torch.diag_embed(log_variance.exp())
        own = {"num": torch.ones_like(mean[:, 0]), "first": mean, "second": outer}
        seen = {
            name: torch.zeros_like(total).index_add_(0, class_ids, own[name])
            for name, total in self.sums.items()
        }
        if average is not None:
            average(list(seen.values()))
        kept = torch.where(seen["num"] > 0, decay, 1.0)
        for name, total in self.sums.items():
            total.mul_(kept.view(-1, *[1] * (total.dim() - 1))).add_(seen[name])

    def fit(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (K, D) and covariance (K, D, D) of each class."""
        num = self.sums["num"][:, None]
        mean = self.sums["first"] / num
        second = self.sums["second"] / num[:, :, None]
        return mean, second - mean[:, :, None] * mean[:, None, :]
