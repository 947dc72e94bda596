"""Pascal VOC: XML boxes, and palette PNGs of classes and objects. Called by `datagen pull`.

Source: Everingham and Winn, The PASCAL Visual Object Classes Challenge 2012 Development Kit. Its
images are JPEG; ours stay PNG, since loss would change what the labels are true of.
"""

from __future__ import annotations

import math
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from pathlib import Path

import numpy as np

from datagen.errors import InputError
from datagen.formats.labelled import (
    INSTANCES,
    MASK,
    OBJECTS,
    category_id,
    category_ids,
    kinds_in,
    labels_with,
    png_shape,
    require,
)
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.labels import Instances, Labels, Mask

NEEDS = frozenset({OBJECTS})
PROGRESS_SAMPLES = 256
MAX_VALUE = 254  # 255 is VOC's "void"

_IMAGES, _ANNOTATIONS = "JPEGImages", "Annotations"
_MAPS = {MASK: "SegmentationClass", INSTANCES: "SegmentationObject"}


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes JPEGImages/{key}.png, Annotations/{key}.xml and ImageSets/Main/{split}.txt; where
    there are masks also SegmentationClass/, SegmentationObject/ and ImageSets/Segmentation/;
    labels.txt, the name of value 0, 1, ... a line.

    Yields the number of samples done so far. Raises as webdataset.export does, and InputError
    without objects, or with values that the palette does not have.
    """
    require(reader, NEEDS, layout="voc")
    kinds = kinds_in(reader)
    if found := fault(reader.splits, reader.names, kinds):
        raise InputError(found)
    ids = category_ids(reader)
    done = 0
    with staged_folder(folder) as partial:
        maps = {kind: partial / name for kind, name in _MAPS.items() if kind in kinds}
        for path in (partial / _IMAGES, partial / _ANNOTATIONS, *maps.values()):
            path.mkdir()
        main = partial / "ImageSets" / "Main"
        main.mkdir(parents=True)
        for split in reader.splits:
            with (main / f"{split}.txt").open("w") as members:
                for sample in reader.iter_samples(split):
                    labels = labels_with(sample, kinds)
                    for each in labels.objects or ():
                        category_id(ids, each.class_name, sample.key)
                    _write_sample(partial, maps, sample, labels)
                    members.write(f"{sample.key}\n")
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        if maps:
            shutil.copytree(main, main.with_name("Segmentation"))
        (partial / "labels.txt").write_text("".join(f"{name}\n" for name in reader.names))
    yield done


def fault(splits: Sequence[str], names: Sequence[str], kinds: Set[str]) -> str | None:
    """See FAULTS of formats."""
    if MASK in kinds and len(names) - 1 > MAX_VALUE:
        return (
            f"{len(names) - 1} names of labels: the palette of voc ends at {MAX_VALUE}; name "
            "fewer, or use the format coco or masks"
        )
    return None


def _write_sample(
    partial: Path, maps: Mapping[str, Path], sample: StoredSample, labels: Labels
) -> None:
    (partial / _IMAGES / f"{sample.key}.png").write_bytes(sample.png)
    document = _document(sample, labels, is_segmented=bool(maps))
    (partial / _ANNOTATIONS / f"{sample.key}.xml").write_bytes(document)
    for kind, path in maps.items():
        values = labels.mask if kind == MASK else labels.instances
        assert values is not None
        _write_palette(path / f"{sample.key}.png", values, key=sample.key)


def _document(sample: StoredSample, labels: Labels, *, is_segmented: bool) -> bytes:
    """VOC's boxes are whole numbers from 1, the last pixel included: of a box with fractions, the
    pixels that it touches. What is not known of an object has VOC's word for it, or 0."""
    height, width, channels = png_shape(sample.png)
    root = ET.Element("annotation")
    _add(root, "folder", "VOC")
    _add(root, "filename", f"{sample.key}.png")
    _add(ET.SubElement(root, "source"), "database", "datagen, synthetic")
    size = ET.SubElement(root, "size")
    for name, length in (("width", width), ("height", height), ("depth", channels)):
        _add(size, name, length)
    _add(root, "segmented", int(is_segmented))
    for each in labels.objects or ():
        x1, y1, x2, y2 = each.box_xyxy
        entry = ET.SubElement(root, "object")
        _add(entry, "name", each.class_name)
        _add(entry, "pose", "Unspecified")
        _add(entry, "truncated", 0)
        _add(entry, "difficult", 0)
        box = ET.SubElement(entry, "bndbox")
        _add(box, "xmin", math.floor(x1) + 1)
        _add(box, "ymin", math.floor(y1) + 1)
        _add(box, "xmax", math.ceil(x2))
        _add(box, "ymax", math.ceil(y2))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode").encode() + b"\n"


def _add(parent: ET.Element, name: str, value: str | int) -> None:
    ET.SubElement(parent, name).text = str(value)


def _write_palette(path: Path, values: Mask | Instances, *, key: str) -> None:
    from PIL import Image as PillowImage

    if (largest := int(values.max(initial=0))) > MAX_VALUE:
        raise InputError(
            f"{key}: value {largest} in {path.parent.name}: the palette of voc ends at "
            f"{MAX_VALUE}; pull as coco or masks"
        )
    image = PillowImage.fromarray(values.astype(np.uint8))
    image.putpalette(_palette())
    image.save(path)


@cache
def _palette() -> bytes:
    """RGB of values 0 to 255. Source: the development kit's VOClabelcolormap: the bits of a value,
    three by three from the lowest, are bits of red, green and blue, from their highest."""
    colours = bytearray()
    for value in range(256):
        for channel in range(3):
            bits = ((value >> (3 * i + channel)) & 1 for i in range(3))
            colours.append(sum(bit << (7 - i) for i, bit in enumerate(bits)))
    return bytes(colours)
