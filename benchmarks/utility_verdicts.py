"""The quick verdict on data sets whose answer is known, on Fashion-MNIST.

    python benchmarks/utility_verdicts.py --data DIR [--tries 20] [--kinds shuffled real held-out]
                                          [--results FILE] [--workers 2]

shuffled: real images whose labels are shuffled, `harms` or `inconclusive` is right. real: other
real images, `helps` or `no_difference` is right. held-out: the held-out images themselves, the
same; its worth ought to be its size. Every try has other images and another seed. Goes on where
FILE ends.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from datagen.evaluation.utility import measure_utility
from datagen.evaluation.utility.arms import QUICK
from datagen.fingerprint import device_model
from datagen.image_set import ImageSet
from datagen.training.dataset import load_real_images
from datagen.training.model_recipe import DataSource

NUM_TRAIN, NUM_SYNTHETIC, NUM_HELD_OUT = 5_000, 3_000, 3_000
RIGHT = {
    "shuffled": ("harms", "inconclusive"),
    "real": ("helps", "no_difference"),
    "held-out": ("helps", "no_difference"),
}


def load(data: Path, part: str) -> ImageSet:
    names = tuple(str(k) for k in range(10))
    source = DataSource(format="idx", path=data, class_names=names, licence="MIT", source="F-MNIST")
    real = load_real_images(source, part=part)
    files = tuple(f"{part}-{i}" for i in range(len(real)))
    return ImageSet(real.images, real.class_ids, names, files)


def one_try(
    kind: str, number: int, real: ImageSet, test: ImageSet, *, workers: int
) -> dict[str, object]:
    rng = np.random.default_rng([number, 9])
    rows = rng.permutation(len(real))
    train = real.take(rows[:NUM_TRAIN])
    held_out = test.take(rng.permutation(len(test))[:NUM_HELD_OUT])
    synthetic = real.take(rows[NUM_TRAIN : NUM_TRAIN + NUM_SYNTHETIC])
    if kind == "shuffled":
        synthetic = replace(synthetic, class_ids=rng.permutation(synthetic.class_ids))
    if kind == "held-out":
        synthetic = held_out
    started, computed = time.monotonic(), time.process_time()
    found = measure_utility(
        synthetic, train, held_out, quick=True, effort=replace(QUICK, few_shot=()), seed=number,
        workers=workers,
    )  # fmt: skip
    return {
        "kind": kind, "try": number, "verdict": found.verdict,
        "right": found.verdict in RIGHT[kind], "sentence": found.sentence,
        "gap": found.gap.to_json(), "images": len(synthetic),
        "worth": found.worth_real_labels.to_json(),
        "seconds": round(time.monotonic() - started),
        "cpu_s": round(time.process_time() - computed),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--kinds", nargs="*", default=list(RIGHT), choices=list(RIGHT))
    parser.add_argument("--results", type=Path, default=Path("utility_verdicts.jsonl"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores", flush=True)
    real, test = load(arguments.data, "train"), load(arguments.data, "test")
    done = []
    if arguments.results.exists():
        done = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    known = {(each["kind"], each["try"]) for each in done}
    with open(arguments.results, "a") as file:
        for number in range(arguments.tries):
            for kind in arguments.kinds:
                if (kind, number) not in known:
                    row = one_try(kind, number, real, test, workers=arguments.workers)
                    done.append(row)
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    print(json.dumps(row), flush=True)
    for kind in arguments.kinds:
        mine = [each for each in done if each["kind"] == kind]
        right = sum(each["right"] for each in mine)
        verdicts = {
            v: sum(each["verdict"] == v for each in mine) for v in {e["verdict"] for e in mine}
        }
        print(f"{kind}: right in {right} of {len(mine)}: {verdicts}")


if __name__ == "__main__":
    main()
