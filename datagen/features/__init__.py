"""Image features: extractors, their cache, and the small classifier that can be trained for them.

Called by training, references and evaluation.
"""

from __future__ import annotations

from pathlib import Path

from datagen.errors import InputError
from datagen.features.cache import FeatureCache
from datagen.features.classifier import (
    Classifier,
    Features,
    SmallClassifier,
    accuracy,
    embed,
    fit_classifier,
    fit_temperature,
    train_classifier,
)
from datagen.features.extractor import (
    ClassifierFeatures,
    FeatureExtractor,
    compute_features,
    resize_for_network,
)
from datagen.features.kernel import kernel_distance

__all__ = [
    "Classifier", "ClassifierFeatures", "FeatureCache", "FeatureExtractor", "Features",
    "SmallClassifier", "accuracy", "check_extractor", "compute_features", "embed",
    "fit_classifier", "fit_temperature", "kernel_distance", "load_extractor",
    "resize_for_network", "train_classifier",
]  # fmt: skip

MIN_IMAGENET_SIDE_PX = 64
_NAMED = ("efficientnet-lite0", "classifier")
_KINDS = ("torchscript", "export", "onnx", "inception")


def load_extractor(spec: str | None, classifier: Classifier) -> FeatureExtractor:
    """spec: None (EfficientNet-Lite0 for colour images of at least 64 px, else the classifier's
    own features), `efficientnet-lite0`, `classifier`, or `KIND:PATH` or `KIND:PATH?OPTIONS` with
    KIND one of torchscript, export, onnx, inception (options: see ModuleInput).

    Raises InputError if there is no such extractor, or its file cannot be used.
    """
    network = classifier.network
    if spec is None:
        is_large = min(network.image_size) >= MIN_IMAGENET_SIDE_PX and network.channels == 3
        spec = "efficientnet-lite0" if is_large else "classifier"
    if spec == "classifier":
        return ClassifierFeatures(classifier)
    if spec == "efficientnet-lite0":
        from datagen.features.efficientnet import EfficientNetLite0Features

        return EfficientNetLite0Features()
    return _load_from_file(spec)


def check_extractor(spec: str) -> None:
    """Raises InputError where load_extractor would for the text alone, or for a file that is not
    there: before minutes of work. What the file holds shows when it is loaded."""
    if spec in _NAMED:
        return
    from datagen.features.user_modules import ModuleInput

    kind, path, options = _parse(spec)
    if kind != "inception":
        ModuleInput.parse(options, source=spec)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise InputError(f"features {spec!r}: {path} {what}; expected the file of a network")


def _load_from_file(spec: str) -> FeatureExtractor:
    from datagen.features.user_modules import (
        InceptionFeatures,
        ModuleInput,
        load_exported,
        load_onnx,
        load_torchscript,
    )

    kind, path, options = _parse(spec)
    if kind == "inception":
        return InceptionFeatures(path)
    loaders = {"torchscript": load_torchscript, "export": load_exported, "onnx": load_onnx}
    return loaders[kind](path, ModuleInput.parse(options, source=spec))


def _parse(spec: str) -> tuple[str, Path, str]:
    """Kind, path and options. Raises InputError."""
    kind, _, rest = spec.partition(":")
    text, _, options = rest.partition("?")
    if kind not in _KINDS or not text or (kind == "inception" and options):
        raise InputError(
            f"features {spec!r}; expected {', '.join(_NAMED)}, torchscript:PATH, "
            "export:PATH, onnx:PATH or inception:PATH"
        )
    return kind, Path(text), options
