"""Layouts that `datagen pull --format` makes out of a published version, and the stored one.

Each exporter writes a new folder from a VersionReader and yields the number of samples done. A
format is one module with an `export` and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path

from datagen.formats import (
    coco,
    dicom,
    imagefolder,
    masks,
    nifti,
    nnunet,
    parquet,
    voc,
    webdataset,
    yolo,
)
from datagen.formats.version import VersionReader

FORMATS: Mapping[str, Callable[[VersionReader, Path], Iterator[int]]] = {
    "webdataset": webdataset.export,
    "imagefolder": imagefolder.export,
    "parquet": parquet.export,
    "coco": coco.export,
    "yolo": yolo.export,
    "yolo-segment": yolo.export_segment,
    "voc": voc.export,
    "masks": masks.export,
    "nnunet": nnunet.export,
    "nifti": nifti.export,
    "dicom": dicom.export,
}

# Format => the kinds of labels that it cannot do without ("objects", "instances", "mask"); one that
# is not named needs none. Its exporter refuses a version that lacks them before it writes.
NEEDS: Mapping[str, frozenset[str]] = {
    "coco": coco.NEEDS,
    "yolo": yolo.NEEDS,
    "yolo-segment": yolo.NEEDS_SEGMENT,
    "voc": voc.NEEDS,
    "masks": masks.NEEDS,
    "nnunet": nnunet.NEEDS,
}

# Format => what it cannot hold, in words with the remedy, or None: of a version's splits, the names
# of its labels (the first "background") and the kinds of its labels. One that is not named holds
# any. Its exporter asks too, before it writes.
FAULTS: Mapping[str, Callable[[Sequence[str], Sequence[str], Set[str]], str | None]] = {
    "coco": coco.fault,
    "yolo": yolo.fault,
    "yolo-segment": yolo.fault,
    "voc": voc.fault,
    "nnunet": nnunet.fault,
}
