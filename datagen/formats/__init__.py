"""Layouts that `datagen pull --format` makes out of a published version, and the stored one.

Each exporter writes a new folder from a VersionReader and yields the number of samples done. A
format is one module with an `export` and one line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from datagen.formats import imagefolder, parquet, webdataset
from datagen.formats.version import VersionReader

FORMATS: Mapping[str, Callable[[VersionReader, Path], Iterator[int]]] = {
    "webdataset": webdataset.export,
    "imagefolder": imagefolder.export,
    "parquet": parquet.export,
}
