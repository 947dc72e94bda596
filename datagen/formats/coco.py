"""COCO: detection, instance segmentation, keypoints and captions. Called by `datagen pull`.

Read by pycocotools and what builds on it. Boxes, keypoints and masks count pixels from the top
left corner from 0, as ours do.
Source: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from datagen.errors import InputError
from datagen.formats.labelled import (
    OBJECTS,
    bbox_xywh,
    category_id,
    category_ids,
    labels_with,
    png_shape,
    require,
)
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.label_shapes import run_lengths
from datagen.labels import Labels

NEEDS = frozenset({OBJECTS})
PROGRESS_SAMPLES = 256
FOLDER = "annotations"

_PARTS = ("images", "annotations", "captions")
_DECIMALS = 4


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes {split}/{key}.png, annotations/instances_{split}.json and, where there are captions,
    captions_{split}.json. Yields the number of samples done so far.

    One pass, one sample in memory: the lists of a file are written beside each other and joined at
    the end. Ids count from 1 in the order of the version, images and annotations over all splits.
    Raises as webdataset.export does, and InputError if the version has no objects.
    """
    require(reader, NEEDS, layout="coco")
    if found := fault(reader.splits, reader.names, NEEDS):
        raise InputError(found)
    pass_ = _Pass(category_ids(reader))
    with staged_folder(folder) as partial:
        (partial / FOLDER).mkdir()
        for split in reader.splits:
            (partial / split).mkdir()
            with ExitStack() as stack:
                parts = {
                    part: stack.enter_context(_part(partial, split, part).open("wb"))
                    for part in _PARTS
                }
                for sample in reader.iter_samples(split):
                    (partial / split / f"{sample.key}.png").write_bytes(sample.png)
                    pass_.add(sample, parts)
                    if pass_.num_images % PROGRESS_SAMPLES == 0:
                        yield pass_.num_images
        for split in reader.splits:
            _join(partial, split, pass_, _info(reader))
    yield pass_.num_images


def fault(splits: Sequence[str], names: Sequence[str], kinds: Set[str]) -> str | None:
    """See FAULTS of formats."""
    if FOLDER in splits:
        return f"split {FOLDER!r}: coco has a folder of that name; rename the split"
    return None


@dataclass
class _Pass:
    """What is counted on the way. keypoints: category => name => its place, as first seen."""

    ids: Mapping[str, int]
    num_images: int = 0
    num_annotations: int = 0
    num_captions: int = 0
    keypoints: dict[int, dict[str, int]] = field(default_factory=dict)

    def add(self, sample: StoredSample, parts: Mapping[str, BinaryIO]) -> None:
        labels = labels_with(sample, NEEDS)
        self.num_images += 1
        parts["images"].write(_line(_image(self.num_images, sample, labels)))
        for annotation in self._annotations(sample.key, labels):
            parts["annotations"].write(_line(annotation))
        if labels.caption is not None:
            self.num_captions += 1
            caption = {"id": self.num_captions, "image_id": self.num_images}
            parts["captions"].write(_line({**caption, "caption": labels.caption}))

    def _annotations(self, key: str, labels: Labels) -> Iterator[dict[str, Any]]:
        """segmentation: uncompressed run lengths, as COCO publishes for crowds: exact, where its
        polygons are not. score: of an object that a detector found, as COCO's results have it.
        keypoints: [name, x, y, visibility] of each, until all have places."""
        for number, each in enumerate(labels.objects or (), start=1):
            self.num_annotations += 1
            box = bbox_xywh(each.box_xyxy)
            category = category_id(self.ids, each.class_name, key)
            annotation: dict[str, Any] = {
                "id": self.num_annotations,
                "image_id": self.num_images,
                "category_id": category,
                "bbox": box,
                "area": round(box[2] * box[3], _DECIMALS),
                "iscrowd": 0,
            }
            if labels.instances is not None:
                counts = run_lengths(labels.instances == number)
                annotation["area"] = sum(counts[1::2])
                annotation["segmentation"] = {
                    "size": list(labels.instances.shape),
                    "counts": counts,
                }
            if each.confidence is not None:
                annotation["score"] = round(each.confidence, _DECIMALS)
            if each.keypoints:
                places = self.keypoints.setdefault(category, {})
                for point in each.keypoints:
                    places.setdefault(point.name, len(places))
                annotation["keypoints"] = [[p.name, p.x, p.y, p.visibility] for p in each.keypoints]
            yield annotation


def _image(number: int, sample: StoredSample, labels: Labels) -> dict[str, Any]:
    """Beside COCO's fields: labels, the classes of the whole image, the requested one first."""
    height, width, _ = png_shape(sample.png)
    content: dict[str, Any] = {
        "id": number,
        "file_name": f"{sample.key}.png",
        "height": height,
        "width": width,
        "labels": [labels.class_name, *labels.also],
    }
    if labels.attributes:
        content["attributes"] = dict(labels.attributes)
    if labels.spacing_mm is not None:
        content["spacing_mm"] = list(labels.spacing_mm)
    return content


def _info(reader: VersionReader) -> dict[str, Any]:
    """No dates: equal versions give equal files."""
    manifest = reader.manifest
    return {
        "description": f"{manifest.name}@{manifest.version}, synthetic",
        "version": str(manifest.version),
        "digest": manifest.digest,
    }


def _join(partial: Path, split: str, pass_: _Pass, info: dict[str, Any]) -> None:
    """The parts of one split become its files, and go."""
    images, annotations, captions = (_part(partial, split, part) for part in _PARTS)
    categories: list[dict[str, Any]] = []
    for name, number in pass_.ids.items():
        category: dict[str, Any] = {"id": number, "name": name, "supercategory": "object"}
        if number in pass_.keypoints:
            category.update(keypoints=list(pass_.keypoints[number]), skeleton=[])
        categories.append(category)
    head = {"info": info, "licenses": []}
    lists = {"images": _lines(images), "annotations": _placed(annotations, pass_.keypoints)}
    target = partial / FOLDER / f"instances_{split}.json"
    _write(target, {**head, "categories": categories}, lists)
    if captions.stat().st_size:
        lists = {"images": _lines(images), "annotations": _lines(captions)}
        _write(partial / FOLDER / f"captions_{split}.json", head, lists)
    for path in (images, annotations, captions):
        path.unlink()


def _placed(path: Path, keypoints: Mapping[int, Mapping[str, int]]) -> Iterator[bytes]:
    """Keypoints as x, y, visibility in the order of their category; 0, 0, 0 where there is none."""
    for line in _lines(path):
        if not keypoints:
            yield line
            continue
        annotation = json.loads(line)
        if places := keypoints.get(annotation["category_id"]):
            points = annotation.get("keypoints", [])
            flat: list[float] = [0, 0, 0] * len(places)
            for name, x, y, visibility in points:
                at = 3 * places[name]
                flat[at : at + 3] = [x, y, visibility]
            annotation.update(keypoints=flat, num_keypoints=len(points))
        yield _line(annotation).rstrip()


def _write(path: Path, head: dict[str, Any], lists: Mapping[str, Iterator[bytes]]) -> None:
    with path.open("wb") as target:
        target.write(_line(head).rstrip()[:-1])
        for name, items in lists.items():
            target.write(b',"%s":[' % name.encode())
            for i, item in enumerate(items):
                target.write(b",\n" + item if i else b"\n" + item)
            target.write(b"]")
        target.write(b"}\n")


def _part(partial: Path, split: str, part: str) -> Path:
    return partial / FOLDER / f"{split}.{part}.partial"


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as source:
        for line in source:
            yield line.rstrip(b"\n")


def _line(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"
