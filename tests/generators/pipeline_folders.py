"""Folders of pipelines written by hand: small JSON files, and safetensors of zeros. They hold what
is read without torch; no library could draw with them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

WIDTH, TEXT_WIDTH, LATENTS = 16, 12, 4
_BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
UNET: Shapes = {
    "conv_in.weight": (WIDTH, LATENTS, 3, 3),
    f"{_BLOCK}.attn1.to_q.weight": (WIDTH, WIDTH),
    f"{_BLOCK}.attn1.to_out.0.weight": (WIDTH, WIDTH),
    f"{_BLOCK}.attn2.to_k.weight": (WIDTH, TEXT_WIDTH),
}
TEXT: Shapes = {
    "text_model.embeddings.token_embedding.weight": (20, TEXT_WIDTH),
    "text_model.encoder.layers.0.self_attn.q_proj.weight": (TEXT_WIDTH, TEXT_WIDTH),
}
COMPONENTS = {
    "scheduler": ("diffusers", "DDIMScheduler"),
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
CARD = "---\nlicense: apache-2.0\ntags:\n- a: [b\n---\n# tiny\n"


def write_safetensors(path: Path, shapes: Shapes) -> Path:
    """float32 zeros. Source: datagen/safetensors_header.py cites the format."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    data = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(end))
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def edit_json(path: Path, **changes: Any) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


def write_pipeline(folder: Path, *, card: str | None = CARD, **index: Any) -> Path:
    """Of Stable Diffusion's shape. index: more of model_index.json."""
    write_json(
        folder / "model_index.json",
        {"_class_name": "StableDiffusionPipeline", "safety_checker": [None, None]}
        | COMPONENTS
        | index,
    )
    write_json(folder / "scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"})
    write_json(folder / "tokenizer/tokenizer.json", {"auto_map": 7, "a": 0})
    write_json(folder / "tokenizer/tokenizer_config.json", {"model_max_length": 10**30})
    write_json(folder / "text_encoder/config.json", {"hidden_size": TEXT_WIDTH})
    write_safetensors(folder / "text_encoder/model.safetensors", TEXT)
    write_json(folder / "unet/config.json", _unet_config())
    write_safetensors(folder / "unet/diffusion_pytorch_model.safetensors", UNET)
    write_json(
        folder / "vae/config.json", {"_class_name": "AutoencoderKL", "latent_channels": LATENTS}
    )
    write_safetensors(folder / "vae/diffusion_pytorch_model.safetensors", {"a.weight": (2, 2)})
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def write_controlnet(folder: Path, **config: Any) -> Path:
    content = _unet_config() | {"_class_name": "ControlNetModel"} | config
    write_json(folder / "config.json", content)
    write_safetensors(folder / "diffusion_pytorch_model.safetensors", {"conv_in.weight": (2, 2)})
    (folder / "README.md").write_text(CARD)
    return folder


def write_lora(path: Path, *, width: int = TEXT_WIDTH, prefix: str = "unet.") -> Path:
    """For one attention's keys; width: of the text that its base attends to."""
    module = f"{prefix}{_BLOCK}.attn2.to_k"
    return write_safetensors(
        path, {f"{module}.lora_A.weight": (2, width), f"{module}.lora_B.weight": (WIDTH, 2)}
    )


def write_inversion(path: Path, *, width: int = TEXT_WIDTH, name: str = "<disc>") -> Path:
    return write_safetensors(path, {name: (2, width)})


def _unet_config() -> dict[str, Any]:
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": LATENTS,
        "cross_attention_dim": TEXT_WIDTH,
        "block_out_channels": [WIDTH],
        "layers_per_block": 1,
    }
