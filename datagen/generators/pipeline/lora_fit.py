"""Whether a LoRA adapter fits a pipeline: names and shapes of its tensors against the base's.

Torch-free: safetensors headers alone. Called by registration.py and loading.py.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, section 4.1: to a
weight of (out, in) a product B A is added, with A of (rank, in) and B of (out, rank). The names are
those of peft (lora_A, lora_B), older diffusers (lora.down, lora.up) and kohya (lora_down, lora_up).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from datagen.errors import ModelError
from datagen.generators.pipeline.folder_files import checked_file, tensor_entries
from datagen.generators.pipeline.opened_files import LoraFile, PipelineFolder
from datagen.generators.pipeline.part_fit import core_of

_KEY = re.compile(
    r"(?P<module>.+?)(?:\.lora_linear_layer|\.lora|_lora)[._](?P<side>A|B|down|up)"
    r"(?:\.\w+)?\.weight"
)
_KOHYA = (
    *(("lora_te2_", "text_encoder_2"), ("lora_te1_", "text_encoder"), ("lora_te_", "text_encoder")),
    *(("lora_unet_", None), ("lora_transformer_", None)),
)
_DOTTED = (
    *(("text_encoder_2.", "text_encoder_2"), ("text_encoder.", "text_encoder")),
    *(("unet.", None), ("transformer.", None), ("diffusion_model.", None)),
    ("base_model.model.", None),
)
# Block names of the original implementations, which the libraries translate.
_ORIGINAL = re.compile(
    r"(?:^|[._])(?:input_blocks|middle_block|output_blocks|double_blocks|single_blocks|joint_blocks)"
)
_ATTENTION = re.compile(r"(attn\d?)[._](to_[qkv])(?:$|\.)")


@dataclass(frozen=True)
class _Base:
    """The weights of one component. shapes: module -> shape of its weight, by dotted name and with
    underscores. attention: of attn1.to_q and the like, each shape that occurs."""

    shapes: Mapping[str, tuple[int, ...]]
    attention: Mapping[str, frozenset[tuple[int, int]]]


def check_lora(lora: LoraFile, pipeline: PipelineFolder) -> None:
    """Raises ModelError, with the tensor and both shapes, if it was made for another base."""
    what = f"lora {lora.path}"
    bases: dict[str, _Base] = {}
    num_known = 0
    for entry in tensor_entries(lora.path):
        match = _KEY.fullmatch(entry.name)
        if match is None or len(entry.shape) < 2:
            continue
        component, module = _target(match["module"], pipeline)
        if component not in pipeline.components:
            raise ModelError(
                f"{what}: tensor {entry.name} is for a {component}, which {pipeline.folder} has "
                "none of: the LoRA was made for another base"
            )
        if component not in bases:
            bases[component] = _read_base(pipeline, component)
        is_down = match["side"] in ("A", "down")
        problem = _misfit(bases[component], module, entry.shape, is_down=is_down)
        if problem:
            raise ModelError(
                f"{what}: tensor {entry.name} of shape {list(entry.shape)}: {component} of "
                f"{pipeline.folder} {problem}: the LoRA was made for another base"
            )
        num_known += 1
    if not num_known:
        raise ModelError(
            f"{what}: no tensor is one of a LoRA (lora_A and lora_B, or lora_down and lora_up); "
            "name a file that diffusers' load_lora_weights takes"
        )


def _target(module: str, pipeline: PipelineFolder) -> tuple[str, str]:
    """The component that is adapted, and the name of the module in it."""
    for prefix, component in (*_KOHYA, *_DOTTED):
        if module.startswith(prefix):
            return component or core_of(pipeline), module.removeprefix(prefix)
    return core_of(pipeline), module


def _misfit(base: _Base, module: str, shape: tuple[int, ...], *, is_down: bool) -> str:
    """In words; empty if it fits."""
    weight = _find(base, module)
    width, place = (shape[1], 1) if is_down else (shape[0], 0)
    if weight is not None:
        return "" if weight[place] == width else f"has a weight of shape {list(weight)} there"
    if _ORIGINAL.search(module) is None:
        return "has no such module"
    attention = _ATTENTION.search(module)
    known = base.attention.get(".".join(attention.groups()), frozenset()) if attention else None
    if not known or any(pair[place] == width for pair in known):
        return ""
    shapes = " or ".join(str(list(pair)) for pair in sorted(known))
    return f"has weights of shape {shapes} in such places"


def _find(base: _Base, module: str) -> tuple[int, ...] | None:
    """Older files name an attention's processor, and leave out what follows to_out."""
    plain = module.replace(".processor", "")
    for name in (plain, f"{plain}.0", plain.removeprefix("text_model."), f"text_model.{plain}"):
        if name in base.shapes:
            return base.shapes[name]
    return base.shapes.get(module.removeprefix("text_model_"))


def _read_base(pipeline: PipelineFolder, component: str) -> _Base:
    shapes: dict[str, tuple[int, ...]] = {}
    attention: dict[str, set[tuple[int, int]]] = {}
    what = f"pipeline {pipeline.folder}"
    for name in pipeline.files:
        if not (name.startswith(f"{component}/") and name.endswith(".safetensors")):
            continue
        path = checked_file(what, name, pipeline.folder / name, pipeline.root)
        for entry in tensor_entries(path):
            if not entry.name.endswith(".weight") or len(entry.shape) < 2:
                continue
            module = entry.name.removesuffix(".weight")
            shapes[module] = shapes[module.replace(".", "_")] = entry.shape
            if match := _ATTENTION.search(module):
                pair = (entry.shape[0], entry.shape[1])
                attention.setdefault(".".join(match.groups()), set()).add(pair)
    return _Base(shapes, {place: frozenset(pairs) for place, pairs in attention.items()})
