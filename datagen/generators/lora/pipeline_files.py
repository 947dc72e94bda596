"""A diffusers text-to-image pipeline on disk: found, checked and digested before anything opens it.

Torch-free. Input is hostile: classes come from an allowlist, each folder holds known files alone,
weights are safetensors, and nothing is fetched from a network. Called by spec.py.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from datagen.errors import ModelError
from datagen.generators.lora.options import LoraNetwork
from datagen.generators.lora.pipeline_configs import (
    NoiseSchedule,
    PipelineIndex,
    TextConfig,
    UnetConfig,
    VaeConfig,
)
from datagen.recipe import canonical_json

Schema = TypeVar("Schema", bound=BaseModel)

NUM_SIZE_IDS = 6  # of the image before a crop, of the crop's corner, and of the image wanted

_INDEX = "model_index.json"
_TEXT_BYTES, _WEIGHTS_BYTES = 16 << 20, 16 << 30
_NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")
_TEXT = ("config.json", "model.safetensors")
_VOCABULARY = ("vocab.json", "merges.txt")
_TOKENIZER = (
    *_VOCABULARY,
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
# Folder -> the files that it must hold. Tokenizers may hold some of _TOKENIZER.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "scheduler": ("scheduler_config.json",),
    "text_encoder": _TEXT,
    "tokenizer": (),
    "unet": _NETWORK,
    "vae": _NETWORK,
}
_REQUIRED_XL = _REQUIRED | {"text_encoder_2": _TEXT, "tokenizer_2": ()}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_REMEDY = "give a folder that diffusers' save_pretrained wrote with safe_serialization"


@dataclass(frozen=True)
class PipelineConfigs:
    """Read off its configuration files. is_xl: two text encoders, and a UNet that is told the size
    of the image. zero_empty_prompt: its encoding is all zeros."""

    schedule: NoiseSchedule
    unet: UnetConfig
    vae: VaeConfig
    is_xl: bool
    zero_empty_prompt: bool

    def latent_shape(self, image_size: tuple[int, int]) -> tuple[int, int, int]:
        """(C, h, w) of images of (height, width)."""
        height, width = (side // self.vae.factor for side in image_size)
        return self.vae.latent_channels, height, width


@dataclass(frozen=True)
class PipelineFiles:
    """A checked pipeline. sha256: over names and contents of the files that are used."""

    folder: Path
    sha256: str
    configs: PipelineConfigs


def open_pipeline(network: LoraNetwork) -> PipelineFiles:
    """Reads every byte of its files once, for the digest.

    Raises ModelError if it is missing, unsafe or of another kind, or if it is not the one of
    network.pipeline_sha256.
    """
    folder, root = _locate(network)
    try:
        _check_file(_INDEX, folder / _INDEX, root)
        index = _parse(folder / _INDEX, PipelineIndex)
        files = _checked_files(folder, root, is_xl=index.is_xl)
        configs = _read_configs(folder, index)
        digests = {name: _sha256(path) for name, path in files.items()}
    except OSError as error:
        raise ModelError(f"pipeline {folder}: cannot be read ({error}); {_REMEDY}") from None
    digest = hashlib.sha256(canonical_json(digests)).hexdigest()
    expected = network.pipeline_sha256
    if expected is not None and digest != expected:
        raise ModelError(
            f"pipeline {folder}: sha256 {digest}; expected {expected}: these are not the files "
            "that the model was tuned on; put the same pipeline there, or train again"
        )
    return PipelineFiles(folder, digest, configs)


def _locate(network: LoraNetwork) -> tuple[Path, Path]:
    """The pipeline's folder, and the one that links in it may point into."""
    if network.revision is None:
        folder = Path(network.pipeline)
        if not folder.is_dir():
            raise ModelError(
                f"network.pipeline: {network.pipeline!r} is not a folder; give the folder of a "
                "pipeline, or a hub id together with network.revision"
            )
        return folder, folder.resolve()
    if not _HUB_ID.match(network.pipeline):
        raise ModelError(
            f"network.pipeline: {network.pipeline!r}: expected a hub id such as owner/name, since "
            "network.revision is given; leave that out for a folder"
        )
    return _cached_snapshot(network.pipeline, network.revision)


