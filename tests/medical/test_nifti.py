"""Volumes: orientation, spacing, label grids, slices, and what is refused before it is read."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.errors import InputError, LabelError
from datagen.medical.nifti import (
    Plane,
    as_grey,
    read_label_volume,
    read_volume,
    slices_of,
    window_of,
)

SHAPE = (5, 6, 7)
SPACING = (1.0, 2.0, 3.0)
AFFINE = np.array([[1.0, 0, 0, -10], [0, 2, 0, -20], [0, 0, 3, -30], [0, 0, 0, 1]])


def _values() -> NDArray[np.int16]:
    """Every voxel has a value of its own."""
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def _saved(path: Path, values: NDArray[np.generic], affine: NDArray[np.float64] = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)  # type: ignore[no-untyped-call]
    return path


def test_values_affine_and_spacing_are_the_files(tmp_path: Path) -> None:
    volume = read_volume(_saved(tmp_path / "a.nii.gz", _values()))
    assert (volume.values == _values()).all()
    assert np.allclose(volume.affine, AFFINE)
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert not volume.is_oblique


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_any_order_and_direction_of_axes_gives_the_same_volume(
    order: tuple[int, int, int], tmp_path: Path
) -> None:
    for signs in itertools.product((1, -1), repeat=3):
        turned = _values().transpose(order)
        affine = np.eye(4)
        affine[:3, :3] = AFFINE[:3, :3][:, order]
        affine[:3, 3] = AFFINE[:3, 3]
        for axis, sign in enumerate(signs):
            if sign < 0:
                affine[:3, 3] += affine[:3, axis] * (turned.shape[axis] - 1)
                affine[:3, axis] *= -1
                turned = np.flip(turned, axis)
        volume = read_volume(_saved(tmp_path / "a.nii", np.ascontiguousarray(turned), affine))
        assert (volume.values == _values()).all()
        assert np.allclose(volume.affine, AFFINE)


def test_an_oblique_grid_is_told_and_not_resampled(tmp_path: Path) -> None:
    angle = np.radians(12)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = read_volume(_saved(tmp_path / "a.nii", _values(), turn @ AFFINE))
    assert volume.is_oblique
    assert volume.obliquity_degrees == pytest.approx(12)
    assert volume.spacing_mm == pytest.approx(SPACING)
    assert (volume.values == _values()).all()


def test_scaling_of_the_header_is_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(_values(), AFFINE)  # type: ignore[no-untyped-call]
    image.header.set_slope_inter(2, -5)  # type: ignore[no-untyped-call]
    nibabel.save(image, tmp_path / "a.nii")
    written = nibabel.load(tmp_path / "a.nii")
    expected = np.asarray(written.dataobj)  # type: ignore[attr-defined]
    assert np.allclose(read_volume(tmp_path / "a.nii").values, expected)


PLANES: list[tuple[Plane, tuple[float, float], tuple[int, int, int], tuple[int, int, int]]] = [
    # plane, spacing of rows and columns, voxel at the top left, and at the top right
    ("axial", (2.0, 1.0), (4, 5, 0), (0, 5, 0)),
    ("coronal", (3.0, 1.0), (4, 0, 6), (0, 0, 6)),
    ("sagittal", (3.0, 2.0), (0, 5, 6), (0, 0, 6)),
]


@pytest.mark.parametrize(("plane", "spacing", "top_left", "top_right"), PLANES)
def test_slices_are_shown_as_radiology_does(
    plane: Plane,
    spacing: tuple[float, float],
    top_left: tuple[int, int, int],
    top_right: tuple[int, int, int],
    tmp_path: Path,
) -> None:
    """The patient's right on the left, the front on the left of sagittal slices, the head above."""
    first = next(slices_of(read_volume(_saved(tmp_path / "a.nii", _values())), plane=plane))
    assert first.index == 0
    assert first.spacing_mm == pytest.approx(spacing)
    assert first.values[0, 0] == _values()[top_left]
    assert first.values[0, -1] == _values()[top_right]


def test_every_nth_slice_with_its_place(tmp_path: Path) -> None:
    volume = read_volume(_saved(tmp_path / "a.nii", _values()))
    found = [(s.index, s.position_mm) for s in slices_of(volume, plane="axial", every=3)]
    assert found == [(0, -30.0), (3, -21.0), (6, -12.0)]


def test_of_a_series_of_volumes_the_first_is_cut(tmp_path: Path) -> None:
    series = np.stack([_values(), _values() + 1000], axis=-1)
    volume = read_volume(_saved(tmp_path / "a.nii", series))
    assert volume.values.shape == (*SHAPE, 2)
    assert max(s.values.max() for s in slices_of(volume, plane="axial")) == _values().max()


