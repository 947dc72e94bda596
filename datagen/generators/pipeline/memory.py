"""What a pipeline's weights take in memory, read off its files. Torch-free. Called by spec.py."""

from __future__ import annotations

import math
from pathlib import Path

from datagen.generators.pipeline.folder_files import tensor_entries
from datagen.generators.pipeline.request import OpenedPipeline

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# In eight bits where the options say so; see loading.py.
_DENOISERS = ("unet", "transformer", "controlnet", "decoder")
_NOT_LOADED = ("safety_checker", "watermarker")


def weight_bytes(opened: OpenedPipeline) -> int:
    """Of all networks in the dtype of the options; nothing of what a call needs besides."""
    size = _ITEM_BYTES[opened.options.dtype]
    small = 1 if opened.options.quantization != "none" else size
    total = 0
    for name in opened.folder.files:
        part = name.split("/")[0]
        if name.endswith(".safetensors") and part not in _NOT_LOADED:
            item = small if part in _DENOISERS else size
            total += item * _num_items(opened.folder.folder / name)
    if opened.controlnet is not None:
        folder = opened.controlnet.folder
        total += small * sum(_num_items(path) for path in folder.glob("*.safetensors"))
    return total


def _num_items(path: Path) -> int:
    return sum(math.prod(entry.shape) for entry in tensor_entries(path))
