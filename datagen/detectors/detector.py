"""The detector that a recipe asks for: its folder checked and digested, its network opened by the
first image. Torch-free until then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.detector_schema import DetectorRequest
from datagen.detectors.boxes import chosen, filled
from datagen.detectors.findings import BACKGROUND, Detection, to_text
from datagen.detectors.regions import parts
from datagen.errors import ModelError
from datagen.pretrained.folder import (
    PREPROCESSOR,
    PretrainedFolder,
    check_unchanged,
    open_folder,
    read_json,
)

if TYPE_CHECKING:
    from datagen.detectors.networks import BoxNetwork, PixelNetwork

Kind = Literal["zero-shot", "objects", "pixels", "queries"]

# What its architecture ends in, and its model_type -> how it is asked.
_KINDS: dict[Kind, tuple[tuple[str, ...], frozenset[str]]] = {
    "zero-shot": (("ForObjectDetection",), frozenset({"owlvit", "owlv2"})),
    "objects": (
        ("ForObjectDetection",),
        frozenset(
            {
                *("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "detr"),
                *("rt_detr", "rt_detr_v2", "table-transformer", "yolos"),
            }
        ),
    ),
    "pixels": (
        ("ForSemanticSegmentation",),
        frozenset(
            {
                *("beit", "data2vec-vision", "dpt", "mobilenet_v2", "mobilevit", "mobilevitv2"),
                *("segformer", "upernet"),
            }
        ),
    ),
    "queries": (
        ("ForUniversalSegmentation", "ForInstanceSegmentation", "ForSegmentation"),
        frozenset({"detr", "mask2former", "maskformer"}),
    ),
}
_PURPOSE = "a detector or a segmentation network"


@dataclass(frozen=True)
class Detector:
    """digest: over its files and all of the request that decides what is found. names: of classes,
    the first "background"."""

    request: DetectorRequest
    folder: PretrainedFolder
    kind: Kind

    @property
    def digest(self) -> str:
        asked = self.request.model_dump(mode="json", exclude={"directory"})
        return hashlib.sha256(json.dumps([self.folder.sha256, asked]).encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        return (BACKGROUND, *self.request.classes)

    @property
    def has_label_maps(self) -> bool:
        return self.kind in ("pixels", "queries") or self.request.masks == "box"

    @property
    def label_kinds(self) -> frozenset[str]:
        """As Conditioner.label_kinds: of objects with instances, boxes are made of those."""
        return frozenset({"mask", "instances"} if self.has_label_maps else {"boxes"})

    def detect(self, images: NDArray[np.uint8], class_names: Sequence[str]) -> list[str]:
        """images: (N, H, W, C) uint8, finished. class_names: of each.

        Returns a text for each, which labels_from reads; a function of that image and its class
        alone: the network sees one image at a time. Raises ModelError.
        """
        shape = (images.shape[1], images.shape[2])
        texts = []
        for image, class_name in zip(images, class_names, strict=True):
            found = self._in_one(image, class_name, shape)
            texts.append(to_text(found, shape if self.has_label_maps else None))
        return texts

    def _in_one(
        self, image: NDArray[np.uint8], class_name: str, shape: tuple[int, int]
    ) -> list[Detection]:
        asked, limit = self.request, self.request.max_objects
        classes = [name for name in asked.classes if not asked.own_class or name == class_name]
        if self.kind in ("pixels", "queries"):
            network = _pixel_network(self.folder.path, self.folder.sha256, self.kind)
            places = {name: self.folder.labels.index(asked.classes[name]) for name in classes}
            return parts(
                network.shares(image),
                places,
                names=self.names,
                threshold=asked.threshold,
                min_pixels=asked.min_pixels,
                max_objects=limit,
            )
        boxes = _box_network(
            self.folder.path, self.folder.sha256, self.kind, tuple(asked.classes.values())
        ).boxes(image, asked.threshold)
        words = {text: name for name, text in asked.classes.items() if name in classes}
        found = [
            Detection(words[text], box, confidence)
            for text, box, confidence in boxes
            if text in words
        ]
        kept = chosen(found, shape, max_overlap=asked.max_overlap, max_objects=limit)
        return filled(kept, shape) if self.has_label_maps else kept


def open_detector(request: DetectorRequest) -> Detector:
    """Raises ModelError, naming field, value and remedy, if its folder cannot be used so."""
    path = Path(request.directory).expanduser()
    folder = open_folder(path, purpose=_PURPOSE)
    kind = _kind_of(folder)
    if BACKGROUND in request.classes:
        raise ModelError(f"classes: {BACKGROUND!r} is what no object covers; leave it out")
    texts = list(request.classes.values())
    if len(set(texts)) < len(texts):
        raise ModelError(f"classes: {texts}: two are looked for alike; say each in its own words")
    if kind == "zero-shot":
        open_folder(path, purpose=_PURPOSE, has_tokenizer=True)
        return Detector(request, folder, kind)
    for name, label in request.classes.items():
        if label not in folder.labels:
            raise ModelError(
                f"classes: {name}: {path} has no label {label!r}; it has "
                f"{', '.join(folder.labels[:40])}"
            )
    if kind in ("pixels", "queries"):
        if request.masks == "box":
            raise ModelError(f"masks: box; {path} gives true label maps: leave masks out")
        if read_json(path / PREPROCESSOR).get("do_center_crop"):
            raise ModelError(
                f"{path / PREPROCESSOR}: do_center_crop cuts the edges off, whose pixels would "
                "have no label; set it to false, and crop_size's numbers as size"
            )
    return Detector(request, folder, kind)


def _kind_of(folder: PretrainedFolder) -> Kind:
    for kind, (endings, model_types) in _KINDS.items():
        if folder.model_type in model_types and folder.architecture.endswith(endings):
            return kind
    known = sorted({name for _, names in _KINDS.values() for name in names})
    raise ModelError(
        f"{folder.path}: model_type {folder.model_type!r}, architecture {folder.architecture!r}; "
        f"expected {_PURPOSE} of {', '.join(known)}"
    )


@lru_cache(maxsize=1)
def _box_network(path: Path, digest: str, kind: Kind, texts: tuple[str, ...]) -> BoxNetwork:
    """digest: other files are another network, though their path be the same."""
    from datagen.detectors.networks import LabelledBoxes, QueriedBoxes

    opened = QueriedBoxes(path, texts) if kind == "zero-shot" else LabelledBoxes(path)
    check_unchanged(path, open_folder(path, purpose=_PURPOSE).sha256, digest)
    return opened


@lru_cache(maxsize=1)
def _pixel_network(path: Path, digest: str, kind: Kind) -> PixelNetwork:
    from datagen.detectors.networks import PixelNetwork

    opened = PixelNetwork(path, has_queries=kind == "queries")
    check_unchanged(path, open_folder(path, purpose=_PURPOSE).sha256, digest)
    return opened
