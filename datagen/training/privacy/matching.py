"""A cgan trained to match a private release; it never sees a real image. Called by plan.py.

The generator minimises, class by class, the squared distance between the mean features of its
samples and the released ones (Harder et al. 2021, arXiv 2002.11603, equation 4, as an unbiased
estimate: Gretton et al. 2012, equation 3), and the cross-entropy of the released classifier.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional as F

from datagen.generators.cgan.networks import build_generator
from datagen.generators.cgan.options import CganNetwork, CganObjectiveOptions
from datagen.generators.cgan.sample import CganSampler
from datagen.generators.cgan.train import transferred_generator
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.optimization import descend
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix, update_ema
from datagen.training.privacy.features import BoundedFeatures
from datagen.training.privacy.release import Release

# More makes the classes purer than the real ones are, and the images poorer in doubtful cases.
_LABEL_WEIGHT = 0.02


class MatchingObjective:
    """An Objective whose steps read no real image: it has the release instead."""

    def __init__(
        self,
        config: ModelConfig,
        options: CganObjectiveOptions,
        *,
        release: Release,
        features: BoundedFeatures,
        batch_size: int,
        seed: int,
    ) -> None:
        """batch_size: of generated images; at least two of each class are drawn."""
        network = CganNetwork.model_validate(config.network)
        self.options, self.release, self.features = options, release, features
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.generator = build_generator(config, network)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), betas=(0.5, 0.99))
        self.num_classes = len(config.class_names)
        self.num_per_class = max(2, batch_size // self.num_classes)

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        num = self.num_per_class
        wanted = torch.arange(self.num_classes).repeat_interleave(num)
        latents = torch.randn(len(wanted), self.generator.latent_dim, generator=update.rng)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            images = (self.generator(latents, wanted).float() + 1) / 2
            wavelets = self.features.wavelets(images)
            embedded = self.features.embed(images, wavelets)[:, :-1]
            logits = self.release.logits(wavelets)
        distance = mean_distance(embedded.float().view(-1, num, embedded.shape[1]), self.release)
        labels = F.cross_entropy(logits.float(), wanted)
        descend(distance + _LABEL_WEIGHT * labels, self.optimizer, update)
        update_ema(self.ema, self.generator, update.ema_decay)
        return {"distance": distance.item(), "labels": labels.item()}

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        state = transferred_generator(self.ema, weights, class_rows)
        self.generator.load_state_dict(state)
        self.ema.load_state_dict(state)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"generator.{k}": v for k, v in self.generator.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | flatten_optimizer("optimizer", self.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.generator.load_state_dict(take_prefix(state, "generator."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        load_optimizer("optimizer", self.optimizer, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())

    def ema_sampler(self, batch_size: int) -> CganSampler:
        return CganSampler(self.ema, batch_size=batch_size)


def mean_distance(embedded: torch.Tensor, release: Release) -> torch.Tensor:
    """Mean over classes of |E f(x) - m|^2 without bias: pairs of different samples alone, since
    those of a sample with itself would reward samples that are all alike.

    embedded: (K, N, dim - 1), N samples of each class.
    """
    num = embedded.shape[1]
    sums = embedded.sum(1)
    pairs = (sums.square().sum(1) - embedded.square().sum((1, 2))) / (num * (num - 1))
    across = (sums / num * release.means).sum(1)
    return (pairs - 2 * across + release.means.square().sum(1)).mean()
