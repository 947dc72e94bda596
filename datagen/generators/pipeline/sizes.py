"""Which image sizes a pipeline makes, read off its configuration files. Torch-free.

Called by spec.py: an image is never resized, so a size that does not fit is refused.
"""

from __future__ import annotations

import math
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.part_configs import levels_factor, part_config
from datagen.generators.pipeline.request import OpenedPipeline

_VAE_WIDTHS = ("block_out_channels", "encoder_block_out_channels")


def check_size(opened: OpenedPipeline, image_size: tuple[int, int]) -> None:
    """image_size: (height, width). Raises ModelError naming what the sides must be."""
    fixed = _fixed_size(opened)
    if opened.call.square and image_size[0] != image_size[1]:
        raise ModelError(
            f"image_size {list(image_size)}: {opened.pipeline_class} makes squares alone; expected "
            f"{[min(image_size)] * 2}"
        )
    if fixed is not None:
        if fixed != image_size:
            raise ModelError(
                f"image_size {list(image_size)}: {opened.pipeline_class} of these weights makes "
                f"{list(fixed)} alone; set image_size: {list(fixed)}"
            )
        return
    multiple = size_multiple(opened)
    if any(side % multiple for side in image_size):
        raise ModelError(
            f"image_size {list(image_size)}: {opened.pipeline_class} of these weights makes "
            f"multiples of {multiple}; expected such as {[_near(s, multiple) for s in image_size]}"
        )


def _near(side: int, multiple: int) -> int:
    return max(1, round(side / multiple)) * multiple


def size_multiple(opened: OpenedPipeline) -> int:
    """What both sides are multiples of."""
    call, factor = opened.call, _vae_factor(opened)
    if call.sizes == "latent":
        return math.lcm(call.multiple, factor * _patch(opened))
    if call.sizes == "movq":
        return factor * factor
    if call.sizes in ("vae_upscale", "latent_upscale"):
        return upscale_factor(opened) * (_unet_factor(opened) if factor > 1 else 1)
    return math.lcm(8, upscale_factor(opened) * 2)


def upscale_factor(opened: OpenedPipeline) -> int:
    """Pixels of an image's side for one of its picture's; 1 but for upscaling."""
    by_sizes = {"vae_upscale": _vae_factor(opened), "latent_upscale": 2, "upscale_4": 4}
    return by_sizes.get(opened.call.sizes, 1)


def num_channels(opened: OpenedPipeline) -> int:
    """Of its images."""
    if opened.call.sizes != "fixed" or "vae" in opened.folder.components:
        return 3
    config = part_config(opened.folder, "unet")
    return _number(config.get("in_channels"), 3)


def _vae_factor(opened: OpenedPipeline) -> int:
    for part in ("vae", "vqvae", "movq"):
        if part in opened.folder.components:
            return levels_factor(part_config(opened.folder, part), *_VAE_WIDTHS)
    return 1


def _unet_factor(opened: OpenedPipeline) -> int:
    factor = levels_factor(part_config(opened.folder, "unet"))
    return max(factor, _vae_factor(opened)) if opened.call.sizes == "latent_upscale" else factor


def _patch(opened: OpenedPipeline) -> int:
    """Pixels of a latent's side for one token; Flux packs two by two whatever its files say."""
    if opened.call.words == "flux":
        return 2
    return _number(part_config(opened.folder, "transformer").get("patch_size"), 1)


def _fixed_size(opened: OpenedPipeline) -> tuple[int, int] | None:
    if opened.call.sizes != "fixed":
        return None
    components = opened.folder.components
    part = next(n for n in ("super_res_last", "transformer", "unet") if n in components)
    size = part_config(opened.folder, part).get("sample_size")
    height, width = size if isinstance(size, list) and len(size) == 2 else (size, size)
    factor = _vae_factor(opened)
    return _number(height, 0) * factor, _number(width, 0) * factor


def _number(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
