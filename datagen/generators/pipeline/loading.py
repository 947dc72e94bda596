"""A checked pipeline, built and put on its device as the options say. Called by spec.py."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from datagen.errors import ModelError
from datagen.generators.pipeline.request import OpenedPipeline
from datagen.generators.pipeline.schedulers import scheduler_of
from datagen.generators.pipeline.weight_types import hold_as_float8, hold_as_int8

# What the libraries raise on files of the right kind with wrong contents.
_LOADING = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError),
    *(RuntimeError, SafetensorError, TypeError, ValueError),
)
# Networks that are run at every step: compiled, and held in eight bits.
_DENOISERS = ("unet", "transformer", "controlnet", "decoder")
# Images are judged by filters, where a decision is stored; these would black them out unsaid, or
# need a library that marks them.
_WITHOUT = ("safety_checker", "watermarker")


def load_pipeline(opened: OpenedPipeline, *, device: str) -> Any:
    """Raises ModelError if it does not load, or an option does not fit the device."""
    options, dtype = opened.options, getattr(torch, opened.options.dtype)
    if options.cpu_offload != "none" and not device.startswith("cuda"):
        raise ModelError(
            f"options.cpu_offload {options.cpu_offload}: moves weights between a GPU and the "
            f"CPU, and this worker runs on {device}; leave it out"
        )
    with _quiet(), _told_of(opened.folder.folder):
        pipe = _built(opened, dtype)
        _add_adapters(pipe, opened)
    if options.scheduler is not None:
        pipe.scheduler = scheduler_of(options.scheduler, pipe.scheduler)
    pipe.set_progress_bar_config(disable=True)
    for part in networks_of(pipe):
        part.eval().requires_grad_(False)
    _store_weights(pipe, options.quantization, dtype)
    if options.vae_tiling:
        pipe.vae.enable_tiling()
    _place(pipe, options.cpu_offload, device)
    if options.compile:
        for name in _DENOISERS:
            if isinstance(getattr(pipe, name, None), nn.Module):
                getattr(pipe, name).compile(dynamic=False)
    return pipe


def networks_of(pipe: Any) -> list[nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, nn.Module)]


def _built(opened: OpenedPipeline, dtype: torch.dtype) -> Any:
    if "text_proj" in opened.folder.components:
        return _from_parts(opened, dtype)
    given: dict[str, Any] = {name: None for name in _WITHOUT if _takes(opened, name)}
    if _takes(opened, "requires_safety_checker"):
        given["requires_safety_checker"] = False
    if opened.pipeline_class.startswith("StableDiffusionXL"):
        given["add_watermarker"] = False
    if opened.controlnet is not None:
        given["controlnet"] = getattr(
            diffusers, opened.controlnet.controlnet_class
        ).from_pretrained(
            opened.controlnet.folder,
            torch_dtype=dtype,
            variant=opened.controlnet.variant,
            use_safetensors=True,
            local_files_only=True,
        )
    return getattr(diffusers, opened.pipeline_class).from_pretrained(
        opened.folder.folder,
        torch_dtype=dtype,
        variant=opened.folder.variant,
        use_safetensors=True,
        local_files_only=True,
        **given,
    )


def _from_parts(opened: OpenedPipeline, dtype: torch.dtype) -> Any:
    """unCLIP, one part of which diffusers has moved from where folders say it is."""
    # mypy sees no export in what the package loads late.
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel  # type: ignore[attr-defined]

    parts = {}
    for name, (library, class_name) in opened.folder.components.items():
        home = transformers if library == "transformers" else diffusers
        kind = UnCLIPTextProjModel if name == "text_proj" else getattr(home, class_name)
        is_network = issubclass(kind, nn.Module)
        told = {"torch_dtype": dtype, "use_safetensors": True} if is_network else {}
        folder = opened.folder.folder / name
        parts[name] = kind.from_pretrained(folder, local_files_only=True, **told)
    return getattr(diffusers, opened.pipeline_class)(**parts)


def _takes(opened: OpenedPipeline, name: str) -> bool:
    kind = getattr(diffusers, opened.pipeline_class)
    required, optional = kind._get_signature_keys(kind)
    return name in required or name in optional


def _add_adapters(pipe: Any, opened: OpenedPipeline) -> None:
    """LoRA adapters are merged into the weights; embeddings join the vocabulary."""
    for inversion, token in opened.inversions:
        _add_inversion(pipe, inversion.path, token)
    for lora, weight in opened.loras:
        pipe.load_lora_weights(load_file(lora.path), adapter_name="added")
        pipe.set_adapters(["added"], [weight])
        pipe.fuse_lora()
        pipe.unload_lora_weights()


def _add_inversion(pipe: Any, path: Path, token: str) -> None:
    """An embedding of XL has a tensor for each of the two encoders, clip_l and clip_g."""
    state = load_file(path)
    if not {"clip_l", "clip_g"} <= state.keys():
        pipe.load_textual_inversion(state, token=token)
        return
    for key, tokenizer, encoder in (
        ("clip_l", pipe.tokenizer, pipe.text_encoder),
        ("clip_g", pipe.tokenizer_2, pipe.text_encoder_2),
    ):
        pipe.load_textual_inversion(
            {token: state[key]}, token=token, tokenizer=tokenizer, text_encoder=encoder
        )


def _store_weights(pipe: Any, quantization: str, dtype: torch.dtype) -> None:
    for name in _DENOISERS:
        network = getattr(pipe, name, None)
        if not isinstance(network, nn.Module) or quantization == "none":
            continue
        if quantization == "int8":
            hold_as_int8(network)
        else:
            hold_as_float8(network, dtype)


def _place(pipe: Any, offload: str, device: str) -> None:
    if offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=device)
    else:
        pipe.to(device)


@contextmanager
def _told_of(folder: Path) -> Iterator[None]:
    try:
        yield
    except _LOADING as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"pipeline folder {folder}: cannot be loaded ({reason}); save the pipeline again, "
            "with the parts that model_index.json names"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The libraries draw bars for each file, and warn of classes that they will drop."""
    bars = (transformers.utils.logging, diffusers.utils.logging)
    was_on = [each.is_progress_bar_enabled() for each in bars]
    for each in bars:
        each.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for each, on in zip(bars, was_on, strict=True):
            if on:
                each.enable_progress_bar()
