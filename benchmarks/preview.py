"""From the request for a preview of eight images to their pictures, with warm workers.

    PYTHONPATH=. python benchmarks/preview.py [--rounds 7]

The shipped fast model, fashion-mnist-cgan; each round has a seed of its own, so that nothing is in
the cache. Target: under 2 s.
"""

from __future__ import annotations

import argparse
import base64
import statistics
import time
from typing import Any

import httpx

from benchmarks.forecast import CGAN
from benchmarks.large_catalog import machine
from benchmarks.service import started_stack

_POLL_S = 0.02


def recipe(seed: int) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "shown",
        "seed": seed,
        "image_size": [28, 28],
        "classes": [{"name": "sneaker", "count": 1_000}],
        "generator": {"model": CGAN},
        "filters": [{"filter": "blank"}, {"filter": "duplicate"}],
    }


def preview_seconds(client: httpx.Client, seed: int) -> float:
    started = time.perf_counter()
    made = client.post("/previews", json={"recipe": recipe(seed)}).raise_for_status().json()
    while True:
        found = client.get(f"/previews/{made['id']}").raise_for_status().json()
        if found["images"]:
            break
        if found["state"] in ("FAILED", "CANCELLED"):
            raise SystemExit(f"the preview is {found['state']}: {found['error']}")
        time.sleep(_POLL_S)
    pictures = [base64.b64decode(each["png_base64"]) for each in found["images"]]
    assert len(pictures) == 8
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with started_stack() as stack, stack.client() as client:
        for role in ("generate", "cpu", "beat"):
            stack.start_worker(role)
        print(f"cold workers: {preview_seconds(client, 0):.2f} s", flush=True)
        found = [preview_seconds(client, 1 + turn) for turn in range(arguments.rounds)]
    print(
        f"warm workers: median {statistics.median(found):.2f} s of "
        f"{', '.join(f'{each:.2f}' for each in found)} (target 2 s)"
    )


if __name__ == "__main__":
    main()
