"""Detectors and segmentation networks in memory, asked one image at a time. Opened by
detector.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.label_shapes import Box
from datagen.pretrained.loading import (
    Image,
    device,
    load_network,
    load_processor,
    load_tokenizer,
    prepare,
    told_of,
)
from datagen.pretrained.matching import tokenized

Found = tuple[str, Box, float]


class BoxNetwork(Protocol):
    def boxes(self, image: Image, threshold: float) -> list[Found]:
        """image: (H, W, C) uint8. Text or label, box in xyxy pixels, confidence, of each."""
        ...


class QueriedBoxes:
    """Zero-shot: each place of the image is compared with each text.

    Source: Minderer et al. 2022, "Simple Open-Vocabulary Object Detection with Vision
    Transformers" (OWL-ViT), and 2023, "Scaling Open-Vocabulary Object Detection" (OWLv2).
    """

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder, self._texts = folder, tuple(texts)
        self._network = load_network("AutoModelForZeroShotObjectDetection", folder)
        self._processor = load_processor(folder)
        tokenizer = load_tokenizer(folder)
        limit = int(self._network.config.text_config.max_position_embeddings)
        rows = [tokenized(tokenizer, text, limit, folder) for text in texts]
        self._ids, self._is_read = (
            torch.cat(each).to(device()) for each in zip(*rows, strict=True)
        )

    @torch.inference_mode()
    def boxes(self, image: Image, threshold: float) -> list[Found]:
        pixels = prepare(self._processor, image, self._folder)["pixel_values"]
        with told_of(self._folder):
            outputs = self._network(
                input_ids=self._ids, attention_mask=self._is_read, pixel_values=pixels
            )
        return _boxes(self._processor, outputs, image, threshold, self._texts, self._folder)


class LabelledBoxes:
    """A network that knows its own labels, such as DETR (Carion et al. 2020) or YOLOS."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._network = load_network("AutoModelForObjectDetection", folder)
        self._processor = load_processor(folder)
        named: dict[int, str] = self._network.config.id2label
        self._labels = tuple(named[index] for index in sorted(named))

    @torch.inference_mode()
    def boxes(self, image: Image, threshold: float) -> list[Found]:
        inputs = prepare(self._processor, image, self._folder)
        with told_of(self._folder):
            outputs = self._network(**inputs)
        return _boxes(self._processor, outputs, image, threshold, self._labels, self._folder)


class PixelNetwork:
    """Semantic segmentation: a score for each label and pixel, or masks with classes each.

    Source of the latter: Cheng et al. 2021, "Per-Pixel Classification is Not All You Need for
    Semantic Segmentation" (MaskFormer), section 3.4, semantic inference.
    """

    def __init__(self, folder: Path, *, has_queries: bool) -> None:
        self._folder, self._has_queries = folder, has_queries
        self._network = load_network(
            "AutoModelForUniversalSegmentation"
            if has_queries
            else "AutoModelForSemanticSegmentation",
            folder,
        )
        self._processor = load_processor(folder)

    @torch.inference_mode()
    def shares(self, image: Image) -> NDArray[np.float32]:
        """image: (H, W, C) uint8. Returns (labels, H, W), 0 to 1."""
        inputs = prepare(self._processor, image, self._folder)
        with told_of(self._folder):
            outputs = self._network(**inputs)
            scores = _of_queries(outputs) if self._has_queries else outputs.logits
        large = torch.nn.functional.interpolate(
            scores.float(), image.shape[:2], mode="bilinear", align_corners=False
        )[0]
        shares = large.clamp(0, 1) if self._has_queries else large.softmax(0)
        if not bool(shares.isfinite().all()):
            raise ModelError(f"{self._folder}: it gives what is no number; check its weights")
        return np.asarray(shares.cpu().numpy(), np.float32)


def _of_queries(outputs: Any) -> torch.Tensor:
    """(1, labels, h, w)."""
    if "class_queries_logits" in outputs:
        classes, masks = outputs.class_queries_logits, outputs.masks_queries_logits
    else:  # DETR's names
        classes, masks = outputs.logits, outputs.pred_masks
    return torch.einsum("nqc,nqhw->nchw", classes.softmax(-1)[..., :-1], masks.sigmoid())


def _boxes(
    processor: Any,
    outputs: Any,
    image: Image,
    threshold: float,
    texts: Sequence[str],
    folder: Path,
) -> list[Found]:
    """By the family's own reading of its outputs: softmax or sigmoid, padded to a square or not."""
    if not bool(outputs.logits.isfinite().all()):
        raise ModelError(f"{folder}: it gives what is no number; check its weights")
    found = processor.post_process_object_detection(
        outputs, threshold=threshold, target_sizes=[image.shape[:2]]
    )[0]
    rows = zip(
        found["labels"].tolist(), found["boxes"].tolist(), found["scores"].tolist(), strict=True
    )
    return [(texts[label], (x0, y0, x1, y1), share) for label, (x0, y0, x1, y1), share in rows]
