"""Parquet with the images inside, as Hugging Face `datasets` reads it. Called by `datagen pull`.

load_dataset("parquet", data_dir=...) and load_dataset(folder) give an Image and a ClassLabel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.formats.hugging_face import front_matter, split_configs, split_names
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
    done = 0
    with staged_folder(folder) as partial:
        (partial / "data").mkdir()
        for split, name in names.items():
            files = _grouped(reader.shards(split))
            for index, entries in enumerate(files):
                path = partial / "data" / f"{name}-{index:05d}-of-{len(files):05d}.parquet"
                for num_rows in _write_file(reader, entries, path):
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


def _write_file(reader: VersionReader, entries: list[ObjectEntry], path: Path) -> Iterator[int]:
    """Yields the number of rows of each row group written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(reader.class_names)
    class_ids = {name: i for i, name in enumerate(reader.class_names)}
    with pq.ParquetWriter(
        path, schema, compression="snappy", use_dictionary=["class_name", "label", "attributes"]
    ) as writer:
        for samples in _row_groups(reader, entries):
            rows = [_row(sample, class_ids) for sample in samples]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            yield len(rows)


def _row_groups(reader: VersionReader, entries: list[ObjectEntry]) -> Iterator[list[StoredSample]]:
    group: list[StoredSample] = []
    size_bytes = 0
    for entry in entries:
        for sample in reader.iter_shard(entry):
            group.append(sample)
            size_bytes += len(sample.png)
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


def _schema(class_names: Sequence[str]) -> pa.Schema:
    """The features travel in the schema's metadata, as `datasets` itself writes them."""
    import pyarrow as pa

    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "class_name": {"dtype": "string", "_type": "Value"},
        "ordinal": {"dtype": "int64", "_type": "Value"},
        "key": {"dtype": "string", "_type": "Value"},
        "attributes": {"dtype": "string", "_type": "Value"},
    }
    return pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "class_name": pa.string(),
            "ordinal": pa.int64(),
            "key": pa.string(),
            "attributes": pa.string(),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
