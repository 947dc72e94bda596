"""Validates a croissant.json with mlcroissant, reads every record, and prints both as JSON.

A process of its own: mlcroissant reads its cache folder on import. Run by read_by.
"""

from __future__ import annotations

import hashlib
import json
import sys

import mlcroissant
import numpy as np


def main(path: str) -> None:
    dataset = mlcroissant.Dataset(path)
    issues = dataset.metadata.ctx.issues
    records = []
    for record in dataset.records("samples"):
        plain = {name.removeprefix("samples/"): value for name, value in record.items()}
        pixels = np.asarray(plain.pop("image"))
        records.append(
            {
                **{k: v.decode() if isinstance(v, bytes) else int(v) for k, v in plain.items()},
                "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
            }
        )
    seen = {
        "conforms_to": str(dataset.metadata.ctx.conforms_to.value),
        "errors": sorted(issues.errors),
        "warnings": sorted(issues.warnings),
        "records": records,
    }
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
