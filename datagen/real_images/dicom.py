"""Frames of a folder of DICOM files, named and grouped by pseudonyms. Called by opening.py and
training/dataset.py."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from datagen.errors import InputError
from datagen.faults import plural
from datagen.image_files import Picture
from datagen.medical.confidentiality import STATEMENT, pseudonym
from datagen.medical.dicom import (
    DicomImage,
    MayShowText,
    NamesPatient,
    NoCodec,
    NoPixels,
    read_dicom,
)
from datagen.medical.options import DicomOptions
from datagen.real_images.folders import SUFFIXES as PICTURE_SUFFIXES
from datagen.real_images.listing import MAX_IMAGES, PART_NAMES, Entry, Listing, class_order
from datagen.real_images.tables import TABLE_FILES, read_table, table_of

SUFFIXES = (".dcm", ".dicom", ".ima")
_NO_DICOM = (*PICTURE_SUFFIXES, *TABLE_FILES, ".nii", ".gz", ".json", ".tar", ".npz", ".arrow")
_CLASS = "image"
# Of a folder whose format is not given: files looked at by name, and by their first bytes.
_NUM_SEEN, _NUM_PROBES = 1000, 20
_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_LAST = float("inf")


def has_dicom(path: Path) -> bool:
    """By the first few files that could be such."""
    if path.is_file():
        return _is_dicom(path)
    if not path.is_dir():
        return False
    seen = islice(_visible(path), _NUM_SEEN)
    likely = (file for file in seen if not file.name.lower().endswith(_NO_DICOM))
    return any(_is_dicom(file) for file in islice(likely, _NUM_PROBES))


def dicom_parts(path: Path) -> tuple[str, ...]:
    """train, test and val: folders with folders of classes; or the column `split` of a table."""
    if (table := _table_of(path)) is not None:
        return read_table(table).parts
    return tuple(_part_folders(path))


def list_dicom(path: Path, part: str = "", *, options: DicomOptions | None = None) -> Listing:
    """path: a file, or a folder of files at any depth, with or without suffix. The first folder is
    the class, unless a labels.csv tells path and label, optionally group and split.

    Reads each file twice. An entry's name is the pseudonym of its series and the place in it, its
    group that of its patient (else study, else series). Raises InputError.
    """
    options = options or DicomOptions()
    table = _table_of(path)
    root = path if table is not None else _part_folders(path).get(part, path)
    told = None if table is None else _labelled(read_table(table).list(part))
    files, others = _dicom_files(root)
    key, digests = _key(files)
    found = _Found()
    for file in files:
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        if told is not None and name not in told:
            found.left_out["DICOM file that the table does not name"] += 1
            continue
        label = _class_of(name) if told is None else told[name].class_name
        group = None if told is None or told[name].group is None else str(told[name].group)
        group = None if group is None else pseudonym("group", group, key=key)
        _add(found, file, label, group, options, key, digests[file])
        if len(found.frames) + len(found.broken) > MAX_IMAGES:
            raise InputError(f"data {path}: more than {MAX_IMAGES:,} frames; split them")
    _check(found, path, len(files))
    entries = [*_entries(found.frames, options), *found.broken]
    names = class_order(entry.class_name for entry in entries)
    notes = [STATEMENT + each for each in sorted(found.statements)]
    if others:
        found.left_out["file that is no DICOM"] += others
    notes += [
        f"{path.name}: left out: {plural(n, what, what.replace('file', 'files', 1))}"
        for what, n in sorted(found.left_out.items())
    ]
    return Listing(entries, names, tuple(notes))


@dataclass(frozen=True)
class _Frame:
    """One frame, and where it comes in its series. spacing_mm: (rows, columns)."""

    file: Path
    index: int
    class_name: str
    group: str
    series: str
    order: tuple[float, float, str, int]
    spacing_mm: tuple[float, float] | None
    is_synthetic: bool


@dataclass
class _Found:
    """broken: entries that fail when they are read, so that they are counted as other sources'."""

    frames: list[_Frame] = field(default_factory=list)
    broken: list[Entry] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    texts: list[MayShowText] = field(default_factory=list)
    statements: set[str] = field(default_factory=set)


class _Shelf:
    """Holds the file that was read last: its frames come one after the other."""

    def __init__(self, options: DicomOptions) -> None:
        self._options = options
        self._file: Path | None = None
        self._image: DicomImage | None = None

    def read(self, frame: _Frame) -> Picture:
        """Raises InputError."""
        if self._image is None or self._file != frame.file:
            self._image = None
            self._image = read_dicom(frame.file, self._options)
            self._file = frame.file
        shown = self._image.frame(frame.index, self._options)
        return Picture(shown.pixels, shown.changes, mark="" if frame.is_synthetic else None)


