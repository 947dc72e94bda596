"""The index: one Parquet row per sample, beside the shards. Called by the engine's finish stage.

Equal rows in equal order give equal bytes for one pyarrow version, whatever the process or its
threads; `created_by` names that version, which is part of the execution fingerprint.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from datagen.recipe import canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP_ROWS = 8192

# Column -> Arrow type. "json" is JSON text, or a mapping or list that canonical_json writes.
COLUMNS = {
    "key": "string",
    "class_name": "string",
    "class_id": "int32",
    "ordinal": "int64",
    "split": "string",
    "attempt": "int32",
    "attempt_key": "string",
    "seed": "int64",
    "augmentation_seed": "int64",
    "image_sha256": "string",
    "raw_sha256": "string",
    "shard": "string",
    "offset": "int64",
    "size": "int64",
    "attributes": "json",
    "scores": "json",
    "augmentations": "json",
}
# Everywhere else values hardly repeat, and a dictionary would only be given up half way.
_REPEATING = ["class_name", "class_id", "split", "attempt", "shard", "attributes"]


def write_index(rows: Iterable[Mapping[str, Any]], *, has_labels: bool = False) -> bytes:
    """Returns the Parquet file. rows: each with every column of COLUMNS; others are ignored.

    has_labels: whether there are any beside the class, then in a column of their own.

    shard: path of the tar within the version. offset, size: of the PNG in the tar, in bytes.
    Holds one row group of rows at a time, and the compressed file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = COLUMNS | {"labels": "json"} if has_labels else COLUMNS
    schema = pa.schema(
        [pa.field(name, _arrow_type(kind), nullable=False) for name, kind in columns.items()]
    )
    remaining = iter(rows)
    target = io.BytesIO()
    with pq.ParquetWriter(
        target,
        schema,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=_REPEATING,
        write_statistics=True,
        store_schema=False,
    ) as writer:
        while group := list(islice(remaining, ROW_GROUP_ROWS)):
            arrays = [_column(group, name, kind) for name, kind in columns.items()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), ROW_GROUP_ROWS)
    return target.getvalue()


def _arrow_type(kind: str) -> pa.DataType:
    import pyarrow as pa

    return pa.string() if kind == "json" else pa.type_for_alias(kind)


def _column(rows: list[Mapping[str, Any]], name: str, kind: str) -> pa.Array:
    import pyarrow as pa

    values = [row[name] for row in rows]
    if kind == "json":
        values = [v if isinstance(v, str) else canonical_json(v).decode() for v in values]
    return pa.array(values, _arrow_type(kind))
