"""All that a private cgan learns from real images: noised sums, made once. Called by plan.py.

Two mechanisms share the budget: the sums of the images' features by class (Harder et al. 2021,
arXiv 2002.11603, section 3), and a linear classifier on the wavelets by noised full-batch gradient
descent. Both sum over all examples, so that nothing need be sampled. What is made of them later
costs no privacy, however long it takes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from datagen.errors import TrainingError
from datagen.generators.weights import from_uint8_nhwc
from datagen.training.dataset import RealImages
from datagen.training.privacy.accountant import GaussianSteps
from datagen.training.privacy.audit import Audit, Canaries
from datagen.training.privacy.features import BoundedFeatures
from datagen.training.privacy.secure import secure_normal

# Chosen on Fashion-MNIST from a handful of settings, by the accuracy of the classifier alone.
CLASSIFIER_SHARE = 0.7
NUM_CLASSIFIER_STEPS = 80
CLASSIFIER_CLIP = 0.5
_MOMENTUM = 0.9
_BIAS_FEATURE = 0.3
_CHUNK = 1000


@dataclass(frozen=True)
class Release:
    """means: (K, dim - 1) float32 of the features, by class. classifier: (K, num_wavelets + 1),
    its last column for the bias."""

    means: torch.Tensor
    classifier: torch.Tensor

    def logits(self, wavelets: torch.Tensor) -> torch.Tensor:
        """(N, K)."""
        return wavelets @ self.classifier[:, :-1].T + _BIAS_FEATURE * self.classifier[:, -1]


def release_steps(scale: float) -> tuple[GaussianSteps, GaussianSteps]:
    """What make_release does at this scale of the noise: as two Gaussian mechanisms of
    1/scale^2 of precision in all, of which the classifier gets its share."""
    sums = GaussianSteps(scale / (1 - CLASSIFIER_SHARE) ** 0.5, 1.0, 1)
    each = scale * (NUM_CLASSIFIER_STEPS / CLASSIFIER_SHARE) ** 0.5
    return sums, GaussianSteps(each, 1.0, NUM_CLASSIFIER_STEPS)


def make_release(
    real: RealImages,
    features: BoundedFeatures,
    *,
    num_classes: int,
    scale: float,
    rate: float,
    num_canaries: int,
) -> tuple[Release, Canaries]:
    """rate: the classifier's learning rate."""
    sums_step, classifier_step = release_steps(scale)
    wavelets = torch.empty((len(real), features.num_wavelets), dtype=torch.float16)
    sums = torch.zeros(num_classes, features.dim)
    with torch.no_grad():
        for rows, images, class_ids in _chunks(real):
            found = features.wavelets(images)
            wavelets[rows] = found.half()
            sums.index_add_(0, class_ids, _at_most(features.embed(images, found), 1.0))
        canaries = Canaries(num_canaries)
        noised = _noised(sums, sums_step, norm=1.0, canaries=canaries)
        classifier = _train_classifier(
            wavelets, real, num_classes, step=classifier_step, rate=rate, canaries=canaries
        )
    return Release(features.means(noised), classifier), canaries


def save_release(path: Path, release: Release, audit: Audit, *, recipe_digest: str) -> None:
    """Whole or not at all: making it again would spend the budget again."""
    from safetensors.torch import save_file

    temporary = path.with_suffix(".tmp")
    tensors = {"means": release.means.contiguous(), "classifier": release.classifier.contiguous()}
    metadata = {"audit": json.dumps(asdict(audit)), "recipe": recipe_digest}
    save_file(tensors, temporary, metadata=metadata)
    os.replace(temporary, path)


def load_release(path: Path, *, recipe_digest: str) -> tuple[Release, Audit] | None:
    """None if there is none. Raises TrainingError if it is damaged or of another recipe."""
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            release = Release(file.get_tensor("means"), file.get_tensor("classifier"))
        audit = Audit(**json.loads(metadata["audit"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"release {path} is damaged ({error}); train into another folder"
        ) from None
    if metadata.get("recipe") != recipe_digest:
        raise TrainingError(
            f"release {path} was made by another model recipe; train into another folder"
        )
    return release, audit


def _train_classifier(
    wavelets: torch.Tensor,
    real: RealImages,
    num_classes: int,
    *,
    step: GaussianSteps,
    rate: float,
    canaries: Canaries,
) -> torch.Tensor:
    """Softmax regression: an example's gradient is (p - y) wavelets^T, clipped by its two norms."""
    weights = torch.zeros(num_classes, wavelets.shape[1] + 1)
    velocity = torch.zeros_like(weights)
    targets = torch.from_numpy(real.class_ids)
    for _ in range(step.num_steps):
        total = torch.zeros_like(weights)
        for first in range(0, len(wavelets), _CHUNK):
            chunk = wavelets[first : first + _CHUNK].float()
            inputs = torch.cat([chunk, torch.full((len(chunk), 1), _BIAS_FEATURE)], dim=1)
            errors = torch.softmax(inputs @ weights.T, dim=1)
            errors[torch.arange(len(chunk)), targets[first : first + _CHUNK]] -= 1
            norms = errors.norm(dim=1) * inputs.norm(dim=1)
            factors = (CLASSIFIER_CLIP / (norms + 1e-6)).clamp(max=1.0)
            total += (errors * factors[:, None]).T @ inputs
        noised = _noised(total, step, norm=CLASSIFIER_CLIP, canaries=canaries)
        velocity = _MOMENTUM * velocity + noised / (CLASSIFIER_CLIP * len(wavelets))
        weights = weights - rate * velocity
    return weights


def _noised(
    total: torch.Tensor, step: GaussianSteps, *, norm: float, canaries: Canaries
) -> torch.Tensor:
    """norm: the largest of one example's part of `total`. The canaries' part is noised alike, and
    weighed by its precision, so that all steps together say most about it."""
    std = step.noise_multiplier * norm
    part = canaries.contribution(sample_rate=step.sample_rate, norm=norm)
    seen = part + secure_normal(tuple(part.shape), std=std)
    canaries.observe(seen * (norm / max(std, 1e-6) ** 2))
    return total + secure_normal(tuple(total.shape), std=std)


def _chunks(real: RealImages) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """Rows, images (N, C, H, W) float32 in [0, 1], class ids."""
    for first in range(0, len(real), _CHUNK):
        rows = slice(first, first + _CHUNK)
        images = from_uint8_nhwc(np.ascontiguousarray(real.images[rows])).add(1).div(2)
        yield rows, images, torch.from_numpy(real.class_ids[rows])


def _at_most(vectors: torch.Tensor, norm: float) -> torch.Tensor:
    """They are by construction; rounding must not make them longer."""
    shortened: torch.Tensor = vectors * (norm / vectors.norm(dim=1, keepdim=True).clamp(min=norm))
    return shortened


def classifier_rate(epsilon: float) -> float:
    """Less noise bears longer steps: 8 at epsilon 1, 20 at 10."""
    return float(8.0 * min(max(epsilon, 0.1), 10.0) ** 0.4)
