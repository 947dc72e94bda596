"""index.py: read back by pyarrow; equal bytes in another process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.formats.index import COLUMNS, ROW_GROUP_ROWS, write_index
from datagen.images import sha256_hex
from tests.formats.readers import ROOT
from tests.formats.small_version import SmallVersion, publish_small_version


@pytest.fixture
def version(tmp_path: Path) -> SmallVersion:
    return publish_small_version(tmp_path)


def numbered_rows(count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
        digest = sha256_hex(str(i).encode())
        yield {
            **dict.fromkeys(COLUMNS, i),
            **dict.fromkeys(("key", "attempt_key", "image_sha256", "raw_sha256"), digest),
            **{name: f"{name}-{i % 7}" for name in ("class_name", "split", "shard")},
            **{"attributes": {"b": i % 3, "a": 1.0}, "scores": {"x": i / 7}, "augmentations": []},
        }


def test_pyarrow_reads_every_row_and_type(version: SmallVersion) -> None:
    table = pq.read_table(io.BytesIO(write_index(version.rows)))
    assert table.column_names == list(COLUMNS)
    assert table.schema.field("seed").type == pa.int64()
    assert table.schema.field("class_id").type == pa.int32()
    assert not any(field.nullable for field in table.schema)
    for seen, row in zip(table.to_pylist(), version.rows, strict=True):
        for name, kind in COLUMNS.items():
            value = json.loads(seen[name]) if kind == "json" else seen[name]
            assert value == row[name], name


def test_offsets_point_at_the_png(version: SmallVersion) -> None:
    for row in pq.read_table(io.BytesIO(write_index(version.rows))).to_pylist():
        data = (version.folder / row["shard"]).read_bytes()
        png = data[row["offset"] : row["offset"] + row["size"]]
        assert sha256_hex(png) == row["image_sha256"]


def test_equal_rows_give_equal_bytes_in_another_process() -> None:
    rows = 2 * ROW_GROUP_ROWS + 5
    script = (
        "from tests.formats.test_index import numbered_rows, write_index, sha256_hex;"
        f"print(sha256_hex(write_index(numbered_rows({rows}))))"
    )
    here = sha256_hex(write_index(numbered_rows(rows)))
    for threads in ("1", "4"):
        environment = {"OMP_NUM_THREADS": threads, "PYTHONHASHSEED": threads, "PATH": ""}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        assert done.stdout.decode().strip() == here


def test_order_of_keys_and_a_round_float_do_not_change_the_bytes(version: SmallVersion) -> None:
    turned = [dict(reversed(row.items())) for row in version.rows]
    for row in turned:
        row["attributes"] = dict(reversed(row["attributes"].items()))
    assert write_index(turned) == write_index(version.rows)


def test_rows_are_written_in_bounded_groups() -> None:
    metadata = pq.read_metadata(io.BytesIO(write_index(numbered_rows(ROW_GROUP_ROWS + 1))))
    assert [metadata.row_group(i).num_rows for i in range(2)] == [ROW_GROUP_ROWS, 1]


def test_no_rows_give_an_empty_table() -> None:
    assert pq.read_table(io.BytesIO(write_index([]))).num_rows == 0


def test_a_missing_column_is_an_error(version: SmallVersion) -> None:
    row = {name: value for name, value in version.rows[0].items() if name != "seed"}
    with pytest.raises(KeyError, match="seed"):
        write_index([row])