def _add(
    found: _Found,
    file: Path,
    label: str,
    group: str | None,
    options: DicomOptions,
    key: str,
    digest: str,
) -> None:
    try:
        image = read_dicom(file, options, pseudonym_key=key, label=label)
    except NoPixels:
        found.left_out["DICOM file without pixels"] += 1
        return
    except MayShowText as error:
        found.texts.append(error)
        return
    except (NoCodec, NamesPatient):
        raise
    except InputError as error:
        # Its name is no secret's: `sha256sum` finds the file again.
        found.broken.append(Entry(f"broken-{digest[:16]}", label, partial(_fail, str(error))))
        return
    if image.modality == "SEG":
        found.left_out["DICOM file of a segmentation, which is no picture"] += 1
        return
    found.statements.add("; ".join(image.deidentification))
    for index in range(image.num_frames):
        spacing_mm, position_mm = image.place(index)
        order = (
            _LAST if position_mm is None else position_mm,
            _LAST if image.number is None else image.number,
            str(file),
            index,
        )
        found.frames.append(
            _Frame(
                *(file, index, label, group or image.group, image.series, order),
                spacing_mm=spacing_mm,
                is_synthetic=image.is_synthetic,
            )
        )


def _fail(message: str) -> Picture:
    raise InputError(message)


def _entries(frames: Sequence[_Frame], options: DicomOptions) -> list[Entry]:
    """Series by series, from one end of the body to the other; a class has its own places in it."""
    shelf = _Shelf(options)
    places = Counter[str]()
    entries = []
    for frame in sorted(frames, key=lambda frame: (frame.series, frame.order)):
        entries.append(
            Entry(
                f"{frame.series}-{places[frame.series]}",
                frame.class_name,
                partial(shelf.read, frame),
                group=frame.group,
                spacing_mm=frame.spacing_mm,
            )
        )
        places[frame.series] += 1
    return entries


def _check(found: _Found, path: Path, num: int) -> None:
    """Raises InputError if text may be seen, or if there is no image."""
    if found.texts:
        raise InputError(
            f"data.dicom.burned_in: {len(found.texts):,} of {num:,} files may show text: "
            f"{found.texts[0]}"
        )
    if found.frames or found.broken:
        return
    if not num:
        raise InputError(f"data {path}: no DICOM file in it; name a folder of them")
    told = ", ".join(
        plural(n, what, what.replace("file", "files", 1)) for what, n in found.left_out.items()
    )
    raise InputError(f"data {path}: no image in it: {told}; name a folder of DICOM images")


# --- files ----------------------------------------------------------------------------------------


def _visible(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts):
            yield file


def _is_dicom(file: Path) -> bool:
    """By its first bytes. Source: DICOM PS3.10, 7.1."""
    try:
        with file.open("rb") as opened:
            return opened.read(_PREAMBLE_BYTES + len(_MAGIC))[_PREAMBLE_BYTES:] == _MAGIC
    except OSError:
        return False


def _dicom_files(root: Path) -> tuple[list[Path], int]:
    """And how many others there are. One that is called so and is none is broken."""
    files = [root] if root.is_file() else sorted(_visible(root))
    chosen = [f for f in files if f.suffix.lower() in SUFFIXES or _is_dicom(f)]
    tables = sum(file.parent == root and file.name in TABLE_FILES for file in files)
    return chosen, len(files) - len(chosen) - tables


def _key(files: Sequence[Path]) -> tuple[str, Mapping[Path, str]]:
    """The key of the pseudonyms: sha256 over the contents of all files, which nobody knows who has
    not got the data. And sha256 of each file."""
    digests = {}
    for file in files:
        try:
            with file.open("rb") as opened:
                digests[file] = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"data file {file} cannot be read: {error.strerror}") from None
    together = hashlib.sha256("".join(sorted(digests.values())).encode())
    return together.hexdigest(), digests


def _part_folders(path: Path) -> dict[str, Path]:
    """A folder named train that holds files itself is a class of trains."""
    if not path.is_dir():
        return {}
    found: dict[str, Path] = {}
    for part, names in PART_NAMES.items():
        for name in names:
            folder = path / name
            if folder.is_dir() and any(each.is_dir() for each in folder.iterdir()):
                found.setdefault(part, folder)
    return found


def _table_of(path: Path) -> Path | None:
    return table_of(path) if path.is_dir() else None


def _labelled(listing: Listing) -> Mapping[str, Entry]:
    return {entry.name: entry for entry in listing.entries}


def _class_of(name: str) -> str:
    folder, _, rest = name.partition("/")
    return folder if rest else _CLASS
