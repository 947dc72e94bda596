"""One PNG file per sample in a folder per class. Called by `datagen pull`.

Read by torchvision's ImageFolder (per split) and Hugging Face's `imagefolder` builder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from datagen.formats.hugging_face import front_matter, split_configs, split_names
from datagen.formats.labelled import (
    OBJECTS,
    bbox_xywh,
    class_words_in,
    kinds_in,
    labels_with,
)
from datagen.formats.staging import staged_folder
from datagen.formats.version import StoredSample, VersionReader
from datagen.recipe import canonical_json

PROGRESS_SAMPLES = 256


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes {split}/{class_name}/{key}.png, {split}/metadata.jsonl and README.md.

    Yields the number of samples done so far. Raises as parquet.export does.
    """
    names = split_names(reader.splits)
    optional = class_words_in(reader) | kinds_in(reader) & {OBJECTS}
    done = 0
    with staged_folder(folder) as partial:
        for split, name in names.items():
            for class_name in reader.class_names:
                (partial / name / class_name).mkdir(parents=True)
            with (partial / name / "metadata.jsonl").open("wb") as metadata:
                for sample in reader.iter_samples(split):
                    (partial / name / _file_name(sample)).write_bytes(sample.png)
                    metadata.write(_metadata_line(sample, optional))
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


def _metadata_line(sample: StoredSample, optional: Set[str]) -> bytes:
    """label is the class's name, and `datasets` keeps it as text (class_encode_column numbers it),
    and so are the categories of objects.

    attributes and also are JSON text, a caption is never null, boxes have decimals: `datasets`
    wants one type per field in all splits. optional: the fields beside, on every line or on none.
    Source of `objects`: https://huggingface.co/docs/datasets/image_dataset, object detection.
    """
    content: dict[str, Any] = {
        "file_name": _file_name(sample),
        "label": sample.record["class_name"],
        "ordinal": sample.record["ordinal"],
        "key": sample.key,
        "attributes": canonical_json(sample.record["attributes"]).decode(),
    }
    given = sample.record.get("labels", {})
    if "also" in optional:
        content["also"] = canonical_json(given.get("also", [])).decode()
    if "caption" in optional:
        content["caption"] = given.get("caption", "")
    if OBJECTS not in optional:
        return canonical_json(content) + b"\n"
    objects = labels_with(sample, {OBJECTS}).objects or ()
    content["objects"] = {
        "bbox": [bbox_xywh(each.box_xyxy) for each in objects],
        "categories": [each.class_name for each in objects],
    }
    # Not canonical_json, which writes 1.0 as 1.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.encode() + b"\n"
