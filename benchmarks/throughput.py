"""Everything that is not a model: noise at 32x32, PNG, webdataset, no filters, to a published data
set in a directory and SQLite, through `datagen run`.

    python benchmarks/throughput.py [--images 10000 100000] [--workers 2] [--rounds 3]

Prints images/s of the whole command (start-up included) and the peak memory of its largest process
(VmHWM, sampled). Rounds alternate between the sizes; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datagen.fingerprint import device_model

DATAGEN = Path(sys.executable).with_name("datagen")
NUM_CLASSES = 10


def recipe(num_images: int) -> dict[str, object]:
    return {
        "version": 1,
        "name": f"noise-{num_images}",
        "seed": 1,
        "image_size": [32, 32],
        "classes": [
            {"name": f"class-{i}", "count": num_images // NUM_CLASSES} for i in range(NUM_CLASSES)
        ],
        "generator": {"model": "noise"},
        "splits": {"ratios": {"train": 0.9, "val": 0.1}},
    }


def run(num_images: int, workers: int) -> tuple[float, int]:
    """Returns seconds, and the peak resident memory of the largest process in KiB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "recipe.json")
        path.write_text(json.dumps(recipe(num_images)))
        started = time.monotonic()
        process = subprocess.Popen(
            [DATAGEN, "run", path, "--home", f"{folder}/home", "--workers", str(workers), "--json"],
            stdout=subprocess.DEVNULL,
        )
        peaks: dict[int, int] = {}
        while process.poll() is None:
            for pid in [process.pid, *children(process.pid)]:
                peaks[pid] = max(peaks.get(pid, 0), peak_memory(pid))
            time.sleep(0.02)
        if process.returncode:
            raise SystemExit(f"datagen run ended with exit code {process.returncode}")
        return time.monotonic() - started, max(peaks.values())


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def peak_memory(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores, {platform.python_version()}")
    found: dict[int, list[tuple[float, int]]] = {n: [] for n in arguments.images}
    for _ in range(arguments.rounds):
        for num_images, each in found.items():
            each.append(run(num_images, arguments.workers))
    for num_images, each in found.items():
        seconds = statistics.median(s for s, _ in each)
        peak = statistics.median(p for _, p in each)
        print(
            f"{num_images:>9,} images: {num_images / seconds:7,.0f} images/s, "
            f"peak of the largest process {peak / 1024:.0f} MiB"
        )


if __name__ == "__main__":
    main()
