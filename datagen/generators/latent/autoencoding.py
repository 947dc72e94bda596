"""Losses of the autoencoder: what it reconstructs, how plain its latents are, and whether a
discriminator of patches can tell. Called by latent/train.py.

What photographs have in common is compared by features (generators/perceptual.py); places and edges
by pixels and a Laplacian pyramid, which need no network.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

_MIN_SIDE_PX = 8


def reconstruction(decoded: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """(): mean absolute difference of pixels, and of each band of details down to 8 pixels.

    decoded, real: (N, C, H, W) float32. Source of the pyramid: Bojanowski et al. 2018 (GLO,
    arXiv 1707.05776), section 2; bands are weighted alike, as means.
    """
    difference = decoded - real
    total = difference.abs().mean()
    while min(difference.shape[2:]) >= 2 * _MIN_SIDE_PX:
        coarse = F.avg_pool2d(difference, 2)
        smooth = F.interpolate(
            coarse, size=difference.shape[2:], mode="bilinear", align_corners=False
        )
        total = total + (difference - smooth).abs().mean()
        difference = coarse
    return total


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """(): nats of each latent over the standard normal. Source: arXiv 1312.6114, appendix B."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def discrimination(real_scores: torch.Tensor, decoded_scores: torch.Tensor) -> torch.Tensor:
    """(): hinge loss (Lim & Ye 2017, arXiv 1705.02894, section 2)."""
    return (F.relu(1 - real_scores).mean() + F.relu(1 + decoded_scores).mean()) / 2


def adaptive_weight(
    wanted: torch.Tensor, adversarial: torch.Tensor, last_layer: torch.Tensor
) -> torch.Tensor:
    """(): by which the second loss moves the last layer as much as the first.

    Source: Esser et al. 2021 (VQGAN, arXiv 2012.09841), equation 7.
    """
    norms = [
        torch.autograd.grad(loss, last_layer, retain_graph=True)[0].norm()
        for loss in (wanted, adversarial)
    ]
    weight: torch.Tensor = norms[0] / (norms[1] + 1e-4)
    return weight.clamp_max(1e4)
