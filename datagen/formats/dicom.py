"""DICOM files, of images and of their label maps. Called by `datagen pull`.

For software that reads DICOM: see docs/medical.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.formats.decoded import iter_decoded, line_of
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.medical.dicom_writing import DicomOrigin, file_bytes, image_object

PROGRESS_SAMPLES = 256

_README = """# {title}

Synthetic images: no patient was imaged. For research and for training software, not for clinical
use. Every object says so itself: SyntheticData YES, no name, number, date or place of a patient.

`images/{{split}}/{{key}}.dcm`: an image, in a study of its own. `labels/{{split}}.jsonl` has a line
for each image with all that is true of it. {unknown} of {total} images have no known size of a pixel
(no `spacing_mm` in their line): they are secondary captures without PixelSpacing.
"""


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes images/{split}/{key}.dcm, labels/{split}.jsonl and README.md.

    Yields the number of samples done so far. Raises as webdataset.export does, and InputError
    without the extra `medical`.
    """
    of = reader.manifest
    origin = DicomOrigin(of.digest, f"{of.name}@{of.version}", of.code_version)
    done = num_unknown = 0
    with staged_folder(folder) as partial:
        (partial / "labels").mkdir()
        for split in reader.splits:
            place = partial / "images" / split
            place.mkdir(parents=True)
            with (partial / "labels" / f"{split}.jsonl").open("wb") as lines:
                for sample, pixels in iter_decoded(reader, split):
                    labels = sample.labels
                    lines.write(line_of(sample, labels))
                    image = image_object(pixels, labels, key=sample.key, origin=origin)
                    (place / f"{sample.key}.dcm").write_bytes(file_bytes(image))
                    num_unknown += labels.spacing_mm is None
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        text = _README.format(title=origin.title, unknown=num_unknown, total=done)
        (partial / "README.md").write_text(text)
    yield done
