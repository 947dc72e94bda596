"""What was found in one image: as arrays, as the text that is stored, and as labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datagen.errors import LabelError
from datagen.label_shapes import (
    Box,
    from_run_lengths,
    instance_boxes,
    pack_run_lengths,
    run_lengths,
    unpack_run_lengths,
)
from datagen.labels import Instances, LabelledObject, Mask

BACKGROUND = "background"
_BOX_DECIMALS, _CONFIDENCE_DECIMALS = 2, 4


class Findings(NamedTuple):
    """mask, instances: None where boxes alone were asked for. objects: in the order of the
    instances, where there are any."""

    objects: tuple[LabelledObject, ...]
    mask: Mask | None
    instances: Instances | None


@dataclass(frozen=True)
class Detection:
    """One object. region: (H, W), its pixels, where there are label maps; regions of one image do
    not overlap."""

    class_name: str
    box_xyxy: Box
    confidence: float
    region: NDArray[np.bool_] | None = None


def to_text(found: Sequence[Detection], shape: tuple[int, int] | None) -> str:
    """Compact JSON. shape: (H, W) of label maps; None for boxes alone."""
    content: dict[str, Any] = {"objects": [_entry(each) for each in found]}
    if shape is not None:
        content["size"] = list(shape)
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def labels_from(text: str, names: Sequence[str]) -> Findings:
    """text: of Detector.detect. names: of classes, the first "background".

    Raises LabelError for a class without a name.
    """
    content = json.loads(text)
    entries = content["objects"]
    for entry in entries:
        if entry["class"] not in names[1:]:
            raise LabelError(f"object of {entry['class']!r}; expected {', '.join(names[1:])}")
    objects = tuple(
        LabelledObject(entry["class"], _box(entry["box"]), confidence=entry["confidence"])
        for entry in entries
    )
    if "size" not in content:
        return Findings(objects, None, None)
    shape = (int(content["size"][0]), int(content["size"][1]))
    mask, instances = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    for number, entry in enumerate(entries, start=1):
        region = from_run_lengths(unpack_run_lengths(entry["region"]), shape)
        mask[region] = names.index(entry["class"])
        instances[region] = number
    boxes = instance_boxes(instances)
    if [boxes.get(number) for number in range(1, len(objects) + 1)] != [
        each.box_xyxy for each in objects
    ]:
        raise LabelError("regions of detected objects overlap, or lie outside of their boxes")
    return Findings(objects, mask, instances)


def _entry(each: Detection) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "class": each.class_name,
        "box": [round(end, _BOX_DECIMALS) for end in each.box_xyxy],
        "confidence": round(each.confidence, _CONFIDENCE_DECIMALS),
    }
    if each.region is not None:
        entry["region"] = pack_run_lengths(run_lengths(each.region))
    return entry


def _box(ends: Sequence[float]) -> Box:
    x0, y0, x1, y1 = (float(end) for end in ends)
    return x0, y0, x1, y1
