"""Every format, the same cases: the same images and labels come out, read by other parsers."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from datagen.errors import InputError, StoreError, VerifyError
from datagen.formats import FORMATS, NEEDS
from datagen.images import Image
from tests.formats.readers import ROOT, read_by
from tests.formats.scenes import publish_scenes
from tests.formats.small_version import (
    ATTRIBUTES,
    PREFIX,
    SmallVersion,
    publish_small_version,
    replace_object,
)

# key -> (split, class name, sha256 of the pixels)
Seen = dict[str, tuple[str, str, str]]

formats = pytest.mark.parametrize("name", sorted(FORMATS))


def _publish(name: str, root: Path, **changes: Any) -> SmallVersion:
    """A version that has what the format needs, and no more if it needs nothing."""
    return (publish_scenes if NEEDS.get(name) else publish_small_version)(root, **changes)


Publish = Callable[..., SmallVersion]


@pytest.fixture(scope="module")
def publish_large(tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """As _publish, once for all formats of equal needs; not to be changed."""
    made: dict[tuple[Any, ...], SmallVersion] = {}

    def publish(name: str, **changes: Any) -> SmallVersion:
        key = (bool(NEEDS.get(name)), *changes.values())
        if key not in made:
            made[key] = _publish(name, tmp_path_factory.mktemp("large"), **changes)
        return made[key]

    return publish


def _pixels(image: Image) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def _published(version: SmallVersion) -> Seen:
    return {
        key: (*version.labels[key], _pixels(image.squeeze()))
        for key, image in version.images.items()
    }


def _read_webdataset(folder: Path, cache: Path) -> Seen:
    import webdataset

    seen = {}
    for path in sorted(folder.glob("*.tar")):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False).decode("rgb8"):
            pixels = sample["png"]
            record = sample["json"]
            grey = (pixels == pixels[..., :1]).all()  # webdataset makes three channels of one
            assert path.name.startswith(record["split"] + "-")
            seen[sample["__key__"]] = (
                record["split"],
                record["class_name"],
                _pixels(pixels[..., 0] if grey else pixels),
            )
    return seen


def _read_imagefolder(folder: Path, cache: Path) -> Seen:
    seen = {}
    for path in folder.glob("*/*/*.png"):
        split, class_name = path.relative_to(folder).parts[:2]
        seen[path.stem] = (split, class_name, _pixels(np.asarray(PillowImage.open(path))))
    return seen


def _read_parquet(folder: Path, cache: Path) -> Seen:
    loaded = read_by("hugging_face", str(folder), cache=cache)
    return {
        row["key"]: (split, row["class_name"], row["pixels"])
        for split, part in loaded.items()
        for row in part["rows"]
    }


def _read_coco(folder: Path, cache: Path) -> Seen:
    seen = {}
    for path in folder.glob("annotations/instances_*.json"):
        split = path.stem.removeprefix("instances_")
        for image in json.loads(path.read_text())["images"]:
            pixels = _file_pixels(folder / split / image["file_name"])
            seen[Path(image["file_name"]).stem] = (split, image["labels"][0], pixels)
    return seen


def _read_folders(folder: Path, cache: Path) -> Seen:
    """images/{split}/{key}.png. The class is not told but by the key."""
    return {
        path.stem: (path.parent.name, _class_of(path.stem), _file_pixels(path))
        for path in folder.glob("images/*/*.png")
    }


def _read_voc(folder: Path, cache: Path) -> Seen:
    return {
        key: (path.stem, _class_of(key), _file_pixels(folder / "JPEGImages" / f"{key}.png"))
        for path in folder.glob("ImageSets/Main/*.txt")
        for key in path.read_text().splitlines()
    }


def _read_nnunet(folder: Path, cache: Path) -> Seen:
    (root,) = folder.iterdir()
    (fold,) = json.loads((root / "splits_final.json").read_text())
    return {
        key: (split, _class_of(key), _file_pixels(root / "imagesTr" / f"{key}_0000.png"))
        for split, keys in fold.items()
        for key in keys
    }


def _read_nifti(folder: Path, cache: Path) -> Seen:
    import nibabel

    seen = {}
    for path in folder.glob("images/*/*.nii.gz"):
        voxels = np.asarray(nibabel.load(path).dataobj)[..., 0].T  # type: ignore[attr-defined]
        if voxels.dtype.names:
            voxels = np.stack([voxels[name] for name in "RGB"], axis=-1)
        key = path.name.removesuffix(".nii.gz")
        seen[key] = (path.parent.name, _class_of(key), _pixels(voxels))
    return seen


def _read_dicom(folder: Path, cache: Path) -> Seen:
    import pydicom

    return {
        path.stem: (
            path.parent.name,
            _class_of(path.stem),
            _pixels(pydicom.dcmread(path).pixel_array.astype(np.uint8)),
        )
        for path in folder.glob("images/*/*.dcm")
    }


def _class_of(key: str) -> str:
    return key.rpartition("-")[0]


def _file_pixels(path: Path) -> str:
    with PillowImage.open(path) as image:
        return _pixels(np.asarray(image))


READERS: dict[str, Callable[[Path, Path], Seen]] = {
    "webdataset": _read_webdataset,
    "imagefolder": _read_imagefolder,
    "parquet": _read_parquet,
    "coco": _read_coco,
    "yolo": _read_folders,
    "yolo-segment": _read_folders,
    "voc": _read_voc,
    "masks": _read_folders,
    "nnunet": _read_nnunet,
    "nifti": _read_nifti,
    "dicom": _read_dicom,
}


def test_every_format_has_a_reader_here() -> None:
    assert READERS.keys() == FORMATS.keys()


@formats
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files open
def test_same_images_and_labels_come_out(name: str, channels: int, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store", channels=channels)
    progress = list(FORMATS[name](version.reader, tmp_path / "out"))
    assert progress == sorted(progress)
    assert progress[-1] == len(version.images)
    assert READERS[name](tmp_path / "out", tmp_path / "cache") == _published(version)


@formats
def test_two_exports_are_equal_byte_for_byte(name: str, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store")
    contents = []
    for target in (tmp_path / "first", tmp_path / "deep" / "second"):
        list(FORMATS[name](version.reader, target))
        files = [path for path in sorted(target.rglob("*")) if path.is_file()]
        contents.append({str(path.relative_to(target)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_a_version_without_what_it_needs_is_refused(name: str, tmp_path: Path) -> None:
    version = publish_small_version(tmp_path / "store")
    (tmp_path / "pulled").mkdir()
    with pytest.raises(InputError, match=f"small@3 has no .*{name} needs them"):
        list(FORMATS[name](version.reader, tmp_path / "pulled" / "out"))
    assert not any((tmp_path / "pulled").iterdir())


@formats
def test_a_used_folder_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store")
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        list(FORMATS[name](version.reader, target))
    assert [path.name for path in target.iterdir()] == ["notes.txt"]


@formats
def test_an_empty_folder_is_used(name: str, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store")
    (tmp_path / "out").mkdir()
    list(FORMATS[name](version.reader, tmp_path / "out"))
    assert any((tmp_path / "out").iterdir())


@formats
def test_an_abandoned_export_leaves_nothing(
    name: str, publish_large: Publish, tmp_path: Path
) -> None:
    version = publish_large(name, num_per_class=200, shard_size=100)
    (tmp_path / "pulled").mkdir()
    export = FORMATS[name](version.reader, tmp_path / "pulled" / "out")
    next(export)
    assert any((tmp_path / "pulled").iterdir())
    with pytest.raises(KeyboardInterrupt):
        export.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert not any((tmp_path / "pulled").iterdir())


@formats
def test_a_flipped_byte_stops_the_export_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store")
    entry = version.manifest.shards[-1]
    data = bytearray((version.folder / entry.path).read_bytes())
    data[700] ^= 1
    replace_object(version, entry, bytes(data))
    (tmp_path / "pulled").mkdir()
    with pytest.raises(VerifyError, match=entry.path):
        list(FORMATS[name](version.reader, tmp_path / "pulled" / "out"))
    assert not any((tmp_path / "pulled").iterdir())


@formats
def test_a_target_below_a_file_is_a_store_error(name: str, tmp_path: Path) -> None:
    version = _publish(name, tmp_path / "store")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        list(FORMATS[name](version.reader, tmp_path / "file" / "out"))


_EXPORT = """
import sys
from pathlib import Path
from datagen.formats import FORMATS
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest
from datagen.store import DirectoryStore

