"""The parts of a pipeline, loaded from checked files alone, and the low-rank layers added to its
UNet.

Source: Hu et al. 2021, "LoRA: low-rank adaptation of large language models" (arXiv 2106.09685),
equation 3: W x + (alpha / rank) B A x, with B = 0 at first. The layers are PEFT's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from peft import LoraConfig
from torch import nn

from datagen.errors import ModelError
from datagen.generators.lora.options import LoraNetwork
from datagen.generators.lora.pipeline_files import PipelineFiles
from datagen.generators.lora.pipeline_parts import load_part
from datagen.generators.lora.prompts import Prompts, encode_prompts
from datagen.generators.weights import channels_last

# Of the tensors that ship: what diffusers' load_lora_weights and PEFT expect.
_PREFIX = "unet."
_NAME = "added"

Adapter = dict[str, nn.Parameter]


@dataclass(frozen=True)
class TextToImage:
    """The frozen parts, float32.

    alphas: (num_train_timesteps,) float32 on the CPU, the share of signal in a noised latent's
    variance (alpha-bar in Ho et al. 2020, arXiv 2006.11239). is_velocity: the UNet predicts v in
    place of the noise.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    prompts: Prompts
    alphas: torch.Tensor
    is_velocity: bool

    @property
    def scaling_factor(self) -> float:
        """Of the VAE's latents, to about unit variance."""
        return float(self.vae.config["scaling_factor"])


def load_pipeline(
    files: PipelineFiles, prompts: Sequence[str], *, image_size: tuple[int, int], device: str
) -> TextToImage:
    """prompts: of the classes. Raises ModelError if the weights do not fit the configurations."""
    schedule = files.configs.schedule
    with torch.random.fork_rng(devices=[]):  # the libraries initialise what they then load
        encoded = encode_prompts(files, prompts, image_size=image_size, device=device)
        unet = load_part(UNet2DConditionModel, files.folder / "unet")
        vae = load_part(AutoencoderKL, files.folder / "vae")
    return TextToImage(
        channels_last(unet.requires_grad_(False).eval().to(device)),
        channels_last(vae.requires_grad_(False).eval().to(device)),
        encoded,
        DDIMScheduler(**schedule.model_dump()).alphas_cumprod,
        schedule.prediction_type == "v_prediction",
    )


def add_adapter(unet: UNet2DConditionModel, network: LoraNetwork, *, seed: int) -> Adapter:
    """Low-rank layers beside each target: those of the UNet that then require gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(
            LoraConfig(
                r=network.rank,
                lora_alpha=network.alpha or network.rank,
                target_modules=list(network.target_modules),
            ),
            adapter_name=_NAME,
        )
    return {
        _PREFIX + name.replace(f".{_NAME}.", "."): parameter
        for name, parameter in unet.named_parameters()
        if parameter.requires_grad
    }


@torch.no_grad()
def copy_into(tensors: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


@contextmanager
def holding(adapter: Adapter, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """The adapter has other weights inside, and its own again afterwards."""
    own = {name: parameter.detach().clone() for name, parameter in adapter.items()}
    copy_into(adapter, weights)
    try:
        yield
    finally:
        copy_into(adapter, own)


def load_tuned(
    files: PipelineFiles,
    network: LoraNetwork,
    prompts: Sequence[str],
    weights: Path,
    *,
    image_size: tuple[int, int],
    device: str,
) -> TextToImage:
    """The pipeline with the low-rank layers of a safetensors file added into its own: equal in
    speed to the untuned one. Raises ModelError if they do not fit."""
    from safetensors.torch import load_file

    parts = load_pipeline(files, prompts, image_size=image_size, device=device)
    adapter = add_adapter(parts.unet, network, seed=0)
    found = load_file(weights)
    for name in sorted(adapter.keys() | found.keys()):
        shape = tuple(found[name].shape) if name in found else None
        expected = tuple(adapter[name].shape) if name in adapter else None
        if shape != expected:
            raise ModelError(
                f"{weights}: tensor {name}: expected shape {expected}, found {shape}; weights and "
                "config.json do not belong together: train or copy the model again"
            )
        if not bool(torch.isfinite(found[name]).all()):
            raise ModelError(f"{weights}: tensor {name}: not finite; train or copy the model again")
    copy_into(adapter, found)
    parts.unet.fuse_lora()
    parts.unet.unload_lora()
    parts.unet.requires_grad_(False)
    return parts
