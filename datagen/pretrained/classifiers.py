"""Image classifiers of the user's: a folder of transformers, an ONNX file, or the safety checker of
a Stable Diffusion pipeline. Called by filters/moderation.py and filters/prompt_agreement.py.

What is checked and digested here needs no torch; open_classifier does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from datagen.errors import ModelError
from datagen.pretrained.folder import (
    PretrainedFolder,
    check_kind,
    check_unchanged,
    file_digest,
    open_folder,
)

if TYPE_CHECKING:
    from datagen.pretrained.classifying import Classifier

Activation = Literal["softmax", "sigmoid", "none"]
Kind = Literal["transformers", "onnx", "safety-checker"]

SAFETY_LABEL = "safety_checker"  # of its one score, which is no probability
PURPOSE = "an image classifier"
# Those whose image processors prepare one image in the same way whatever is installed.
MODEL_TYPES = frozenset(
    {
        *("beit", "bit", "clip", "convnext", "convnextv2", "data2vec-vision", "deit", "dinov2"),
        *("dinov2_with_registers", "efficientnet", "focalnet", "hiera", "levit", "mobilenet_v1"),
        *("mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "pvt", "pvt_v2", "regnet"),
        *("resnet", "segformer", "siglip", "swiftformer", "swin", "swinv2", "vit"),
    }
)
_MAX_ONNX_BYTES = 2 << 30
_MAX_LABELS = 100_000


@dataclass(frozen=True)
class OnnxInput:
    """How an ONNX network is fed: (pixels / 255 - mean) / std by channel; activation: what makes
    probabilities of its outputs, "none" where they are some already."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    activation: Activation | None = None


@dataclass(frozen=True)
class ClassifierFile:
    """A checked classifier. digest: of its files. labels: of its scores, in order. folders: the
    network's and the image processor's, of the safety checker two."""

    kind: Kind
    path: Path
    digest: str
    labels: tuple[str, ...]
    folders: tuple[PretrainedFolder, ...] = ()


def find_classifier(path: Path, *, labels: Sequence[str] = ()) -> ClassifierFile:
    """labels: of an ONNX file's outputs; left out, the lines of labels.txt beside it.

    Raises ModelError if nothing is there, or it is no classifier that is opened here.
    """
    if path.suffix.lower() == ".onnx":
        return _onnx(path, labels)
    if labels:
        raise ModelError(f"{path}: labels are given for ONNX files alone; config.json names these")
    if (path / "safety_checker").is_dir():
        checker = open_folder(
            path / "safety_checker", purpose="a safety checker", has_preprocessor=False
        )
        if not (path / "feature_extractor" / "preprocessor_config.json").is_file():
            raise ModelError(f"{path}: its safety checker needs the folder feature_extractor too")
        for name in ("processor_config.json", "config.json"):
            if (path / "feature_extractor" / name).exists():
                raise ModelError(f"{path}: feature_extractor/{name} does not belong there")
        return _safety_checker(path, checker, path / "feature_extractor")
    folder = open_folder(path, purpose=PURPOSE)
    if folder.architecture == "StableDiffusionSafetyChecker":
        return _safety_checker(path, folder, path)
    check_kind(folder, MODEL_TYPES, ending="ForImageClassification", purpose=PURPOSE)
    return ClassifierFile("transformers", path, folder.sha256, folder.labels, (folder,))


def open_classifier(found: ClassifierFile, given: OnnxInput | None = None) -> Classifier:
    """Kept open: the next filter or unit of the same files has it at once. Raises ModelError."""
    return _opened(found.path, found.digest, found.labels, given or OnnxInput(), found.kind)


@lru_cache(maxsize=3)
def _opened(
    path: Path, digest: str, labels: tuple[str, ...], given: OnnxInput, kind: Kind
) -> Classifier:
    """digest: other files are another classifier, though their path be the same."""
    from datagen.pretrained.classifying import (
        OnnxClassifier,
        SafetyChecker,
        TransformersClassifier,
    )

    opened: Classifier
    if kind == "onnx":
        opened = OnnxClassifier(path, labels, given)
    elif kind == "safety-checker":
        opened = SafetyChecker(path)
    else:
        opened = TransformersClassifier(path, labels)
    now = find_classifier(path, labels=labels if kind == "onnx" else ())
    check_unchanged(path, now.digest, digest)
    return opened


def _safety_checker(path: Path, checker: PretrainedFolder, extractor: Path) -> ClassifierFile:
    if checker.architecture != "StableDiffusionSafetyChecker":
        raise ModelError(
            f"{checker.path}: architecture {checker.architecture!r}; expected "
            "StableDiffusionSafetyChecker"
        )
    digest = f"{checker.sha256[:32]}{file_digest(extractor / 'preprocessor_config.json')[:32]}"
    return ClassifierFile("safety-checker", path, digest, (SAFETY_LABEL,), (checker,))


def _onnx(path: Path, labels: Sequence[str]) -> ClassifierFile:
    if not path.is_file() or path.is_symlink():
        what = "is no plain file" if path.exists() else "does not exist"
        raise ModelError(f"{path}: {what}; expected an ONNX file")
    if path.stat().st_size > _MAX_ONNX_BYTES:
        raise ModelError(f"{path}: above {_MAX_ONNX_BYTES} bytes; expected one ONNX network")
    beside = path.with_name("labels.txt")
    if not labels:
        if not beside.is_file() or beside.stat().st_size > _MAX_LABELS * 100:
            raise ModelError(f"{path}: what do its outputs mean? Give labels: [...], or {beside}")
        try:
            labels = [line.strip() for line in beside.read_text("utf-8").splitlines()]
        except UnicodeDecodeError:
            raise ModelError(f"{beside}: expected a label a line, as UTF-8 text") from None
        labels = labels[: len(labels) - (not labels or labels[-1] == "")]
    if not labels or len(set(labels)) != len(labels) or "" in labels:
        raise ModelError(f"{path}: labels {list(labels)[:5]}: expected each once, none empty")
    return ClassifierFile("onnx", path, file_digest(path), tuple(labels))