name, root, prefix, manifest, target = sys.argv[1:]
manifest = Manifest.from_bytes(Path(manifest).read_bytes())
reader = VersionReader(DirectoryStore(Path(root)), prefix, manifest)
for done in FORMATS[name](reader, Path(target)):
    print(done, flush=True)
# Not getrusage: its figure begins with what the parent held when it forked.
status = Path("/proc/self/status").read_text()
print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
"""


def _start_export(name: str, version: SmallVersion, target: Path) -> subprocess.Popen[str]:
    manifest = target.with_name("manifest.json")
    manifest.write_bytes(version.manifest.to_bytes())
    arguments = [name, str(version.root), PREFIX, str(manifest), str(target)]
    return subprocess.Popen(
        [sys.executable, "-c", _EXPORT, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@formats
def test_a_killed_export_leaves_no_folder_of_that_name(
    name: str, publish_large: Publish, tmp_path: Path
) -> None:
    version = publish_large(name, num_per_class=1500, shard_size=100)
    process = _start_export(name, version, tmp_path / "out")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out").exists()
    assert next(tmp_path.glob(".out.partial-*"))


# The costliest of each kind; `make soak` runs the others.
_MEASURED = ("webdataset", "parquet", "coco", "dicom")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in _MEASURED else [pytest.mark.soak])
        for name in sorted(FORMATS)
    ],
)
def test_memory_does_not_grow_with_the_version(
    name: str, publish_large: Publish, tmp_path: Path
) -> None:
    """12 KB an image: 37 MB of images against 92 MB, which Parquet's row groups need to show; for
    the layouts that write a file per image 15 MB against 37 MB."""
    peaks_mb = []
    one_file_each = bool(NEEDS.get(name)) or name in ("dicom", "nifti")
    for num_per_class in (400, 1000) if one_file_each else (1000, 2500):
        folder = tmp_path / str(num_per_class)
        folder.mkdir()
        version = publish_large(
            name, num_per_class=num_per_class, shard_size=256, image_size=(64, 64)
        )
        process = _start_export(name, version, folder / "out")
        output, _ = process.communicate()
        assert process.returncode == 0
        peaks_mb.append(int(output.splitlines()[-1]) / 1024)
    assert peaks_mb[1] < peaks_mb[0] * 1.1


def test_hugging_face_sees_class_labels_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    version = publish_small_version(tmp_path / "store")
    list(FORMATS["parquet"](version.reader, tmp_path / "out"))
    for number, builder in enumerate([(), ("parquet",)]):
        cache = tmp_path / "cache" / str(number)
        loaded = read_by("hugging_face", str(tmp_path / "out"), *builder, cache=cache)
        for part in loaded.values():
            assert (part["image_type"], part["label_type"]) == ("Image", "ClassLabel")
            assert part["class_names"] == list(ATTRIBUTES)
        _assert_rows_are_published(loaded, version)


def test_hugging_face_reads_an_imagefolder(tmp_path: Path) -> None:
    """By its README.md splits keep their names; the bare builder takes val for validation."""
    version = publish_small_version(tmp_path / "store")
    list(FORMATS["imagefolder"](version.reader, tmp_path / "out"))
    by_readme = read_by("hugging_face", str(tmp_path / "out"), cache=tmp_path / "cache" / "0")
    assert by_readme.keys() == {"train", "val"}
    _assert_rows_are_published(by_readme, version)
    by_builder = read_by(
        "hugging_face", str(tmp_path / "out"), "imagefolder", cache=tmp_path / "cache" / "1"
    )
    assert by_builder.keys() == {"train", "validation"}
    _assert_rows_are_published(by_builder, version)


def _assert_rows_are_published(loaded: dict[str, Any], version: SmallVersion) -> None:
    rows = [row for part in loaded.values() for row in part["rows"]]
    assert sorted(row["key"] for row in rows) == sorted(version.images)
    for row in rows:
        assert row["pixels"] == _pixels(version.images[row["key"]])
        assert row["class_name"] == version.labels[row["key"]][1]
        assert row["key"] == f"{row['class_name']}-{row['ordinal']:08d}"
        assert json.loads(row["attributes"]) == ATTRIBUTES[row["class_name"]]


def test_a_split_name_with_a_dash_becomes_one_that_hugging_face_takes(tmp_path: Path) -> None:
    version = publish_small_version(tmp_path / "store", splits=("train", "hold-out"))
    list(FORMATS["parquet"](version.reader, tmp_path / "out"))
    loaded = read_by("hugging_face", str(tmp_path / "out"), cache=tmp_path / "cache")
    assert loaded.keys() == {"train", "hold_out"}
    clash = publish_small_version(tmp_path / "clash", splits=("hold_out", "hold-out"))
    for name in ("parquet", "imagefolder"):
        with pytest.raises(InputError, match="rename a split"):
            list(FORMATS[name](clash.reader, tmp_path / name))
