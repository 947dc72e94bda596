"""Layers that a cgan may add: self-attention, spectral normalisation, minibatch deviation."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class SelfAttention(nn.Module):
    """x + gamma * attention(x), gamma starting at 0. x: (N, C, H, W).

    Source: Zhang et al. 2019 (arXiv 1805.08318), equations 1 to 3. In plain products: the gradient
    penalties need their second derivative, which the fused kernels lack.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 8)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (
            layer(x).flatten(2) for layer in (self.query, self.key, self.value)
        )  # (N, C', H * W)
        weights = torch.bmm(queries.transpose(1, 2), keys).softmax(dim=2)
        attended = torch.bmm(values, weights.transpose(1, 2)).view(x.shape)
        out: torch.Tensor = x + self.gamma * attended
        return out


def normalize_spectrally(network: nn.Module) -> None:
    """Divides the weight of every convolution, linear layer and embedding by its largest singular
    value, in place. One power iteration a call tracks it, in buffers: a resumed run goes on there.

    Source: Miyato et al. 2018 (arXiv 1802.05957), algorithm 1.
    """
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            spectral_norm(module)


def minibatch_deviation(features: torch.Tensor, group_size: int) -> torch.Tensor:
    """(N, 1): for each image the mean standard deviation of the features over its group of the
    batch: neighbours, whatever their classes, group_size of them or a few more.

    features: (N, C, H, W). Source: Karras et al. 2018 (arXiv 1710.10196), section 3.
    """
    groups = features.float().tensor_split(max(1, len(features) // group_size))
    return torch.cat(
        [(g.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(g), 1) for g in groups]
    )
