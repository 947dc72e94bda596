"""Folders of DICOM files as training data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.errors import InputError
from datagen.image_set import ImageSet
from datagen.real_images.listing import Listing
from datagen.real_images.opening import open_source
from datagen.recipe import InvalidRecipe
from datagen.training.admission import admit_unregistered
from datagen.training.data_check import check_data
from datagen.training.dataset import held_out_rows, read_training_images
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest
from tests.training.tiny_pairs import pairs_content, parsed

pydicom = pytest.importorskip("pydicom")

SIDE = 8
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENTS = ("Ames^Ann", "Boyd^Bob", "Cole^Cid")


def save(path: Path, *, patient: str = "Ames^Ann", place: float = 0, **values: Any) -> Path:
    """A CT slice of SIDE pixels that lies at `place`, and is about as bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.Modality = CT, "CT"
    dataset.PatientName, dataset.PatientID = patient, f"id-{patient}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
        pydicom.uid.generate_uid(entropy_srcs=[text, "u"]) for text in (patient, patient, path.name)
    )
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient, dataset.PixelSpacing = [0, 0, place], [0.5, 2]
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PixelData = np.full((SIDE, SIDE), 10 * place, "<u2").tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(root: Path, num: int = 4) -> Path:
    """Two classes; file names run against the places in the body."""
    for row, patient in enumerate(PATIENTS):
        for place in range(num):
            name = f"{('ill', 'well')[row % 2]}/{patient}/IM{num - place}"
            save(root / name, patient=patient, place=place)
    return root


def recipe(data: Path, **source: Any) -> ModelRecipe:
    content = pairs_content("edm", data)
    del content["data"]["condition"], content["data"]["class_names"]
    content["data"] |= {"held_out": 4, **source}
    return parsed(content)


def images(data: Path, **source: Any) -> ImageSet:
    return read_training_images(recipe(data, **source).data).images


def listed(data: Path) -> Listing:
    return open_source(data, kind="dicom").list("")


def test_slices_of_a_series_are_in_the_order_of_the_body(tmp_path: Path) -> None:
    assert open_source(write_series(tmp_path)).kind == "dicom"
    found = listed(tmp_path)
    assert found.class_names == ("ill", "well")
    series: dict[str, list[int]] = {}
    for entry in found.entries:
        name, _, place = entry.name.rpartition("-")
        series.setdefault(name, []).append(int(entry.read().pixels.mean()))
        assert int(place) == len(series[name]) - 1
        assert entry.spacing_mm == (0.5, 2)
    assert len(series) == 3
    for shown in series.values():
        assert shown == pytest.approx([0, 10, 20, 30], abs=1)


def test_patients_are_groups_that_are_held_out_whole(tmp_path: Path) -> None:
    read = images(write_series(tmp_path))
    assert read.groups is not None
    assert len(set(read.groups)) == 3
    kept = held_out_rows(len(read), held_out=4, seed=0, groups=read.groups)
    sides = [{g for g, k in zip(read.groups, kept, strict=True) if k == side} for side in (0, 1)]
    assert not sides[0] & sides[1]
    assert sum(kept) == 4


def test_pseudonyms_are_the_same_each_time_and_others_beside_other_files(tmp_path: Path) -> None:
    names = [entry.name for entry in listed(write_series(tmp_path / "a")).entries]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert names == [entry.name for entry in listed(tmp_path / "b").entries]
    save(tmp_path / "b" / "ill" / "one.dcm", patient="Dunn^Dot")
    assert not set(names) & {entry.name for entry in listed(tmp_path / "b").entries}


def test_frames_of_a_file_are_images(tmp_path: Path) -> None:
    frames = np.arange(3 * SIDE * SIDE, dtype="<u2").reshape(3, SIDE, SIDE) // (SIDE * SIDE) * 50
    save(tmp_path / "ill" / "a", NumberOfFrames=3, PixelData=frames.astype("<u2").tobytes())
    found = listed(tmp_path).entries
    assert [int(entry.read().pixels.mean()) for entry in found] == pytest.approx(
        [0, 50, 100], abs=1
    )


def test_the_window_of_the_recipe_is_used_and_part_of_its_digest(tmp_path: Path) -> None:
    write_series(tmp_path)
    window = {"window": {"center": 10, "width": 2}}
    shown = images(tmp_path, dicom=window)
    assert set(np.unique(shown.images)) <= {0, 255}
    assert any("windowed as asked for" in note for note in shown.notes)
    plain = recipe(tmp_path)
    assert model_recipe_digest(plain) == model_recipe_digest(recipe(tmp_path, dicom={}))
    assert model_recipe_digest(plain) != model_recipe_digest(recipe(tmp_path, dicom=window))


