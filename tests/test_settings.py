from __future__ import annotations

from pathlib import Path

import pytest

from datagen.errors import InputError
from datagen.settings import load_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATAGEN_DEVICE", "tpu"),
        ("DATAGEN_DEVICE", "cuda:x"),
        ("DATAGEN_THREADS_PER_WORKER", "0.5"),
        ("DATAGEN_THREADS_PER_WORKER", "0"),
        ("DATAGEN_THREADS_PER_WORKER", "999999"),
        ("DATAGEN_LEASE_S", "soon"),
        ("DATAGEN_HEARTBEAT_S", "-1"),
    ],
)
def test_a_bad_variable_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(InputError, match=f"{name}='{value}': expected"):
        load_settings({name: value})


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        load_settings({"DATAGEN_HOME": str(path)})


def test_the_parts_of_the_home_are_replaced_one_by_one(tmp_path: Path) -> None:
    settings = load_settings({"DATAGEN_STORE_URL": "s3://bucket/prefix"}, home=tmp_path)
    assert settings.store_url == "s3://bucket/prefix"
    assert settings.database_url == f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
