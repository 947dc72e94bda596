"""DICOM files, of images and of their label maps. Called by `datagen pull`.

For software that reads DICOM: see docs/medical.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.formats.decoded import iter_decoded, line_of
from datagen.formats.labelled import MASK, kinds_in, labels_with
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.images import Pixels
from datagen.labels import Labels
from datagen.medical.dicom_writing import DicomOrigin, file_bytes, image_object
from datagen.medical.segmentation_writing import segmentation_object
from datagen.recipe import canonical_json

PROGRESS_SAMPLES = 256

_README = """# {title}

Synthetic images: no patient was imaged. For research and for training software, not for clinical
use. Every object says so itself: SyntheticData YES, no name, number, date or place of a patient.

`images/{{split}}/{{key}}.dcm`: an image, in a study of its own. `labels/{{split}}.jsonl` has a line
for each image with all that is true of it. {unknown} of {total} images have no known size of a
pixel (no `spacing_mm` in their line): they are secondary captures without PixelSpacing.
"""
_SEGMENTATIONS = """
`segmentations/{{split}}/{{key}}.dcm`: its label map, as a segmentation in the same study with one
segment for each class that is seen, whose label is the class's name. {empty} of {total} images show
background alone: they have none. ContentDate 1970-01-01 stands for no date.
"""


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes images/{split}/{key}.dcm, labels/{split}.jsonl, README.md and, with masks,
    segmentations/{split}/{key}.dcm and classes.json.

    Yields the number of samples done so far. Raises as webdataset.export does, and InputError
    without the extra `medical`.
    """
    of = reader.manifest
    origin = DicomOrigin(of.digest, f"{of.name}@{of.version}", of.code_version)
    kinds = kinds_in(reader) & {MASK}
    folders = ("images", "segmentations") if kinds else ("images",)
    done = num_unknown = num_empty = 0
    with staged_folder(folder) as partial:
        (partial / "labels").mkdir()
        for split in reader.splits:
            for name in folders:
                (partial / name / split).mkdir(parents=True)
            with (partial / "labels" / f"{split}.jsonl").open("wb") as lines:
                for sample, pixels in iter_decoded(reader, split):
                    labels = labels_with(sample, kinds)
                    lines.write(line_of(sample, labels))
                    files = _files(pixels, labels, reader.names, sample.key, origin)
                    for name, content in files.items():
                        (partial / name / split / f"{sample.key}.dcm").write_bytes(content)
                    num_unknown += labels.spacing_mm is None
                    num_empty += len(files) < len(folders)
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        text = _README
        if kinds:
            text += _SEGMENTATIONS
            classes = {name: value for value, name in enumerate(reader.names)}
            (partial / "classes.json").write_bytes(canonical_json(classes) + b"\n")
        counts = {"unknown": num_unknown, "empty": num_empty, "total": done}
        (partial / "README.md").write_text(text.format(title=origin.title, **counts))
    yield done


def _files(
    pixels: Pixels, labels: Labels, names: tuple[str, ...], key: str, origin: DicomOrigin
) -> dict[str, bytes]:
    """Folder => content."""
    image = image_object(pixels, labels, key=key, origin=origin)
    files = {"images": file_bytes(image)}
    if labels.mask is not None:
        made = segmentation_object(image, labels.mask, names, key=key, origin=origin)
        if made is not None:
            files["segmentations"] = file_bytes(made)
    return files