def test_a_table_tells_classes_groups_and_parts(tmp_path: Path) -> None:
    save(tmp_path / "x" / "a", patient="Ames^Ann")
    save(tmp_path / "x" / "b", patient="Boyd^Bob")
    save(tmp_path / "c.dcm", patient="Cole^Cid")
    rows = ["path,label,group,split", "x/a,cat,Ames,train", "x/b,dog,Ames,train", "c.dcm,cat,,test"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    source = open_source(tmp_path)
    assert (source.kind, source.parts) == ("dicom", ("train", "test"))
    read = images(tmp_path)
    assert sorted(read.class_names) == ["cat", "dog"]
    assert read.groups is not None
    assert len(set(read.groups)) == 1
    assert "Ames" not in read.groups[0]
    assert any("1 DICOM file that the table does not name" in note for note in read.notes)


def test_folders_of_parts_are_no_classes(tmp_path: Path) -> None:
    write_series(tmp_path / "train")
    write_series(tmp_path / "test", 1)
    assert open_source(tmp_path).parts == ("train", "test")
    read = images(tmp_path)
    assert (len(read), read.class_names) == (12, ("ill", "well"))


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    save(write_series(tmp_path) / "ill" / "plan", SOPClassUID=CT).write_bytes(
        (tmp_path / "ill" / "Ames^Ann" / "IM1").read_bytes()
    )
    plan = pydicom.dcmread(tmp_path / "ill" / "plan")
    del plan.PixelData
    plan.save_as(tmp_path / "ill" / "plan")
    save(tmp_path / "ill" / "seg", Modality="SEG")
    (tmp_path / "ill" / "Ames-notes.txt").write_text("of Ann Ames")
    notes = "\n".join(images(tmp_path).notes)
    assert "1 DICOM file without pixels" in notes
    assert "1 DICOM file of a segmentation" in notes
    assert "1 file that is no DICOM" in notes
    assert "Ames" not in notes


def test_a_broken_file_is_counted_and_many_stop(tmp_path: Path) -> None:
    frames = {"NumberOfFrames": 51, "PixelData": bytes(51 * SIDE * SIDE * 2)}
    for name in ("ill", "well"):
        save(tmp_path / name / "a", **frames)
    (tmp_path / "ill" / "Ames.dcm").write_bytes(b"nothing")
    reading = read_training_images(recipe(tmp_path).data)
    assert len(reading.images) == 102
    (name,) = reading.broken
    assert name.startswith("broken-")
    cut = save(tmp_path / "ill" / "b")
    cut.write_bytes(cut.read_bytes()[:-SIDE])
    with pytest.raises(InputError, match=r"more than 1%.*ill/b"):
        images(tmp_path)


def test_text_is_refused_at_listing_and_who_attests_is_noted(tmp_path: Path) -> None:
    save(write_series(tmp_path) / "ill" / "echo", patient="Ames^Ann", Modality="US")
    with pytest.raises(InputError, match=r"^data\.dicom\.burned_in: 1 of 13 files may show text"):
        listed(tmp_path)
    attested = images(tmp_path, dicom={"burned_in": {"attested_by": "Eve Dow"}})
    assert any("attested by Eve Dow" in note for note in attested.notes)
    masked = images(tmp_path, dicom={"burned_in": {"mask": [[0, 0, SIDE, 4]]}})
    assert masked.images[:, :4].max() == 0
    assert any("113100" in note and "masked regions: 1" in note for note in masked.notes)


def test_synthetic_files_do_not_train(tmp_path: Path) -> None:
    save(write_series(tmp_path) / "ill" / "made", SyntheticData="YES")
    source = recipe(tmp_path).data
    with pytest.raises(InputError, match="synthetic"):
        admit_unregistered(source, read_training_images(source))


def test_a_class_that_is_a_patient_is_refused(tmp_path: Path) -> None:
    for folder in ("Ames_Ann", "ames", "id-ames-ann"):
        save(tmp_path / folder / folder / "a")
        with pytest.raises(InputError, match="is the name or number of its patient"):
            listed(tmp_path / folder)


def test_what_lies_beside_is_refused_and_what_is_derived_is_not(tmp_path: Path) -> None:
    write_series(tmp_path)
    mask = {"kind": "mask", "names": ["background", "a"]}
    with pytest.raises(InputError, match=r"data\.condition: label maps and pictures beside DICOM"):
        images(tmp_path, condition=mask)
    derived = images(tmp_path, condition={"kind": "image", "derive": "edges"})
    assert derived.conditions is not None


def test_folders_without_images_and_mixed_sizes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no DICOM file in it"):
        open_source(tmp_path / "none", kind="dicom")
    plan = save(tmp_path / "plans" / "plan")
    dataset = pydicom.dcmread(plan)
    del dataset.PixelData
    dataset.save_as(plan)
    with pytest.raises(InputError, match="no image in it: 1 DICOM file without pixels"):
        listed(tmp_path / "plans")
    mixed = write_series(tmp_path / "mixed")
    large = np.zeros((16, 16), "<u2").tobytes()
    save(mixed / "ill" / "large", Rows=16, Columns=16, PixelData=large)
    with pytest.raises(InputError, match=r"data\.image_size"):
        images(mixed)
    assert len(images(mixed, image_size=8)) == 13


def test_an_absent_codec_names_its_package(tmp_path: Path) -> None:
    path = save(tmp_path / "ill" / "a")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(InputError, match=r"install one of: .*(pylibjpeg|gdcm)"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"window": {"center": 40, "width": 0}}, "data.dicom.window.width"),
        ({"burned_in": {"mask": [[0, 0, -1, 2]]}}, "data.dicom.burned_in.mask"),
        ({"burned_in": {"attested_by": "x\n"}}, "data.dicom.burned_in.attested_by"),
        ({"windows": {}}, "data.dicom.windows"),
    ],
)
def test_faults_of_options_name_the_field(
    options: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        recipe(tmp_path, dicom=options)
    assert field in str(caught.value)


def test_options_of_dicom_for_other_data_are_refused(tmp_path: Path) -> None:
    shutil.copytree(write_series(tmp_path / "a"), tmp_path / "b")
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.arange(4) % 2)
    window = {"window": {"center": 40, "width": 80}}
    with pytest.raises(InputError, match=r"data\.dicom: options are given"):
        images(tmp_path / "x.npz", dicom=window)


def test_the_data_check_tells_groups(tmp_path: Path) -> None:
    check = check_data(read_training_images(recipe(write_series(tmp_path)).data))
    assert check.groups is not None
    assert check.groups.num == 3
