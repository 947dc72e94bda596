"""What `datagen plan` forecasts against what `datagen run` then takes: seconds and bytes of ten
pairs of recipe and model, rejections included.

    PYTHONPATH=. python benchmarks/forecast.py [--pairs NAME ...]

Each pair twice, each command in a process of its own: from a pilot, in an empty home; then, in the
home that has this one job by now, from the earlier job, for another seed and half as many images
again. Target: within 20% in 9 of 10, for seconds and for bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.large_catalog import machine

CLOTHES = [
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle-boot",
]
BLANK, DUPLICATE = {"filter": "blank"}, {"filter": "duplicate"}
MOVED = [
    {"transform": "HorizontalFlip", "p": 0.5},
    {"transform": "Affine", "p": 0.3, "params": {"rotate": [-8, 8]}},
]


def recipe(model: str, size: int, num_images: int, **changes: Any) -> dict[str, Any]:
    options = changes.pop("options", {})
    return {
        "version": 1,
        "name": "pair",
        "seed": 1,
        "image_size": [size, size],
        "classes": [{"name": name, "count": num_images // len(CLOTHES)} for name in CLOTHES],
        "generator": {"model": model, **options},
        "splits": {"ratios": {"train": 0.9, "val": 0.1}},
        **changes,
    }


CGAN, EDM = "fashion-mnist-cgan", "fashion-mnist-edm"
PAIRS = {
    "noise rgb 32": recipe("noise", 32, 20_000),
    "noise grey 28, moved": recipe(
        "noise", 28, 10_000, options={"channels": 1}, augmentations=MOVED
    ),
    "noise rgb 64, filters": recipe("noise", 64, 5_000, filters=[BLANK, DUPLICATE]),
    "cgan": recipe(CGAN, 28, 8_000),
    "cgan, filters, moved": recipe(
        CGAN, 28, 5_000, filters=[BLANK, DUPLICATE], augmentations=MOVED
    ),
    "cgan, blank rejects half": recipe(
        CGAN, 28, 3_000, filters=[{"filter": "blank", "min_contrast": 0.3}]
    ),
    "cgan, blank rejects some": recipe(
        CGAN, 28, 5_000, filters=[{"filter": "blank", "min_contrast": 0.25}]
    ),
    "cgan, duplicate is strict": recipe(
        CGAN, 28, 5_000, filters=[{"filter": "duplicate", "max_distance": 16}]
    ),
    "edm, 9 steps, filters": recipe(
        EDM, 28, 600, options={"num_inference_steps": 9}, filters=[BLANK, DUPLICATE]
    ),
    "edm, 6 steps, blank rejects": recipe(
        EDM,
        28,
        600,
        options={"num_inference_steps": 6},
        filters=[{"filter": "blank", "min_contrast": 0.28}],
    ),
}


def call(*arguments: str | Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "datagen", *map(str, arguments), "--json"]
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def compare(content: dict[str, Any], home: Path, *options: str) -> tuple[float, float]:
    """Prints a line. Returns forecast over actual of seconds and of bytes."""
    path = home / "recipe.json"
    path.write_text(json.dumps(content))
    planned = call("plan", path, "--home", home / "home", *options)
    made = call("run", path, "--home", home / "home")
    shown = call("show", f"{made['name']}@{made['version']}", "--home", home / "home")
    seconds = planned["seconds"] / made["seconds"]
    size = planned["dataset_bytes"] / shown["size_bytes"]
    basis, made_s = planned["seconds_basis"], made["seconds"]
    print(
        f"  {basis:13} seconds {planned['seconds']:6.1f} / {made_s:6.1f} = {seconds:.2f}   "
        f"bytes {size:.3f}   attempts {planned['attempts']:,} / {made['images_generated']:,}",
        flush=True,
    )
    return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", nargs="*", default=list(PAIRS), choices=list(PAIRS))
    arguments = parser.parse_args()
    print(machine())
    ratios: dict[str, list[tuple[float, float]]] = {"pilot": [], "earlier job": []}
    for name in arguments.pairs:
        print(name, flush=True)
        first = PAIRS[name]
        classes = [{**c, "count": c["count"] * 3 // 2} for c in first["classes"]]
        with tempfile.TemporaryDirectory() as folder:
            ratios["pilot"].append(compare(first, Path(folder), "--pilot"))
            second = {**first, "seed": 2, "classes": classes}
            ratios["earlier job"].append(compare(second, Path(folder)))
    for basis, found in ratios.items():
        for place, what in enumerate(("seconds", "bytes")):
            near = sum(0.8 <= pair[place] <= 1.2 for pair in found)
            print(f"by {basis}: {what} within 20% in {near} of {len(found)}")


if __name__ == "__main__":
    main()
