"""YOLO text labels: boxes (`yolo`) and outlines (`yolo-segment`). Called by `datagen pull`.

Read by Ultralytics and what reads its layout.
Source: https://docs.ultralytics.com/datasets/detect/ and .../datasets/segment/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial as bound
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.formats.labelled import (
    INSTANCES,
    OBJECTS,
    category_id,
    category_ids,
    labels_with,
    png_shape,
    require,
)
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.label_polygons import Points, mask_polygons
from datagen.labels import LabelledObject, Labels

NEEDS = frozenset({OBJECTS})
NEEDS_SEGMENT = frozenset({OBJECTS, INSTANCES})
PROGRESS_SAMPLES = 256

_RESERVED = {"names", "nc", "path", "download"}  # fields of data.yaml
# Readers find labels by putting `labels` for the last `images` in the path of an image.
_FOLDERS = {"images", "labels"}

# One row of numbers for each object, in pixels, x and y in turn.
_Rows = Callable[[Labels], Iterator[tuple[LabelledObject, list[float]]]]


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes images/{split}/{key}.png, labels/{split}/{key}.txt and data.yaml.

    A row: class from 0, then centre x and y, width and height in [0, 1]. Yields the number of
    samples done so far. Raises as webdataset.export does, and InputError without objects.
    """
    require(reader, NEEDS, layout="yolo")
    yield from _export(reader, folder, NEEDS, _boxes)


def export_segment(reader: VersionReader, folder: Path) -> Iterator[int]:
    """As export; a row: class from 0, then the corners of the object's outline, see outline.

    Raises InputError also without instance masks.
    """
    require(reader, NEEDS_SEGMENT, layout="yolo-segment")
    yield from _export(reader, folder, NEEDS_SEGMENT, _outlines)


def fault(splits: Sequence[str], names: Sequence[str], kinds: Set[str]) -> str | None:
    """See FAULTS of formats."""
    for split in splits:
        if split in _RESERVED:
            return f"split {split!r}: data.yaml has a field of that name; rename the split"
        if split in _FOLDERS:
            return (
                f"split {split!r}: readers of yolo look for labels where the last folder `images` "
                "of a path is `labels`; rename the split"
            )
    return None


def outline(mask: NDArray[np.bool_]) -> Points:
    """mask: (H, W). (N, 2) corners of one closed polygon around exactly the mask's pixels, by the
    even-odd and by the nonzero rule; N is 0 for an empty mask.

    Further parts, and holes, are reached and left by a line of no width from the first corner: a
    row of YOLO's holds one polygon. Filled with cv2.fillPoly, which draws the line too, it covers
    the pixels under its lines as well.
    """
    rings = [ring for part in mask_polygons(mask) for ring in (part.outer, *part.holes)]
    path = rings[:1]
    for ring in rings[1:]:
        path += [rings[0][:1], ring, ring[:1]]
    return np.concatenate(path) if path else np.empty((0, 2))


def _export(
    reader: VersionReader, folder: Path, needed: frozenset[str], rows: _Rows
) -> Iterator[int]:
    ids = category_ids(reader)
    if found := fault(reader.splits, reader.names, needed):
        raise InputError(found)
    done = 0
    with staged_folder(folder) as partial:
        for split in reader.splits:
            images, texts = partial / "images" / split, partial / "labels" / split
            images.mkdir(parents=True)
            texts.mkdir(parents=True)
            for sample in reader.iter_samples(split):
                labels = labels_with(sample, needed)
                height, width, _ = png_shape(sample.png)
                number = bound(category_id, ids, key=sample.key)
                text = "".join(
                    _row(number(each.class_name) - 1, values, width, height)
                    for each, values in rows(labels)
                )
                (images / f"{sample.key}.png").write_bytes(sample.png)
                (texts / f"{sample.key}.txt").write_text(text)
                done += 1
                if done % PROGRESS_SAMPLES == 0:
                    yield done
        (partial / "data.yaml").write_text(_data_yaml(reader))
    yield done


def _data_yaml(reader: VersionReader) -> str:
    """Without `path`: the folders are then looked for beside the file."""
    import yaml

    names = dict(enumerate(reader.names[1:]))
    content = {**{split: f"images/{split}" for split in reader.splits}, "names": names}
    return yaml.safe_dump(content, sort_keys=False)


def _boxes(labels: Labels) -> Iterator[tuple[LabelledObject, list[float]]]:
    for each in labels.objects or ():
        x1, y1, x2, y2 = each.box_xyxy
        yield each, [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _outlines(labels: Labels) -> Iterator[tuple[LabelledObject, list[float]]]:
    """An object of which no pixel is seen has no outline, and no row."""
    instances = labels.instances
    assert instances is not None
    for k, each in enumerate(labels.objects or (), start=1):
        x1, y1 = (max(0, int(value)) for value in each.box_xyxy[:2])
        x2, y2 = (int(-(-value // 1)) for value in each.box_xyxy[2:])
        corners = outline(instances[y1:y2, x1:x2] == k) + np.array([x1, y1])
        if len(corners):
            yield each, corners.ravel().tolist()


def _row(number: int, values: list[float], width: int, height: int) -> str:
    sides = (width, height)
    shares = " ".join(f"{value / sides[i % 2]:.6f}" for i, value in enumerate(values))
    return f"{number} {shares}\n"
