"""A Stable Diffusion pipeline of random weights, less than 100,000 of them, written to a folder as
diffusers' save_pretrained writes a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

PROMPT_LENGTH, TEXT_WIDTH = 24, 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_TOKENS = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "<start>", "<end>"]
_VOCABULARY = {token: index for index, token in enumerate(_TOKENS)}


def save_tiny_pipeline(
    folder: Path, *, seed: int = 0, prediction_type: str = "epsilon", is_xl: bool = False
) -> Path:
    """A VAE of factor 2, a UNet of two levels, text encoders of two layers; letters are tokens."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        StableDiffusionXLPipeline,
    )
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "text_encoder": CLIPTextModel(_text_config()),
            "tokenizer": _tokenizer(),
            "unet": _unet(is_xl=is_xl),
            "vae": AutoencoderKL(
                block_out_channels=(8, 8),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
                sample_size=16,
            ),
            "scheduler": DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type=prediction_type,
                clip_sample=False,
                steps_offset=1,
            ),
        }
        if is_xl:
            second = CLIPTextModelWithProjection(_text_config())
            pipeline: Any = StableDiffusionXLPipeline(
                **parts, text_encoder_2=second, tokenizer_2=_tokenizer(), add_watermarker=False
            )
        else:
            pipeline = StableDiffusionPipeline(
                **parts,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
    pipeline.save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer(
        _VOCABULARY,
        [],
        unk_token="<end>",
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<end>",
        model_max_length=PROMPT_LENGTH,
    )


def _text_config() -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(_VOCABULARY),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=PROMPT_LENGTH,
        bos_token_id=_VOCABULARY["<start>"],
        eos_token_id=_VOCABULARY["<end>"],
        pad_token_id=_VOCABULARY["<end>"],
        initializer_factor=20.0,
    )


def _unet(*, is_xl: bool) -> Any:
    from diffusers import UNet2DConditionModel

    added: dict[str, Any] = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": TEXT_WIDTH + 6 * 4,
    }
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH if is_xl else TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        **(added if is_xl else {}),
    )
