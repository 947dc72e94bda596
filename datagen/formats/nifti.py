"""NIfTI files of one slice each, with label maps beside them. Called by `datagen pull`.

For software that reads volumes of medical images: see docs/medical.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from datagen.formats.decoded import iter_decoded, line_of
from datagen.formats.labelled import INSTANCES, MASK, kinds_in, labels_with
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.images import Pixels
from datagen.labels import Labels
from datagen.medical.nifti_writing import slice_bytes
from datagen.medical.planes import PIXEL_MM, plane_of
from datagen.recipe import canonical_json

PROGRESS_SAMPLES = 256

# Kind of label map => its folder.
_FOLDERS = {MASK: "labels", INSTANCES: "instances"}

_README = """# {name}@{version}

Synthetic images: no patient was imaged. For research and for training software, not for clinical
use.

`images/{{split}}/{{key}}.nii.gz` are volumes of one slice, grey of {bits} bits or RGB24, values as
they were generated: no Hounsfield or other units. `labels/` and `instances/`, where there are any,
hold label maps on the same grid; `classes.json` names the values of `labels/`.
`labels/{{split}}.jsonl` has a line for each image with all else that is true of it.

The plane is the class's attribute `plane` (axial, coronal or sagittal; axial where it has none);
the first pixel lies at the origin. The distance between slices is not known: it is written as 1 mm.
{unknown} of {total} images have no known size of a pixel (no `spacing_mm` in their line): it is
written as 1 mm.
"""


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes images/{split}/{key}.nii.gz, where there are masks also labels/{split}/{key}.nii.gz,
    where there are instances also instances/{split}/{key}.nii.gz; labels/{split}.jsonl, README.md
    and, with masks, classes.json.

    Yields the number of samples done so far. Raises as webdataset.export does, and InputError
    without the extra `medical`.
    """
    folders = {kind: name for kind, name in _FOLDERS.items() if kind in kinds_in(reader)}
    done = num_unknown = 0
    with staged_folder(folder) as partial:
        for split in reader.splits:
            for name in ("images", "labels", *folders.values()):
                (partial / name / split).mkdir(parents=True, exist_ok=True)
            with (partial / "labels" / f"{split}.jsonl").open("wb") as lines:
                for sample, pixels in iter_decoded(reader, split):
                    labels = labels_with(sample, folders.keys())
                    lines.write(line_of(sample, labels))
                    for name, content in _files(pixels, labels, folders).items():
                        (partial / name / split / f"{sample.key}.nii.gz").write_bytes(content)
                    num_unknown += labels.spacing_mm is None
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        if MASK in folders:
            classes = {name: value for value, name in enumerate(reader.names)}
            (partial / "classes.json").write_bytes(canonical_json(classes) + b"\n")
        of = reader.manifest
        counts = {"unknown": num_unknown, "total": done}
        text = _README.format(name=of.name, version=of.version, bits=of.bits, **counts)
        (partial / "README.md").write_text(text)
    yield done


def _files(pixels: Pixels, labels: Labels, folders: Mapping[str, str]) -> dict[str, bytes]:
    """Folder => content."""
    values: dict[str, NDArray[Any]] = {"images": pixels}
    values |= {name: getattr(labels, kind) for kind, name in folders.items()}
    plane = plane_of(labels.attributes)
    spacing_mm = labels.spacing_mm or (PIXEL_MM, PIXEL_MM)
    return {
        name: slice_bytes(each, plane=plane, spacing_mm=spacing_mm) for name, each in values.items()
    }
