"""A Stable Diffusion pipeline of random weights and a few thousand parameters, written to a folder
as diffusers' save_pretrained writes a real one."""

from __future__ import annotations

from pathlib import Path

import torch

PROMPT_LENGTH, TEXT_WIDTH = 24, 8


def save_tiny_pipeline(folder: Path, *, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """A VAE of factor 2, a UNet of two levels, a text encoder of one layer; letters are tokens."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: index for index, token in enumerate([*tokens, "<start>", "<end>"])}
    tokenizer = CLIPTokenizer(
        vocabulary,
        [],
        unk_token="<end>",
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<end>",
        model_max_length=PROMPT_LENGTH,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(vocabulary),
                hidden_size=TEXT_WIDTH,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=PROMPT_LENGTH,
                bos_token_id=vocabulary["<start>"],
                eos_token_id=vocabulary["<end>"],
                pad_token_id=vocabulary["<end>"],
                initializer_factor=20.0,
            )
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=TEXT_WIDTH,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            sample_size=16,
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder
