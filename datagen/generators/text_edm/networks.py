"""The denoiser of edm, told of a text in the place of a class. Called by sample.py and train.py."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.interface import ModelConfig
from datagen.generators.text_edm.options import TextEdmNetwork

# The ids that the denoiser takes as classes: whether an image has a text, or the null text.
WITH_TEXT, NULL_TEXT = 0, 1


class TextDenoiser(EdmDenoiser):
    """D(x; sigma, text): as EdmDenoiser, its class_ids WITH_TEXT or NULL_TEXT, its augment_labels
    the vectors of the texts, (N, text_dim).

    text_mean, text_std: (text_dim,), of the training's texts. The vectors of sentences about one
    subject hardly differ: without these the differences drown in what they share.
    """

    text_mean: torch.Tensor
    text_std: torch.Tensor

    def __init__(self, config: ModelConfig, network: TextEdmNetwork) -> None:
        super().__init__(replace(config, class_names=("text",)), network)
        dim = 4 * network.widths[0]
        self.unet.class_embedding = nn.Identity()  # it is given embeddings in the place of ids
        self.text_embedding = nn.Sequential(
            nn.Linear(network.text_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.null_embedding = nn.Parameter(torch.zeros(dim))
        self.register_buffer("text_mean", torch.zeros(network.text_dim))
        self.register_buffer("text_std", torch.ones(network.text_dim))

    def _embedded(
        self, class_ids: torch.Tensor, augment_labels: torch.Tensor | None
    ) -> torch.Tensor:
        null = self.null_embedding.expand(len(class_ids), -1)
        if augment_labels is None:
            return null
        told = self.text_embedding((augment_labels - self.text_mean) / self.text_std)
        return torch.where((class_ids == NULL_TEXT).unsqueeze(1), null, told)
