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
from datagen.generators.interface import ModelConfig
from datagen.generators.weights import channels_last

# c_noise lies in about [-1.6, 1.1]; diffusers' sinusoids are made for timesteps in [0, 1000].
_TIMESTEP_SCALE = 100.0


class EdmDenoiser(nn.Module):
    """D(x; sigma, class): noisy images (N, C, H, W) => denoised images, [-1, 1] units.

    The class id num_classes is the null class.
    """

    def __init__(self, config: ModelConfig, network: EdmNetwork) -> None:
        super().__init__()
        height, width = config.image_size
        patch = network.patch_px
        folded = config.channels * patch * patch
        # Attention at every resolution but the highest, where it costs most.
        num_lower = len(network.widths) - 1
        down = "AttnDownBlock2D" if network.attention else "DownBlock2D"
        up = "AttnUpBlock2D" if network.attention else "UpBlock2D"
        self.null_class = len(config.class_names)
        self.patch_px = patch
        self.sigma_data = network.sigma_data
        self.unet = UNet2DModel(
            sample_size=(height // patch, width // patch),
            in_channels=folded,
            out_channels=folded,
            layers_per_block=network.layers_per_block,
            block_out_channels=network.widths,
            down_block_types=("DownBlock2D",) + (down,) * num_lower,
            up_block_types=(up,) * num_lower + ("UpBlock2D",),
            num_class_embeds=self.null_class + 1,
            norm_num_groups=network.norm_num_groups,
            add_attention=network.attention,
            attention_head_dim=None,
        )
        # The last layer starts at zero, so that D starts as the c_skip estimate.
        nn.init.zeros_(self.unet.conv_out.weight)
        nn.init.zeros_(self.unet.conv_out.bias)
        channels_last(self)

    def forward(
        self, noisy: torch.Tensor, sigma: torch.Tensor, class_ids: torch.Tensor
    ) -> torch.Tensor:
        """noisy: (N, C, H, W). sigma: (N,). class_ids: (N,)."""
        s, data = sigma.view(-1, 1, 1, 1), self.sigma_data
        norm = (s**2 + data**2).sqrt()
        c_skip, c_out, c_in = data**2 / norm**2, s * data / norm, 1 / norm  # table 1
        c_noise = sigma.log() / 4
        folded = F.pixel_unshuffle(c_in * noisy, self.patch_px)
        folded = folded.contiguous(memory_format=torch.channels_last)
        raw = self.unet(folded, c_noise * _TIMESTEP_SCALE, class_ids, return_dict=False)[0]
        out: torch.Tensor = c_skip * noisy + c_out * F.pixel_shuffle(raw.float(), self.patch_px)
        return out
