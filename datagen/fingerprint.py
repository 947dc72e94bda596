"""The execution fingerprint: equal fingerprint means equal bytes. Torch-free.

Pinned to each job. Only its first half, `generation`, is part of an attempt's key: a newer PNG
encoder changes the packed images, not the raw ones.
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from datagen import __version__
from datagen.errors import InputError
from datagen.generators.interface import GeneratorSpec
from datagen.recipe import canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings

# What torch, oneDNN and numpy dispatch on.
_INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_bf16")


def fingerprint(
    resolved: ResolvedRecipe, *, batch_size: int, device: str, threads: int
) -> dict[str, Any]:
    generation = generation_print(resolved.spec, device=device, threads=threads)
    return job_fingerprint(resolved, generation, batch_size=batch_size)


def job_fingerprint(
    resolved: ResolvedRecipe, generation: dict[str, Any], *, batch_size: int
) -> dict[str, Any]:
    """generation: of the workers that will make the raw images."""
    if resolved.conditioner_model is not None:
        spec = resolved.conditioner_model.spec
        brought = {"revision": spec.revision} | {name: version(name) for name in spec.libraries}
        generation = generation | {"conditions": brought}
    packing = packing_print()
    if not resolved.recipe.augmentations:
        del packing["albumentations"]
    return {"generation": {"batch_size": batch_size} | generation, "packing": packing}


def generation_print(spec: GeneratorSpec, *, device: str, threads: int) -> dict[str, Any]:
    """What a worker brings to the raw images of a family; the job adds its batch size."""
    found: dict[str, Any] = {
        "device": device_model(device),
        "dtype": spec.network_call_dtype,
        "revision": spec.revision,
        "numpy": version("numpy"),
    }
    found |= {name: version(name) for name in spec.libraries}
    if "torch" in found:
        found |= {"threads": threads, "compile": False, "tf32": False}
    return found


def packing_print() -> dict[str, Any]:
    """What a worker brings to finished images."""
    libraries = ("opencv-python-headless", "pyarrow", "albumentations")
    return {name: version(name) for name in libraries} | {"datagen": __version__}


def generation_queue(spec: GeneratorSpec, settings: Settings) -> str:
    """The queue of the workers whose raw images are equal to ours, without its priority."""
    threads = settings.threads_per_worker
    return queue_of(spec.name, generation_print(spec, device=settings.device, threads=threads))


def queue_of(family: str, generation: dict[str, Any]) -> str:
    """The queue of the workers that bring this, without its priority."""
    return f"generate.{family}.{_short_digest(generation)}"


def cpu_queue() -> str:
    """The queue of the workers whose finished images are equal to ours, without its priority."""
    return f"cpu.{_short_digest(packing_print())}"


def queue_name(base: str, priority: str) -> str:
    """priority: interactive or batch; workers take from the former first."""
    return f"{base}.{priority}"


def _short_digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()[:12]


@cache
def device_model(device: str) -> str:
    """The GPU's name, or the CPU's instruction sets."""
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"DATAGEN_DEVICE={device}: no such device here; use cpu")
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {' '.join(_cpu_flags())}".strip()


@cache
def version(library: str) -> str:
    """Of a distribution, "none" if it is not installed (those of an extra, for a family that then
    refuses to load); it does not change while the process lives."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((row for row in text.splitlines() if row.startswith(("flags", "Features"))), "")
    present = set(line.partition(":")[2].split())
    return [name for name in _INSTRUCTION_SETS if name in present]
