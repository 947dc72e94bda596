"""A CSV or Parquet table of images: columns path and label, optionally group and split.

Called by opening.py. Paths are relative to the table's folder, and nothing outside it is read: a
table may come from anyone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from datagen.errors import InputError
from datagen.image_files import read_picture
from datagen.real_images.listing import (
    FORMATS,
    MAX_IMAGES,
    Entry,
    Listing,
    class_order,
    part_called,
    unlabelled_notes,
)

TABLE_FILES = ("labels.csv", "labels.parquet")
SUFFIXES = (".csv", ".parquet")
_MAX_BYTES = 1 << 30
# As other tools call the same columns.
_COLUMNS = {
    "path": ("path", "file", "file_name", "filename"),
    "label": ("label", "class", "class_name"),
    "group": ("group",),
    "split": ("split",),
}


@dataclass(frozen=True, slots=True)
class _Row:
    """number: as people count, the line of names not counted. part: "" without a column."""

    number: int
    path: str
    label: str
    group: str | None
    part: str


@dataclass(frozen=True)
class Table:
    path: Path
    rows: tuple[_Row, ...]

    @property
    def parts(self) -> tuple[str, ...]:
        """Empty without a column of splits."""
        return tuple(dict.fromkeys(row.part for row in self.rows if row.part))

    def list(self, part: str) -> Listing:
        """Raises InputError if a path leaves the folder, is named twice or has no label."""
        rows = [row for row in self.rows if row.part == part]
        root = self.path.parent.resolve()
        labelled = [row for row in rows if row.label]
        bare = [row.path for row in rows if not row.label]
        entries = [self._entry(row, root) for row in labelled]
        names = class_order({entry.class_name for entry in entries})
        return Listing(entries, names, unlabelled_notes(self.path, bare, len(rows)))

    def _entry(self, row: _Row, root: Path) -> Entry:
        file = _inside(root, row.path, f"data file {self.path}, row {row.number}")
        read = partial(read_picture, file, formats=FORMATS, name=row.path)
        return Entry(row.path, row.label, read, group=row.group)


def table_of(path: Path) -> Path | None:
    """The table that a path names: itself, or in a folder a labels.csv or labels.parquet that has
    the columns of one."""
    if path.is_file():
        return path if path.suffix.lower() in SUFFIXES else None
    files = [path / name for name in TABLE_FILES if (path / name).is_file()]
    return next((file for file in files if not _missing_columns(_column_names(file))), None)


def read_table(path: Path) -> Table:
    """Raises InputError."""
    if path.stat().st_size > _MAX_BYTES:
        raise InputError(f"data file {path}: above {_MAX_BYTES >> 30} GiB; split the data")
    names = _column_names(path)
    if missing := _missing_columns(names):
        raise InputError(
            f"data file {path}: no column {missing[0]!r} among {', '.join(names)[:200]}; expected "
            "path and label, optionally group and split"
        )
    read = _csv_rows if path.suffix.lower() == ".csv" else _parquet_rows
    try:
        rows = tuple(_rows(path, read(path)))
    except (OSError, csv.Error, KeyError, NotImplementedError, ValueError) as error:
        raise InputError(f"data file {path} cannot be read: {error}") from None
    if not rows:
        raise InputError(f"data file {path}: no row in it; expected one for each image")
    return Table(path, rows)


def _rows(path: Path, records: Iterator[dict[str, str]]) -> Iterator[_Row]:
    seen: set[str] = set()
    for number, record in enumerate(records, start=1):
        where = f"data file {path}, row {number}"
        values = {what: _value(record, names) for what, names in _COLUMNS.items()}
        if not values["path"]:
            raise InputError(f"{where}: no path; expected one relative to {path.parent}")
        name = PurePosixPath(values["path"].replace("\\", "/")).as_posix()
        if name in seen:
            raise InputError(f"{where}: {name} is named twice; keep one")
        if number > MAX_IMAGES:
            raise InputError(f"data file {path}: more than {MAX_IMAGES:,} images; split them")
        seen.add(name)
        part = part_called(values["split"])
        yield _Row(number, name, values["label"], values["group"] or None, part)


def _missing_columns(names: Sequence[str]) -> list[str]:
    return [what for what in ("path", "label") if not set(_COLUMNS[what]) & set(names)]


def _column_names(path: Path) -> list[str]:
    """Raises InputError if the file is no table."""
    try:
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return [name.strip() for name in next(csv.reader(file), [])]
        import pyarrow.parquet as pq

        return [str(name) for name in pq.read_schema(path).names]
    except (OSError, csv.Error, KeyError, NotImplementedError, ValueError) as error:
        raise InputError(f"data file {path} cannot be read: {error}") from None


def _value(record: dict[str, str], names: tuple[str, ...]) -> str:
    return next((record[name] for name in names if name in record), "")


def _inside(root: Path, name: str, where: str) -> Path:
    """root: resolved. Raises InputError if the file, its links followed, lies elsewhere."""
    pure = PurePosixPath(name)
    sound = "\0" not in name and not pure.is_absolute() and ".." not in pure.parts
    if sound:
        file = root / pure
        try:
            sound = file.resolve().is_relative_to(root)
        except (OSError, RuntimeError):
            sound = False
        if sound:
            return file
    raise InputError(
        f"{where}: path {name[:200]!a} leaves the folder of the table; expected a path below "
        f"{root}: put the images there"
    )


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            yield {str(k).strip(): str(v or "").strip() for k, v in row.items() if k is not None}


def _parquet_rows(path: Path) -> Iterator[dict[str, str]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        known = [name for names in _COLUMNS.values() for name in names]
        columns = [name for name in file.schema_arrow.names if name in known]
        for batch in file.iter_batches(batch_size=1 << 14, columns=columns):
            for row in batch.to_pylist():
                yield {k: "" if v is None else str(v).strip() for k, v in row.items()}
