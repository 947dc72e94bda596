"""diffusers' UNet2DModel under EDM preconditioning, with a null class for guidance.

Source: Karras et al. 2022, "Elucidating the design space of diffusion-based generative models"
(EDM, arXiv 2206.00364), equation 7 and table 1.
"""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import nn
from torch.nn import functional as F

from datagen.generators.edm.options import EdmNetwork
from datagen.generators.encoding import num_channels
from datagen.generators.interface import ModelConfig
from datagen.generators.weights import channels_last

# c_noise lies in about [-1.6, 1.1]; diffusers' sinusoids are made for timesteps in [0, 1000].
_TIMESTEP_SCALE = 100.0


class EdmDenoiser(nn.Module):
    """D(x; sigma, class): noisy images (N, C, H, W) => denoised images, [-1, 1] units.

    The class id num_classes is the null class. With augment_dim the network may be told of
    augmentations: a linear map of their labels, without a bias, is added to the class's embedding.
    With a condition its planes (generators/encoding.py) and one that is 1 throughout are further
    channels of the input, as in Saharia et al. 2021 (SR3, arXiv 2104.07636, section 2.3); all of
    them are 0 of an image without: the null condition.
    """

    def __init__(self, config: ModelConfig, network: EdmNetwork) -> None:
        super().__init__()
        height, width = config.image_size
        patch = network.patch_px
        folded = config.channels * patch * patch
        self.num_planes = 0 if config.condition is None else num_channels(config.condition) + 1
        # Attention at every resolution but the highest, where it costs most.
        num_lower = len(network.widths) - 1
        down = "AttnDownBlock2D" if network.attention else "DownBlock2D"
        up = "AttnUpBlock2D" if network.attention else "UpBlock2D"
        self.null_class = len(config.class_names)
        self.augment_dim = network.augment_dim
        self.patch_px = patch
        self.sigma_data = network.sigma_data
        self.unet = UNet2DModel(
            sample_size=(height // patch, width // patch),
            in_channels=folded + self.num_planes * patch * patch,
            out_channels=folded,
            layers_per_block=network.layers_per_block,
            block_out_channels=network.widths,
            down_block_types=("DownBlock2D",) + (down,) * num_lower,
            up_block_types=(up,) * num_lower + ("UpBlock2D",),
            # "identity" takes embeddings in the place of ids.
            class_embed_type="identity" if network.augment_dim else None,
            num_class_embeds=None if network.augment_dim else self.null_class + 1,
            norm_num_groups=network.norm_num_groups,
            add_attention=network.attention,
            attention_head_dim=None,
        )
        # The last layer starts at zero, so that D starts as the c_skip estimate.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        if network.augment_dim:
            embedding_dim = 4 * network.widths[0]
            self.class_embedding = nn.Embedding(self.null_class + 1, embedding_dim)
            self.augment_embedding = nn.Linear(network.augment_dim, embedding_dim, bias=False)
            # As loud as the classes from the start: at torch's own scale 120 steps learned nothing.
            nn.init.normal_(self.augment_embedding.weight)
        channels_last(self)

    @property
    def class_table(self) -> str:
        """The tensor of the state that has a row for each class."""
        return "class_embedding.weight" if self.augment_dim else "unet.class_embedding.weight"

    def forward(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        class_ids: torch.Tensor,
        augment_labels: torch.Tensor | None = None,
        planes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """noisy: (N, C, H, W). sigma: (N,). class_ids: (N,). augment_labels: (N, augment_dim); left
        out, those of images that were not augmented. planes: (N, num_planes, H, W) of a network
        that takes a condition; left out, the null condition."""
        s, data = sigma.view(-1, 1, 1, 1), self.sigma_data
        norm = (s**2 + data**2).sqrt()
        c_skip, c_out, c_in = data**2 / norm**2, s * data / norm, 1 / norm  # table 1
        c_noise = sigma.log() / 4
        scaled = c_in * noisy
        if self.num_planes:
            if planes is None:
                planes = noisy.new_zeros(len(noisy), self.num_planes, *noisy.shape[2:])
            scaled = torch.cat([scaled, planes], dim=1)
        folded = F.pixel_unshuffle(scaled, self.patch_px)
        folded = folded.contiguous(memory_format=torch.channels_last)
        embedded = self._embedded(class_ids, augment_labels)
        raw = self.unet(folded, c_noise * _TIMESTEP_SCALE, embedded, return_dict=False)[0]
        out: torch.Tensor = c_skip * noisy + c_out * F.pixel_shuffle(raw.float(), self.patch_px)
        return out

    def _embedded(
        self, class_ids: torch.Tensor, augment_labels: torch.Tensor | None
    ) -> torch.Tensor:
        """Ids where the UNet embeds them, else embeddings (N, 4 * widths[0])."""
        if not self.augment_dim:
            return class_ids
        embedded: torch.Tensor = self.class_embedding(class_ids)
        if augment_labels is None:
            augment_labels = embedded.new_zeros(len(class_ids), self.augment_dim)
        told: torch.Tensor = self.augment_embedding(augment_labels)
        return embedded + told


def with_presence(planes: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
    """(N, K, H, W) => (N, K + 1, H, W), the last of them 1; all 0 where the condition is dropped.

    present: (N,) bool; None for all.
    """
    told = torch.cat([planes, torch.ones_like(planes[:, :1])], dim=1)
    return told if present is None else told * present.view(-1, 1, 1, 1)
