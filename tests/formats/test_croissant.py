"""croissant.py, validated and read by mlcroissant."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from datagen.errors import InputError
from datagen.formats.croissant import FIELDS, croissant
from datagen.formats.index import write_index
from datagen.formats.origin import ModelOrigin
from datagen.images import sha256_hex
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import canonical_json
from tests.formats.readers import read_by
from tests.formats.small_version import PREFIX, SmallVersion, publish_small_version

DAY = datetime.date(2026, 1, 2)


def _document(manifest: Manifest, license: str | None = "MIT") -> dict[str, Any]:
    return croissant(manifest, origin=ModelOrigin(license), date_published=DAY)


def _with_index_in_two(version: SmallVersion) -> Manifest:
    entries = []
    for i, rows in enumerate((version.rows[:13], version.rows[13:])):
        data = write_index(rows)
        path = f"index/{i:05d}-{sha256_hex(data)}.parquet"
        version.store.put_new(PREFIX + path, data)
        entries.append(ObjectEntry(path, sha256_hex(data), len(data)))
    (version.folder / version.manifest.index[0].path).unlink()
    return dataclasses.replace(version.manifest, index=entries)


@pytest.mark.parametrize("license", ["MIT", None])
def test_mlcroissant_finds_no_fault_and_reads_every_record(
    tmp_path: Path, license: str | None
) -> None:
    version = publish_small_version(tmp_path / "store")
    manifest = _with_index_in_two(version) if license else version.manifest
    path = version.folder / "croissant.json"
    path.write_bytes(canonical_json(_document(manifest, license)))
    seen = read_by("croissant", str(path), cache=tmp_path / "cache")
    assert seen["conforms_to"] == "http://mlcommons.org/croissant/1.1"
    assert (seen["errors"], seen["warnings"]) == ([], [])
    records = {record["key"]: record for record in seen["records"]}
    assert records.keys() == version.images.keys()
    assert len(seen["records"]) == len(records)
    for row in version.rows:
        record = records[row["key"]]
        expected = {**row, "attributes": canonical_json(row["attributes"]).decode()}
        assert {name: record[name] for name in FIELDS} == {name: expected[name] for name in FIELDS}
        assert record["pixels"] == sha256_hex(version.images[row["key"]].tobytes())


def test_every_file_is_listed_with_its_digest(tmp_path: Path) -> None:
    manifest = publish_small_version(tmp_path).manifest
    files = [f for f in _document(manifest)["distribution"] if f["@type"] == "cr:FileObject"]
    assert [(f["contentUrl"], f["sha256"]) for f in files] == [
        (entry.path, entry.sha256) for entry in (*manifest.shards, *manifest.index)
    ]


def test_equal_manifests_give_equal_bytes(tmp_path: Path) -> None:
    manifest = publish_small_version(tmp_path).manifest
    read_back = Manifest.from_bytes(manifest.to_bytes())
    assert canonical_json(_document(read_back)) == canonical_json(_document(manifest))
    assert json.loads(canonical_json(_document(manifest)))["datePublished"] == "2026-01-02"


def test_a_version_without_samples_is_refused(tmp_path: Path) -> None:
    manifest = publish_small_version(tmp_path).manifest
    with pytest.raises(InputError, match="no shards"):
        _document(dataclasses.replace(manifest, shards=[]))
