"""Plain PNG label maps beside the images. Called by `datagen pull`.

Read by any program that opens a grey PNG: its values are the numbers of classes, or of objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.formats.labelled import INSTANCES, MASK, kinds_in, labels_with, require
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.labels import Labels
from datagen.recipe import canonical_json

NEEDS = frozenset({MASK})
PROGRESS_SAMPLES = 256


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes images/{split}/{key}.png, masks/{split}/{key}.png, where there are instances also
    instances/{split}/{key}.png, labels/{split}.jsonl and classes.json.

    classes.json: name => value in masks. labels: a line for each image, its class and objects; the
    pixels of object k, counted from 1, have value k in instances, of 16 bits above 255. Yields the
    number of samples done so far. Raises as webdataset.export does, and InputError without masks.
    """
    require(reader, NEEDS, layout="masks")
    kinds = kinds_in(reader)
    done = 0
    with staged_folder(folder) as partial:
        (partial / "labels").mkdir()
        for split in reader.splits:
            folders = {
                "images": partial / "images" / split,
                "masks": partial / "masks" / split,
                **({"instances": partial / "instances" / split} if INSTANCES in kinds else {}),
            }
            for path in folders.values():
                path.mkdir(parents=True)
            with (partial / "labels" / f"{split}.jsonl").open("wb") as lines:
                for sample in reader.iter_samples(split):
                    lines.write(_line(sample, labels_with(sample, kinds)))
                    content = {
                        "images": sample.png,
                        "masks": sample.mask,
                        "instances": sample.instances,
                    }
                    for name, path in folders.items():
                        (path / f"{sample.key}.png").write_bytes(content[name])
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        classes = {name: value for value, name in enumerate(reader.names)}
        (partial / "classes.json").write_bytes(canonical_json(classes) + b"\n")
    yield done


def _line(sample: StoredSample, labels: Labels) -> bytes:
    content = {"key": sample.key, **labels.to_json(), **labels.spatial_json()}
    return canonical_json(content) + b"\n"