def test_grey_values_fill_the_window_and_nothing_else(tmp_path: Path) -> None:
    values = _values().astype(np.float32)
    values[0, 0, 0] = np.nan
    values[0, 0, 1] = np.inf
    volume = read_volume(_saved(tmp_path / "a.nii", values))
    low, high = window_of(volume, percentiles=(10, 90))
    assert np.isfinite([low, high]).all()
    grey = as_grey(volume.values[0], (low, high))
    assert grey.dtype == np.uint8
    assert grey.shape == (6, 7, 1)
    assert grey[0, 0, 0] == 0
    assert as_grey(np.array([[low, high]], np.float32), (low, high)).ravel().tolist() == [0, 255]
    assert as_grey(np.ones((2, 2), np.float32), (1, 1)).max() == 0


def test_labels_on_the_same_grid_are_read(tmp_path: Path) -> None:
    volume = read_volume(_saved(tmp_path / "a.nii", _values()))
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = SHAPE[0] - 1
    labels = (_values() % 4).astype(np.uint8)
    path = _saved(tmp_path / "l.nii", np.flip(labels, 0).copy(), AFFINE @ flipped)
    found = read_label_volume(path, like=volume)
    assert found.values.dtype == np.uint16
    assert (found.values == labels).all()


SHIFTED = AFFINE.copy()
SHIFTED[0, 3] += 0.2


@pytest.mark.parametrize(
    ("values", "affine", "match"),
    [
        (np.zeros((5, 6, 8), np.uint8), AFFINE, "expected .5, 6, 7."),
        (np.zeros(SHAPE, np.uint8), SHIFTED, "0.2 mm off"),
        (np.full(SHAPE, 0.5, np.float32), AFFINE, "no whole numbers"),
        (np.full(SHAPE, np.nan, np.float32), AFFINE, "no whole numbers"),
        (np.full(SHAPE, -1, np.int16), AFFINE, "from -1 to -1"),
        (np.full(SHAPE, 70000, np.int32), AFFINE, "expected 0 to 65535"),
        (np.zeros((*SHAPE, 2), np.uint8), AFFINE, "4 dimensions"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    values: NDArray[np.generic], affine: NDArray[np.float64], match: str, tmp_path: Path
) -> None:
    volume = read_volume(_saved(tmp_path / "a.nii", _values()))
    with pytest.raises(LabelError, match=match):
        read_label_volume(_saved(tmp_path / "l.nii", values, affine), like=volume)


def _header(path: Path, **fields: object) -> Path:
    """A file whose header says so, with few voxels behind it."""
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))  # type: ignore[no-untyped-call]
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]))  # type: ignore[no-untyped-call]
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(data)) if path.suffix == ".gz" else bytes(data))
    return path


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"dim": [3, 32000, 32000, 32000, 1, 1, 1, 1]}, "voxels"),
        ({"dim": [3, 32000, 32000, 1, 1, 1, 1, 1]}, "voxels"),
        ({"dim": [3, 30000, 4000, 1, 1, 1, 1, 1]}, "slices"),
        ({"dim": [2, 2, 4, 1, 1, 1, 1, 1]}, "expected 3 dimensions"),
        ({"dim": [5, 2, 2, 1, 1, 2, 1, 1]}, "expected 3 dimensions"),
        ({"dim": [3, -2, 2, 2, 1, 1, 1, 1]}, "voxels"),
        ({"dim": [9, 2, 2, 2, 1, 1, 1, 1]}, "9 dimensions"),
        ({"dim": [3, 20, 20, 20, 1, 1, 1, 1]}, "not a readable NIfTI"),
        ({"datatype": 128, "bitpix": 24}, "not colours"),
        ({"datatype": 2, "bitpix": 64}, "data type 2 of 64 bits"),
        ({"vox_offset": 1e9}, "header extensions"),
        ({"vox_offset": np.nan}, "header extensions"),
        ({"sform_code": 1, "srow_x": 0, "srow_y": 0, "srow_z": 0}, "singular"),
        ({"sform_code": 1, "srow_x": [1e6, 0, 0, 0]}, "expected sides"),
        ({"magic": b"ni1"}, "without its voxels"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_bad_header_is_refused(
    fields: dict[str, object], match: str, suffix: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=match):
        read_volume(_header(tmp_path / f"a{suffix}", **fields))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.nii", b""),
        ("a.nii", b"\x89PNG" + bytes(600)),
        ("a.nii.gz", b"no gzip"),
        ("a.nii.gz", gzip.compress(bytes(4096), mtime=0)[:-20]),
    ],
)
def test_other_files_are_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError):
        read_volume(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(tmp_path / "none.nii")