def _cached_snapshot(repository: str, revision: str) -> tuple[Path, Path]:
    """Of the hub's cache on this machine; its snapshots are links to files beside them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        patterns = " ".join(f"'{name}'" for name in _download_patterns())
        raise ModelError(
            f"network.pipeline: {repository} at revision {revision} is not in this machine's "
            f"cache, and datagen fetches nothing; run: hf download {repository} --revision "
            f"{revision} --include {patterns}"
        ) from None
    return snapshot, snapshot.parent.parent.resolve()


def _download_patterns() -> Iterator[str]:
    yield _INDEX
    for part, names in _REQUIRED_XL.items():
        for name in names or _TOKENIZER:
            yield f"{part}/{name}"


def _checked_files(folder: Path, root: Path, *, is_xl: bool) -> dict[str, Path]:
    """Relative name -> path of each file that is used, sorted by name."""
    files = {_INDEX: folder / _INDEX}
    for part, required in (_REQUIRED_XL if is_xl else _REQUIRED).items():
        if not (folder / part).is_dir():
            raise ModelError(f"pipeline {folder}: folder {part} is missing; {_REMEDY}")
        names = {path.name for path in (folder / part).iterdir()}
        for name in sorted(names.difference(required or _TOKENIZER)):
            raise ModelError(f"pipeline {folder}: {_refusal(part, name)}")
        for name in sorted(set(required) - names):
            raise ModelError(f"pipeline {folder}: {part}/{name} is missing; {_REMEDY}")
        if not required and "tokenizer.json" not in names and not names.issuperset(_VOCABULARY):
            raise ModelError(f"pipeline {folder}: {part}/tokenizer.json is missing; {_REMEDY}")
        files |= {f"{part}/{name}": folder / part / name for name in names}
    for name, path in files.items():
        _check_file(name, path, root)
    return dict(sorted(files.items()))


def _refusal(part: str, name: str) -> str:
    shown = f"{part}/{name[:100]}"
    if name.endswith(_PICKLES):
        return (
            f"{shown} is a pickle, which can run code when it is opened; remove it "
            "(weights are safetensors alone)"
        )
    return f"{shown} does not belong there; remove it"


def _check_file(name: str, path: Path, root: Path) -> None:
    """A regular file of a bounded size, inside root however it is linked."""
    limit = _WEIGHTS_BYTES if name.endswith(".safetensors") else _TEXT_BYTES
    if not path.is_file() or not path.resolve().is_relative_to(root):
        raise ModelError(
            f"pipeline {path.parent}: {name}: expected a regular file of the pipeline; {_REMEDY}"
        )
    if path.stat().st_size > limit:
        raise ModelError(
            f"pipeline {path.parent}: {name}: {path.stat().st_size} bytes; expected at most "
            f"{limit}; {_REMEDY}"
        )


def _read_configs(folder: Path, index: PipelineIndex) -> PipelineConfigs:
    schedule = _parse(folder / "scheduler" / "scheduler_config.json", NoiseSchedule)
    unet = _parse(folder / "unet" / "config.json", UnetConfig)
    vae = _parse(folder / "vae" / "config.json", VaeConfig)
    parts = ("text_encoder", "text_encoder_2") if index.is_xl else ("text_encoder",)
    texts = [_parse(folder / part / "config.json", TextConfig) for part in parts]
    expected = {
        "in_channels": vae.latent_channels,
        "out_channels": vae.latent_channels,
        "cross_attention_dim": sum(text.hidden_size for text in texts),
        "addition_embed_type": "text_time" if index.is_xl else None,
    }
    if index.is_xl:
        sizes = NUM_SIZE_IDS * (unet.addition_time_embed_dim or 0)
        expected["projection_class_embeddings_input_dim"] = texts[-1].projection_dim + sizes
    for name, value in expected.items():
        if getattr(unet, name) != value:
            raise ModelError(
                f"pipeline {folder}: unet/config.json: {name} {getattr(unet, name)}; expected "
                f"{value}, as its other parts have it; only plain text-to-image pipelines are tuned"
            )
    zero_empty_prompt = index.is_xl and index.force_zeros_for_empty_prompt
    return PipelineConfigs(schedule, unet, vae, index.is_xl, zero_empty_prompt)


def _parse(path: Path, schema: type[Schema]) -> Schema:
    try:
        return schema.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"pipeline file {path}: {where}{': ' if where else ''}{first['msg']}; only Stable "
            "Diffusion pipelines of plain text-to-image are tuned"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"pipeline file {path}: not JSON ({error}); {_REMEDY}") from None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
