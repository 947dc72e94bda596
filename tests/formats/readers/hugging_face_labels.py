"""Loads a folder with Hugging Face `datasets` and prints the labels it saw beside the class.

A process of its own: `datasets` reads its environment on import. Run by read_by.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import datasets
import numpy as np


def main(folder: str) -> None:
    seen = {}
    for split, part in datasets.load_dataset(folder).items():
        for row in part:
            seen[row["key"]] = {"split": split, **_labels(row, part.features)}
    json.dump(seen, sys.stdout)


def _labels(row: dict[str, Any], features: datasets.Features) -> dict[str, Any]:
    objects, categories = row["objects"], row["objects"]["categories"]
    kind = features["objects"]["categories"].feature
    if isinstance(kind, datasets.ClassLabel):
        categories = [kind.int2str(category) for category in categories]
    maps = {
        name: np.asarray(row[name]).tolist() for name in ("mask", "instances") if name in features
    }
    words = {name: row[name] for name in ("also", "caption") if name in features}
    return {"bbox": objects["bbox"], "categories": categories, **maps, **words}


if __name__ == "__main__":
    main(sys.argv[1])
