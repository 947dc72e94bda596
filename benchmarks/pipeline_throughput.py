"""A pipeline through datagen against bare `pipe(...)`, images/s side by side, and our batch shape
against one image at a time; random weights, of a tiny Stable Diffusion or of the real shapes.

    python benchmarks/pipeline_throughput.py [--images 64] [--steps 8] [--batch 4] [--rounds 3]
    python benchmarks/pipeline_throughput.py --shape sd15 --device cuda [--batch 8]
    python benchmarks/pipeline_throughput.py --shape sdxl --device cuda [--batch 4]

End to end is `datagen run` in this process: recipe, sampler, PNG, shards, published version. Its
rate is of the images between a small run and a large one, so that loading counts for neither side.
Rounds alternate; medians and their ratio are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from datagen.deployment_rules import DeploymentRules
from datagen.embedded import run_recipe
from datagen.fingerprint import device_model
from datagen.generators.interface import ModelConfig
from datagen.generators.pipeline.loading import load_pipeline
from datagen.generators.pipeline.options import PipelineOptions
from datagen.generators.pipeline.randomness import seeded_generators
from datagen.generators.pipeline.request import open_request, request_of
from datagen.recipe import canonical_json, parse_recipe
from datagen.resolve import ResolvedRecipe, resolve
from datagen.settings import Settings, load_settings
from tests.generators.tiny_pipelines import CLIP_LENGTH, clip_tokenizer, save_tiny

SIZES = {"tiny": 16, "sd15": 512, "sdxl": 1024}
PROMPT = "a photo of a {class}"


def build(shape: str, folder: Path) -> Path:
    """A pipeline of random weights in half precision, or the tests' tiny one in float32."""
    if shape == "tiny":
        return save_tiny("sd", folder)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        pipeline = _sd15() if shape == "sd15" else _sdxl()
    finally:
        torch.set_default_dtype(before)
    pipeline.save_pretrained(folder)
    return folder


def _text(kind: str, width: int, layers: int, heads: int) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        max_position_embeddings=CLIP_LENGTH,
    )
    return getattr(transformers, kind)(config)


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        force_upcast=False,
    )


def _sd15() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_text("CLIPTextModel", 768, 12, 12),
        tokenizer=clip_tokenizer(),
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=1280 + 6 * 256,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_text("CLIPTextModel", 768, 12, 12),
        text_encoder_2=_text("CLIPTextModelWithProjection", 1280, 32, 20),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False),
        add_watermarker=False,
    )


def options_of(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    dtype = "float32" if args.shape == "tiny" else "float16"
    return {"source": str(folder), "num_inference_steps": args.steps, "dtype": dtype}


def bare_rate(folder: Path, args: argparse.Namespace) -> float:
    """Images/s of the pipeline alone, loaded already, to tensors on its device."""
    options = PipelineOptions.model_validate(options_of(folder, args))
    config = ModelConfig("pipeline", (), (0, 0), 0, {})
    pipe = load_pipeline(open_request(request_of(config, options)), device=args.device)
    size, seconds = SIZES[args.shape], 0.0
    prompts = [PROMPT.replace("{class}", "disc")] * args.batch
    for first in range(-args.batch, args.images, args.batch):  # the first batch warms up
        started = time.monotonic()
        pipe(
            prompts,
            height=size,
            width=size,
            num_inference_steps=args.steps,
            generator=seeded_generators(range(first + args.batch, first + 2 * args.batch)),
        )
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds += time.monotonic() - started if first >= 0 else 0.0
    return args.images / seconds


def run_seconds(
    folder: Path, settings: Settings, args: argparse.Namespace, *, batch: int, images: int
) -> float:
    resolved = _resolved(folder, settings, args, batch=batch, images=images)
    started = time.monotonic()
    run_recipe(resolved, settings)
    return time.monotonic() - started


def _resolved(
    folder: Path, settings: Settings, args: argparse.Namespace, *, batch: int, images: int
) -> ResolvedRecipe:
    size = SIZES[args.shape]
    content = {
        "version": 1,
        "name": f"pipeline-{batch}-{images}-{time.monotonic_ns()}",
        "image_size": [size, size],
        "classes": [{"name": "disc", "count": images}],
        "generator": {
            "model": "pipeline",
            "batch_size": batch,
            **options_of(folder, args),
        },
        "conditioning": {"prompt": {"template": PROMPT}},
    }
    document = parse_recipe(canonical_json(content), source="benchmark.json")
    return resolve(document, [settings.models_dir], DeploymentRules.of(settings))


def datagen_rate(folder: Path, args: argparse.Namespace, *, batch: int) -> float:
    """Images/s end to end, of a large run less a small one."""
    with tempfile.TemporaryDirectory() as home:
        given = {"DATAGEN_ALLOW_UNLICENSED": "yes", "DATAGEN_DEVICE": args.device}
        settings = load_settings(given, home=Path(home))
        run_seconds(folder, settings, args, batch=batch, images=batch)  # imports, kernels chosen
        small = run_seconds(folder, settings, args, batch=batch, images=batch)
        large = run_seconds(folder, settings, args, batch=batch, images=batch + args.images)
    return float(args.images / max(large - small, 1e-9))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=sorted(SIZES), default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1 if args.device == "cpu" else torch.get_num_threads())
    rates: dict[str, list[float]] = {"bare": [], "datagen": [], "one by one": []}
    with tempfile.TemporaryDirectory() as place:
        folder = build(args.shape, Path(place, "pipeline"))
        for _ in range(args.rounds):
            rates["bare"].append(bare_rate(folder, args))
            rates["datagen"].append(datagen_rate(folder, args, batch=args.batch))
            rates["one by one"].append(datagen_rate(folder, args, batch=1))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{device_model(args.device)}, {os.cpu_count()} CPUs, {args.shape}, {args.steps} steps")
    for name, median in medians.items():
        print(f"{name:>12}: {median:8.3g} images/s  of {[round(r, 3) for r in rates[name]]}")
    print(f"datagen / bare: {medians['datagen'] / medians['bare']:.3f}")
    print(f"batch of {args.batch} / one by one: {medians['datagen'] / medians['one by one']:.2f}")


if __name__ == "__main__":
    main()
