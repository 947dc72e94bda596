"""Which labels a version has beside the class, and the refusal of a layout that needs others.

Used by the exporters of boxes and masks, and by those that write them where there are any.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Set
from contextlib import closing

from datagen.errors import InputError, VerifyError
from datagen.formats.version import StoredSample, VersionReader
from datagen.labels import Labels

OBJECTS, INSTANCES, MASK = "objects", "instances", "mask"
_WORDS = {
    OBJECTS: "objects with boxes",
    INSTANCES: "instance masks",
    MASK: "label maps (a class for each pixel)",
}
_CHANNELS_BY_COLOUR_TYPE = {0: 1, 2: 3}
_DECIMALS = 4  # as many as a sample's JSON has


def kinds_of(labels: Labels) -> frozenset[str]:
    """Of OBJECTS, INSTANCES and MASK, those that an image has; no object at all is an answer."""
    return frozenset(kind for kind in _WORDS if getattr(labels, kind) is not None)


def kinds_in(reader: VersionReader) -> frozenset[str]:
    """Those of every image of a version: conditions of one recipe all have the same. Reads the
    first sample, and nothing where the recipe draws no labels."""
    if not reader.names:
        return frozenset()
    with closing(reader.iter_samples()) as samples:  # type: ignore[type-var]
        first = next(samples, None)
    return frozenset() if first is None else kinds_of(first.labels)


def class_words_in(reader: VersionReader) -> frozenset[str]:
    """Of "also" and "caption", those that the recipe states of a class or more."""
    classes = reader.manifest.recipe["classes"]
    return frozenset(word for word in ("also", "caption") if any(c.get(word) for c in classes))


def require(reader: VersionReader, needed: Set[str], *, layout: str) -> None:
    """Called before anything is written. Raises InputError if the version lacks what it needs."""
    present = kinds_in(reader)
    if missing := [_WORDS[kind] for kind in _WORDS if kind in needed - present]:
        version = f"{reader.manifest.name}@{reader.manifest.version}"
        found = [_WORDS[kind] for kind in _WORDS if kind in present]
        raise InputError(
            f"{version} has no {' and no '.join(missing)}, and {layout} needs them: "
            f"it has the class of each image{''.join(f', {words}' for words in found)}; pull it "
            "as webdataset, imagefolder or parquet, or condition its recipe on what has them"
        )


def labels_with(sample: StoredSample, needed: Set[str]) -> Labels:
    """Raises VerifyError for a sample without labels that the first one of its version has."""
    labels = sample.labels
    if missing := needed - kinds_of(labels):
        words = " and ".join(_WORDS[kind] for kind in _WORDS if kind in missing)
        raise VerifyError(f"{sample.key} has no {words}: expected them on every sample")
    return labels


def category_ids(reader: VersionReader) -> dict[str, int]:
    """Class of an object => its number from 1, as in label maps, whose 0 is background."""
    return {name: number for number, name in enumerate(reader.names) if number}


def category_id(ids: Mapping[str, int], class_name: str, key: str) -> int:
    """Raises VerifyError for an object of a class that the version does not name."""
    if class_name not in ids:
        raise VerifyError(
            f"{key}: an object of class {class_name!r}: expected one of {', '.join(ids)}"
        )
    return ids[class_name]


def bbox_xywh(box_xyxy: tuple[float, float, float, float]) -> list[float]:
    """COCO's and Hugging Face's form: left, top, width, height in pixels."""
    x1, y1, x2, y2 = box_xyxy
    return [x1, y1, round(x2 - x1, _DECIMALS), round(y2 - y1, _DECIMALS)]


def png_shape(png: bytes) -> tuple[int, int, int]:
    """(height, width, channels), by its header. Source: Portable Network Graphics, third edition,
    section 11.2.1."""
    if len(png) < 26 or png[12:16] != b"IHDR" or png[25] not in _CHANNELS_BY_COLOUR_TYPE:
        raise VerifyError("an image is no grey or RGB PNG: expected what the pack stage writes")
    width, height = struct.unpack_from(">II", png, 16)
    return height, width, _CHANNELS_BY_COLOUR_TYPE[png[25]]
