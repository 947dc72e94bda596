"""Features of a user's own network: TorchScript, torch.export or ONNX, or FID's Inception.

A file named here is the user's own: such files can run code. Recipes and uploads must never name
one; the command line does. Made by load_extractor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import parse_qsl

import numpy as np
import torch

from datagen.errors import InputError
from datagen.features.extractor import FeatureRows, Images, resize_for_network
from datagen.images import sha256_hex

InputRange = Literal["0..1", "0..255", "-1..1", "imagenet"]
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BATCH_SIZE = 16
Run = Callable[[torch.Tensor], torch.Tensor]
Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class ModuleInput:
    """What the network is given: (N, channels, size, size) float32 RGB in this range."""

    size: int = 224
    range: InputRange = "0..1"
    channels: int = 3

    @classmethod
    def parse(cls, text: str, *, source: str) -> ModuleInput:
        """text: such as "size=299&range=-1..1&channels=1". source: for the error."""
        values = dict(parse_qsl(text, keep_blank_values=True))
        size, channels = values.pop("size", "224"), values.pop("channels", "3")
        chosen = values.pop("range", "0..1")
        is_sound = size.isdigit() and 1 <= int(size) <= 4096 and channels in ("1", "3")
        for name in get_args(InputRange):
            if name == chosen and is_sound and not values:
                return cls(int(size), name, int(channels))
        raise InputError(
            f"features {source}: options {text!r}; expected size=1 to 4096, channels=1 or 3 and "
            f"range={', '.join(get_args(InputRange))}, joined by &"
        )

    def prepare(self, images: Images) -> torch.Tensor:
        pixels = resize_for_network(images, self.size)
        if self.channels == 1:
            pixels = pixels.mean(dim=1, keepdim=True)
        if self.range == "0..1":
            pixels = pixels / 255
        elif self.range == "-1..1":
            pixels = pixels / 127.5 - 1
        elif self.range == "imagenet":
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_IMAGENET_MEAN, _IMAGENET_STD))
            pixels = (pixels / 255 - mean) / std
        return pixels.contiguous()


class ModuleFeatures:
    """Any function from images to (N, dim) features; further axes are averaged over places."""

    def __init__(self, name: str, path: Path, run: Run, given: ModuleInput) -> None:
        self.name, self._run, self._given = name, run, given
        self.digest = sha256_hex(f"{name} {given} {sha256_hex(path.read_bytes())}".encode())
        self.dim = self.extract(np.zeros((1, given.size, given.size, 3), np.uint8)).shape[1]

    @torch.inference_mode()
    def extract(self, images: Images) -> FeatureRows:
        parts = []
        for first in range(0, len(images), _BATCH_SIZE):
            batch = self._given.prepare(images[first : first + _BATCH_SIZE])
            try:
                features = self._run(batch)
            except (
                Exception
            ) as error:  # each runtime has errors of its own; the network is the user's
                reason = " ".join(str(error).split())[:300]
                raise InputError(
                    f"features {self.name}: the network refuses {tuple(batch.shape)} float32: "
                    f"{reason}; set size, channels and range to what it was trained with"
                ) from error
            if not isinstance(features, torch.Tensor) or features.ndim not in (2, 4):
                raise InputError(
                    f"features {self.name}: expected one output of (images, features) or "
                    f"(images, features, height, width), got {_describe(features)}"
                )
            parts.append(features.flatten(2).mean(2) if features.ndim == 4 else features)
        return torch.cat(parts).float().numpy()


def load_torchscript(path: Path, given: ModuleInput) -> ModuleFeatures:
    module = _opened(path, "TorchScript", lambda: torch.jit.load(path, map_location="cpu").eval())
    return ModuleFeatures(f"torchscript:{path.name}", path, module, given)


def load_exported(path: Path, given: ModuleInput) -> ModuleFeatures:
    """torch.export with a dynamic batch axis."""
    module = _opened(path, "torch.export", lambda: torch.export.load(path).module())
    return ModuleFeatures(f"export:{path.name}", path, module, given)


def load_onnx(path: Path, given: ModuleInput) -> ModuleFeatures:
    """Its first input and first output, with a free batch axis."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"features onnx:{path}: onnxruntime is not installed; run: pip install 'datagen[onnx]'"
        ) from None
    session = _opened(
        path,
        "ONNX",
        lambda: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]),
    )
    name_in, name_out = session.get_inputs()[0].name, session.get_outputs()[0].name

    def run(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([name_out], {name_in: batch.numpy()})[0])

    return ModuleFeatures(f"onnx:{path.name}", path, run, given)


class InceptionFeatures:
    """The 2048 features of FID as published: TensorFlow's weights of 2015-12-05 and its resizing.

    Network and resizing are torch-fidelity's, checked there against the original; the weights are
    the user's file pt_inception-2015-12-05-6726825d.pth.
    """

    name = "inception-2015-12-05"
    dim = 2048

    def __init__(self, path: Path) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError:
            raise InputError(
                f"features inception:{path}: torch-fidelity is not installed; "
                "run: pip install torch-fidelity"
            ) from None
        self._network = _opened(
            path,
            "the state of FID's Inception network",
            lambda: FeatureExtractorInceptionV3(
                self.name, [str(self.dim)], feature_extractor_weights_path=str(path)
            ),
        )
        self.digest = sha256_hex(f"{self.name} {sha256_hex(path.read_bytes())}".encode())

    @torch.inference_mode()
    def extract(self, images: Images) -> FeatureRows:
        parts = []
        for first in range(0, len(images), _BATCH_SIZE):
            pixels = torch.from_numpy(np.ascontiguousarray(images[first : first + _BATCH_SIZE]))
            batch = pixels.permute(0, 3, 1, 2).expand(-1, 3, -1, -1).contiguous()
            parts.append(self._network(batch)[0])
        return torch.cat(parts).float().numpy()


def _opened(path: Path, kind: str, load: Callable[[], Loaded]) -> Loaded:
    if not path.is_file():
        raise InputError(f"features {path}: no such file; expected {kind}")
    try:
        return load()
    except Exception as error:  # each format has errors of its own; the file is the user's
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"features {path}: cannot be read as {kind}: {lines[0]}") from error


def _describe(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, torch.Tensor) else type(output).__name__
