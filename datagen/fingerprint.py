"""The execution fingerprint: equal fingerprint means equal bytes. Torch-free.

Pinned to each job. Only its first half, `generation`, is part of an attempt's key: a newer PNG
encoder changes the packed images, not the raw ones.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datagen import __version__
from datagen.errors import InputError
from datagen.resolve import ResolvedRecipe

# What torch, oneDNN and numpy dispatch on.
_INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16")


def fingerprint(
    resolved: ResolvedRecipe, *, batch_size: int, device: str, threads: int
) -> dict[str, Any]:
    generation: dict[str, Any] = {
        "device": device_model(device),
        "batch_size": batch_size,
        "dtype": resolved.spec.network_call_dtype,
        "revision": resolved.spec.revision,
        "numpy": version("numpy"),
    }
    generation |= {name: version(name) for name in resolved.spec.libraries}
    if "torch" in generation:
        generation |= {"threads": threads, "compile": False, "tf32": False}
    packing = {name: version(name) for name in ("opencv-python-headless", "pyarrow")}
    packing["datagen"] = __version__
    if resolved.recipe.augmentations:
        packing["albumentations"] = version("albumentations")
    return {"generation": generation, "packing": packing}


def device_model(device: str) -> str:
    """The GPU's name, or the CPU's instruction sets."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"DATAGEN_DEVICE={device}: no such device here; use cpu")
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {' '.join(_cpu_flags())}".strip()


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((row for row in text.splitlines() if row.startswith(("flags", "Features"))), "")
    present = set(line.partition(":")[2].split())
    return [name for name in _INSTRUCTION_SETS if name in present]
