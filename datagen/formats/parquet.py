"""Parquet with the images inside, as Hugging Face `datasets` reads it. Called by `datagen pull`.

load_dataset("parquet", data_dir=...) and load_dataset(folder) give an Image and a ClassLabel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.formats.hugging_face import front_matter, split_configs, split_names
from datagen.formats.labelled import (
    INSTANCES,
    MASK,
    OBJECTS,
    bbox_xywh,
    category_id,
    category_ids,
    class_words_in,
    kinds_in,
    labels_with,
)
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.manifest import ObjectEntry
from datagen.recipe import canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

FILE_BYTES = 256 * 2**20
ROW_GROUP_BYTES = 16 * 2**20
ROW_GROUP_ROWS = 1024


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes data/{split}-{i}-of-{n}.parquet and README.md. Yields the samples done so far.

    A file holds whole shards, about FILE_BYTES of them; memory holds one row group.
    Raises as webdataset.export does, and InputError if a split's name does not fit.
    """
    names = split_names(reader.splits)
    optional = class_words_in(reader) | kinds_in(reader)
    done = 0
    with staged_folder(folder) as partial:
        (partial / "data").mkdir()
        for split, name in names.items():
            files = _grouped(reader.shards(split))
            for index, entries in enumerate(files):
                path = partial / "data" / f"{name}-{index:05d}-of-{len(files):05d}.parquet"
                for num_rows in _write_file(reader, entries, path, optional):
                    done += num_rows
                    yield done
        readme = front_matter(
            {"configs": split_configs({name: f"data/{name}-*" for name in names.values()})}
        )
        (partial / "README.md").write_text(f"{readme}\n# {reader.manifest.name}\n")


def _grouped(entries: Sequence[ObjectEntry]) -> list[list[ObjectEntry]]:
    groups: list[list[ObjectEntry]] = []
    size_bytes = FILE_BYTES
    for entry in entries:
        if size_bytes + entry.size_bytes > FILE_BYTES:
            groups.append([])
            size_bytes = 0
        groups[-1].append(entry)
        size_bytes += entry.size_bytes
    return groups


def _write_file(
    reader: VersionReader, entries: list[ObjectEntry], path: Path, optional: Set[str]
) -> Iterator[int]:
    """Yields the number of rows of each row group written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(reader.class_names, reader.names, optional)
    class_ids = {name: i for i, name in enumerate(reader.class_names)}
    ids = category_ids(reader)
    with pq.ParquetWriter(
        path, schema, compression="snappy", use_dictionary=["class_name", "label", "attributes"]
    ) as writer:
        for samples in _row_groups(reader, entries):
            rows = [
                {**_row(sample, class_ids), **_optional_cells(sample, optional, ids)}
                for sample in samples
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            yield len(rows)


def _row_groups(reader: VersionReader, entries: list[ObjectEntry]) -> Iterator[list[StoredSample]]:
    group: list[StoredSample] = []
    size_bytes = 0
    for entry in entries:
        for sample in reader.iter_shard(entry):
            group.append(sample)
            size_bytes += len(sample.png) + len(sample.mask) + len(sample.instances)
            if len(group) == ROW_GROUP_ROWS or size_bytes >= ROW_GROUP_BYTES:
                yield group
                group, size_bytes = [], 0
    if group:
        yield group


def _row(sample: StoredSample, class_ids: dict[str, int]) -> dict[str, Any]:
    class_name = sample.record["class_name"]
    return {
        "image": {"bytes": sample.png, "path": f"{sample.key}.png"},
        "label": class_ids[class_name],
        "class_name": class_name,
        "ordinal": sample.record["ordinal"],
        "key": sample.key,
        "attributes": canonical_json(sample.record["attributes"]).decode(),
    }


def _optional_cells(
    sample: StoredSample, optional: Set[str], ids: Mapping[str, int]
) -> dict[str, Any]:
    given = sample.record.get("labels", {})
    cells: dict[str, Any] = {"also": given.get("also", []), "caption": given.get("caption")}
    for kind, png in ((MASK, sample.mask), (INSTANCES, sample.instances)):
        if kind in optional:
            cells[kind] = {"bytes": png, "path": f"{sample.key}.{kind}.png"}
    if OBJECTS in optional:
        objects = labels_with(sample, {OBJECTS}).objects or ()
        cells[OBJECTS] = {
            "bbox": [bbox_xywh(each.box_xyxy) for each in objects],
            "categories": [category_id(ids, each.class_name, sample.key) - 1 for each in objects],
        }
    return cells


def _optional_columns(
    names: Sequence[str], optional: Set[str]
) -> dict[str, tuple[dict[str, Any], pa.DataType]]:
    """Column => its feature and its type. Only what the version has: another one's files stay as
    they were. Categories of objects count from 0, background left out."""
    import pyarrow as pa

    text = {"dtype": "string", "_type": "Value"}
    number = {"dtype": "float64", "_type": "Value"}
    category = {"names": list(names[1:]), "_type": "ClassLabel"}
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    objects = {"bbox": _list_of(_list_of(number)), "categories": _list_of(category)}
    columns: dict[str, tuple[dict[str, Any], pa.DataType]] = {
        "also": (_list_of(text), pa.list_(pa.string())),
        "caption": (text, pa.string()),
        MASK: ({"_type": "Image"}, image),
        INSTANCES: ({"_type": "Image"}, image),
        OBJECTS: (
            objects,
            pa.struct(
                {
                    "bbox": pa.list_(pa.list_(pa.float64())),
                    "categories": pa.list_(pa.int64()),
                }
            ),
        ),
    }
    return {name: column for name, column in columns.items() if name in optional}


def _list_of(feature: dict[str, Any]) -> dict[str, Any]:
    """As `datasets` named it from its beginning; since 4.0 it writes List, and reads both."""
    return {"feature": feature, "_type": "Sequence"}


def _schema(class_names: Sequence[str], names: Sequence[str], optional: Set[str]) -> pa.Schema:
    """The features travel in the schema's metadata, as `datasets` itself writes them."""
    import pyarrow as pa

    columns = _optional_columns(names, optional)

    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "class_name": {"dtype": "string", "_type": "Value"},
        "ordinal": {"dtype": "int64", "_type": "Value"},
        "key": {"dtype": "string", "_type": "Value"},
        "attributes": {"dtype": "string", "_type": "Value"},
        **{name: feature for name, (feature, _) in columns.items()},
    }
    return pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "class_name": pa.string(),
            "ordinal": pa.int64(),
            "key": pa.string(),
            "attributes": pa.string(),
            **{name: kind for name, (_, kind) in columns.items()},
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
