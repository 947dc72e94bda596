"""Loads a folder with Hugging Face `datasets` and prints what it saw as JSON.

A process of its own: `datasets` reads its environment on import. Run by read_by.
"""

from __future__ import annotations

import hashlib
import json
import sys

import datasets
import numpy as np


def main(folder: str, builder: str | None) -> None:
    loaded = (
        datasets.load_dataset(builder, data_dir=folder)
        if builder
        else datasets.load_dataset(folder)
    )
    seen = {}
    for split, part in loaded.items():
        label = part.features["label"]
        has_names = isinstance(label, datasets.ClassLabel)
        rows = [
            {
                **{name: row[name] for name in ("key", "ordinal", "attributes")},
                "class_name": label.int2str(row["label"]) if has_names else row["label"],
                "shape": np.asarray(row["image"]).shape,
                "pixels": hashlib.sha256(np.asarray(row["image"]).tobytes()).hexdigest(),
            }
            for row in part
        ]
        seen[split] = {
            "image_type": type(part.features["image"]).__name__,
            "label_type": type(label).__name__,
            "class_names": label.names if has_names else None,
            "rows": rows,
        }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
