"""DICOM in, a trained model and all else out: nothing that names a patient is in any byte of it."""

from __future__ import annotations

import gzip
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from datagen.cli import main
from datagen.conditions import ConditionConfig
from datagen.errors import InputError
from datagen.images import encode_png
from datagen.medical.dicom import NoPixels, read_dicom
from datagen.medical.options import BurnedIn, DicomOptions
from datagen.real_images.reading import Reading
from datagen.training.data_check import check_data, check_text
from datagen.training.dataset import read_training_images
from datagen.training.model_recipe import parse_model_recipe
from tests.generators.tiny_models import TINY, save_random_model

if os.environ.get("CI"):
    import data_store
    import pydicom
else:
    pydicom = pytest.importorskip("pydicom")
    data_store = pytest.importorskip("data_store")

ATTESTED = "Eve Attestor"
OPTIONS = DicomOptions(burned_in=BurnedIn(attested_by=ATTESTED))
TEXT_VRS = {*("AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM"), "UC", "UR", "UT"}
# Words of the standard, reviewed: each means the same in every file, and names nobody.
TERMS = {
    *("Modality", "PhotometricInterpretation", "BurnedInAnnotation", "LossyImageCompression"),
    *("VOILUTFunction", "ImageType", "SpecificCharacterSet", "PatientSex", "ConversionType"),
    *("FrameType", "PixelPresentation", "ValueType", "TypeOfPatientID"),
    "WaveformOriginality",
}
# Values and names of files that are words of our own texts, reviewed: no name of a person.
WORDS = {"text", "fall", "liver", "README", "version 1", "Name"}
# UIDs of classes and transfer syntaxes.
STANDARD_UIDS = "1.2.840.10008."
# Of kinds that Pillow cannot decode, and one cut short on purpose: test_dicom.py has them.
UNDECODED = {
    *("GDCMJ2K_TextGBR.dcm", "JPEG-lossy.dcm", "JPEG2000-embedded-sequence-delimiter.dcm"),
    *("JPGExtended.dcm", "MR_truncated.dcm"),
}
# A model of files up to this size: that of all would take long, and their reading is tested.
MAX_TRAINED_BYTES = 40_000
MIN_CHARS = 4
# Shorter ones occur by chance among random bytes, of which there are a million.
MIN_CHARS_IN_PIXELS = 6
PIXEL_SUFFIXES = {".png", ".safetensors", ".tar"}
# Digests, random ids and times hold any short number by chance: one must stand for itself.
SHORT_NUMBER = re.compile(r"[0-9a-f.:-]{,11}")
# Of files that we wrote: any number of bytes may be some short identifier.
SIZES = re.compile(rb'"(?:size_bytes|size|contentSize)": ?"?[0-9]+(?: B)?"?')
PRINTABLE = re.compile(rb"[ -~]{4,}")


@dataclass(frozen=True)
class Given:
    """folder: links to files of pydicom-data, with their names. identifiers: value -> where."""

    folder: Path
    identifiers: dict[str, str]
    num_images: int


def _texts(dataset: pydicom.Dataset) -> Iterator[tuple[str, str]]:
    """Attribute and value, of all that is text, at every depth; of unknown and private ones what
    can be printed."""
    for element in dataset.iterall():
        values = element.value if element.VM > 1 else [element.value]
        name = element.keyword or str(element.tag)
        if element.VR == "UN" and isinstance(element.value, bytes):
            values = [found.decode() for found in PRINTABLE.findall(element.value[:4096])]
        elif element.VR not in TEXT_VRS and element.VR != "UI":
            continue
        for value in values:
            yield name, str(value)
            if element.VR == "PN":
                yield from ((name, part) for part in re.split(r"[\^= ]", str(value)))


def _identifiers(path: Path) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        return {
            text: f"{name} of {path.name}"
            for name, value in chain(_texts(dataset.file_meta), _texts(dataset))
            if name not in TERMS
            and len(text := value.strip()) >= MIN_CHARS
            and text not in WORDS
            and text.strip("0")
            and not text.startswith(STANDARD_UIDS)
        }


