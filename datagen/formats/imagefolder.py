"""One PNG file per sample in a folder per class. Called by `datagen pull`.

Read by torchvision's ImageFolder (per split) and Hugging Face's `imagefolder` builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.formats.hugging_face import front_matter, split_configs, split_names
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.recipe import canonical_json

PROGRESS_SAMPLES = 256


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes {split}/{class_name}/{key}.png, {split}/metadata.jsonl and README.md.

    Yields the number of samples done so far. Raises as parquet.export does.
    """
    names = split_names(reader.splits)
    done = 0
    with staged_folder(folder) as partial:
        for split, name in names.items():
            for class_name in reader.class_names:
                (partial / name / class_name).mkdir(parents=True)
            with (partial / name / "metadata.jsonl").open("wb") as metadata:
                for sample in reader.iter_samples(split):
                    (partial / name / _file_name(sample)).write_bytes(sample.png)
                    metadata.write(_metadata_line(sample))
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        readme = front_matter(
            {"configs": split_configs({name: f"{name}/**" for name in names.values()})}
        )
        (partial / "README.md").write_text(f"{readme}\n# {reader.manifest.name}\n")
    yield done


def _file_name(sample: StoredSample) -> str:
    return f"{sample.record['class_name']}/{sample.key}.png"


def _metadata_line(sample: StoredSample) -> bytes:
    """label is the class's name, and `datasets` keeps it as text (class_encode_column numbers it).

    attributes is JSON text: `datasets` wants one type per field, and classes may differ in theirs.
    """
    content = {
        "file_name": _file_name(sample),
        "label": sample.record["class_name"],
        "ordinal": sample.record["ordinal"],
        "key": sample.key,
        "attributes": canonical_json(sample.record["attributes"]).decode(),
    }
    return canonical_json(content) + b"\n"
