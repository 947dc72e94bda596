"""What classifies: networks in memory, asked one image at a time, so that a score is a function of
that image alone. Opened by classifiers.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.pretrained.classifiers import SAFETY_LABEL, OnnxInput
from datagen.pretrained.loading import Image, load_network, load_processor, prepare, told_of

Scores = NDArray[np.float64]


class Classifier(Protocol):
    labels: tuple[str, ...]

    def scores(self, image: Image) -> Scores:
        """image: (H, W, C) uint8. Returns (labels,): a probability each; of the safety checker, how
        far the image lies beyond what it allows."""
        ...


class TransformersClassifier:
    """Softmax over its labels, or a sigmoid of each where config.json says multi_label."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self.labels, self._folder = tuple(labels), folder
        self._network = load_network("AutoModelForImageClassification", folder)
        self._processor = load_processor(folder)
        self._is_multi = self._network.config.problem_type == "multi_label_classification"

    @torch.inference_mode()
    def scores(self, image: Image) -> Scores:
        inputs = prepare(self._processor, image, self._folder)
        with told_of(self._folder):
            logits = self._network(**inputs).logits[0].double().cpu()
        shares = logits.sigmoid() if self._is_multi else logits.softmax(-1)
        return _finite(np.asarray(shares.numpy(), np.float64), self._folder)


class SafetyChecker:
    """One score: the largest over 17 concepts of cosine less that concept's threshold; above 0 the
    pipeline would black the image out.

    Source: diffusers, StableDiffusionSafetyChecker.forward, whose rounding to 3 decimals before it
    decides is kept.
    """

    labels: tuple[str, ...] = (SAFETY_LABEL,)

    def __init__(self, folder: Path) -> None:
        is_pipeline = (folder / "safety_checker").is_dir()
        self._folder = folder
        self._network = load_network(
            "StableDiffusionSafetyChecker", folder / "safety_checker" if is_pipeline else folder
        )
        self._processor = load_processor(folder / "feature_extractor" if is_pipeline else folder)

    @torch.inference_mode()
    def scores(self, image: Image) -> Scores:
        net: Any = self._network
        inputs = prepare(self._processor, image, self._folder)
        with told_of(self._folder):
            embedded = net.visual_projection(net.vision_model(inputs["pixel_values"])[1])
            special = _cosines(embedded, net.special_care_embeds) - net.special_care_embeds_weights
            concepts = _cosines(embedded, net.concept_embeds) - net.concept_embeds_weights
        is_special = (special.double().cpu().numpy().round(3) > 0).any()
        beyond = concepts.double().cpu().numpy() + (0.01 if is_special else 0.0)
        return _finite(np.array([beyond.max().round(3)]), self._folder)


class OnnxClassifier:
    """Its first input, (N, C, H, W) float, and its first output, (N, labels)."""

    def __init__(self, path: Path, labels: Sequence[str], given: OnnxInput) -> None:
        self.labels, self._path, self._given = tuple(labels), path, given
        self._session = _open_session(path)
        entry = self._session.get_inputs()[0]
        self._name, shape = entry.name, entry.shape
        if entry.type != "tensor(float)" or len(shape) != 4 or shape[1] not in (1, 3):
            raise ModelError(
                f"{path}: its input is {entry.type} of {shape}; expected float of (images, 1 or 3, "
                "height, width)"
            )
        self._channels: int = shape[1]
        self._size = tuple(side if isinstance(side, int) else None for side in shape[2:])

    def scores(self, image: Image) -> Scores:
        batch = self._prepare(image)
        try:
            output = np.asarray(self._session.run(None, {self._name: batch})[0], np.float64)
        except Exception as error:  # onnxruntime has many
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"{self._path}: it refuses {batch.shape} float32: {reason}") from None
        if output.reshape(-1).shape != (len(self.labels),):
            raise ModelError(
                f"{self._path}: its output is {output.shape}; expected one number for each of "
                f"{len(self.labels)} labels"
            )
        return _finite(self._probabilities(output.reshape(-1)), self._path)

    def _prepare(self, image: Image) -> NDArray[np.float32]:
        from PIL import Image as Pictures

        mode = "L" if image.shape[2] == 1 else "RGB"
        picture = Pictures.fromarray(image[:, :, 0] if mode == "L" else image, mode)
        picture = picture.convert("L" if self._channels == 1 else "RGB")
        height, width = self._size
        size = (width or image.shape[1], height or image.shape[0])
        if picture.size != size:
            picture = picture.resize(size, Pictures.Resampling.BICUBIC)
        pixels = np.asarray(picture, np.float32).reshape(size[1], size[0], self._channels) / 255
        mean, std = (np.array(v[: self._channels], np.float32) for v in self._range)
        batch = ((pixels - mean) / std).transpose(2, 0, 1)[None]
        return np.ascontiguousarray(batch, np.float32)

    @property
    def _range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self._given.mean, self._given.std

    def _probabilities(self, output: Scores) -> Scores:
        if self._given.activation == "softmax":
            raised = np.exp(output - output.max())
            return np.asarray(raised / raised.sum(), np.float64)
        if self._given.activation == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-np.clip(output, -60, 60))), np.float64)
        if output.min() < -1e-3 or output.max() > 1 + 1e-3:
            raise ModelError(
                f"{self._path}: it gives {output.min():.3g} to {output.max():.3g}, which are no "
                "probabilities; give activation: softmax or sigmoid"
            )
        return output.clip(0, 1)


def _open_session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            f"{path}: onnxruntime is not installed; run: pip install 'datagen[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums everywhere
    options.log_severity_level = 4
    # Weights lie in the file itself: one that points at others gets none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path / "none")
    )
    try:
        return onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime has many, and the file is the user's
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{path}: cannot be read as ONNX ({reason})") from None


def _cosines(images: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
    normal = torch.nn.functional.normalize
    return (normal(images) @ normal(concepts).T)[0]


def _finite(scores: Scores, path: Path) -> Scores:
    """What is no number must not pass as harmless."""
    if not np.isfinite(scores).all():
        raise ModelError(f"{path}: it gives what is no number; check its weights")
    return scores