def _is_readable(path: Path) -> bool | None:
    """None without pixels."""
    if path.name in UNDECODED:
        return False
    try:
        read_dicom(path, OPTIONS)
    except NoPixels:
        return None
    except InputError:
        return False
    return True


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Given:
    """All files that can be read, and those without pixels; test_dicom.py has the others."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    folder = tmp_path_factory.mktemp("given")
    identifiers: dict[str, str] = {}
    counts = Counter[bool | None]()
    for module in (pydicom, data_store):
        data = Path(str(module.__file__)).parent / "data"
        for path in sorted(p for p in data.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            if (readable := _is_readable(path)) is False:
                continue
            counts[readable] += 1
            place = folder / ("odd", "even")[counts[readable] % 2] / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
            identifiers |= _identifiers(path)
            if len(path.stem) >= MIN_CHARS and path.stem not in WORDS:
                identifiers[path.stem] = f"name of {path.name}"
    assert counts[None] >= 50
    return Given(folder, identifiers, counts[True])


def _found(identifiers: dict[str, str], what: str, data: bytes, *, min_chars: int) -> list[str]:
    data = SIZES.sub(b"", data)
    return [
        f"{text!r}, {where}, in {what}"
        for text, where in identifiers.items()
        if len(text) >= min_chars and _is_in(text, data)
    ]


def _is_in(text: str, data: bytes) -> bool:
    told = text.encode("utf-8", "surrogateescape")
    if told not in data or not SHORT_NUMBER.fullmatch(text):
        return told in data
    return re.search(rb"(?<![0-9a-f.T])" + re.escape(told) + rb"(?![0-9a-f.])", data) is not None


def test_a_short_number_is_found_where_it_stands_for_itself() -> None:
    assert _is_in("4711", b"patient_4711-x")
    assert not _is_in("4711", b"took 2.4711 s, sha256 ab4711")
    assert not _is_in("-0400", b"id ab12-0400-cdef")
    assert _is_in("Doe^Jane", b"xDoe^Janex")


def _recipe(folder: Path) -> str:
    return yaml.safe_dump(
        {
            "version": 1,
            "name": "from-dicom",
            "generator": "condition_set",
            "data": {
                "path": str(folder),
                "licence": "as given",
                "source": "files for tests",
                "image_size": 16,
                "held_out": 10,
                "condition": {"kind": "image", "derive": "edges"},
                "dicom": {"burned_in": {"attested_by": ATTESTED}},
            },
        }
    )


@pytest.fixture(scope="module")
def reading(given: Given) -> Reading:
    return read_training_images(parse_model_recipe(_recipe(given.folder).encode(), source="r").data)


def test_enough_is_looked_for(given: Given) -> None:
    assert given.num_images >= 150
    assert len(given.identifiers) >= 1000
    wheres = {where.partition(" of ")[0] for where in given.identifiers.values()}
    for name in ("PatientID", "PatientName", "SOPInstanceUID", "StudyInstanceUID", "StudyDate"):
        assert name in wheres


def test_no_identifier_is_in_images_names_groups_or_check(given: Given, reading: Reading) -> None:
    images = reading.images
    assert len(images) >= given.num_images
    assert images.groups is not None
    check = check_data(reading)
    texts = (*images.names, *images.groups, *images.notes, *images.class_names)
    told = "\n".join((*texts, str(images.attributes), check.model_dump_json(), check_text(check)))
    found = partial(_found, given.identifiers)
    assert found("text", told.encode(), min_chars=MIN_CHARS) == []
    pngs = b"".join(encode_png(np.ascontiguousarray(image)) for image in images.images)
    assert found("pixels", pngs, min_chars=MIN_CHARS_IN_PIXELS) == []
    assert any("113100" in note and ATTESTED in note for note in images.notes)


def _datagen(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["--home", "home", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def _make_data_set() -> str:
    """Of a network that draws on what came from DICOM, exported as DICOM and NIfTI."""
    sizes = {"class_names": ("even", "odd"), "image_size": (16, 16), "channels": 3}
    condition = ConditionConfig("image", (), 1)
    save_random_model(Path("tiny"), replace(TINY["edm"], condition=condition, **sizes))
    recipe = {
        "version": 1,
        "name": "pictures",
        "image_size": [16, 16],
        "classes": [{"name": name, "count": 4} for name in ("even", "odd")],
        "generator": {"model": "tiny", "num_inference_steps": 1},
        "conditioning": {"image": {"model": "from-dicom"}},
    }
    Path("pictures.yaml").write_text(yaml.safe_dump(recipe))
    output = _datagen("models", "import", "tiny") + _datagen("run", "pictures.yaml")
    for name in ("dicom", "nifti"):
        output += _datagen("pull", "pictures", f"exported/{name}", "--format", name)
    return output


def test_no_identifier_is_in_any_byte_of_a_model_its_home_or_a_data_set(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for path in given.folder.rglob("*"):
        if path.is_file() and path.stat().st_size <= MAX_TRAINED_BYTES:
            small = tmp_path / "files" / path.relative_to(given.folder)
            small.parent.mkdir(parents=True, exist_ok=True)
            small.symlink_to(path.resolve())
    Path("model.yaml").write_text(_recipe(tmp_path / "files"))
    output = _datagen("train", "model.yaml", "--json") + _make_data_set()
    card = Path("home/models/from-dicom/README.md").read_text()
    assert f"no identifying text, attested by {ATTESTED}" in card
    places = (Path("home"), Path("exported"))
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert {".sqlite3", ".json", ".safetensors", ".tar", ".dcm", ".gz"} <= {
        path.suffix for path in files
    }
    found = _found(given.identifiers, "output", output.encode(), min_chars=MIN_CHARS)
    for path in files:
        least = MIN_CHARS_IN_PIXELS if path.suffix in PIXEL_SUFFIXES else MIN_CHARS
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        found += _found(given.identifiers, str(path), data, min_chars=least)
    assert found == []
