"""How often the 90% interval of "worth N real labels" covers the truth, on real images that pose as
synthetic: sets of different size, a part of their labels wrong.

    python benchmarks/worth_coverage.py --data DIR [--scenarios 50] [--classifier probe]
                                        [--results FILE]

DIR holds Fashion-MNIST's four IDX files. The truth of a set without wrong labels is its size; of
others it is measured: the plain accuracy of many independent sets like it, all test images, read
off the mean learning curve of many independent real sets. Goes on where FILE ends. One core.
--classifier cnn: the small network of the default evaluation, on sets without wrong labels alone,
whose truth needs no measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.utility.learning import Fit, Material, measure_worth, probe_fit, trainer_fit
from datagen.evaluation.utility.network import SmallNetworkTrainer
from datagen.evaluation.utility.probe import PatchFeatures, nested_margins
from datagen.evaluation.utility.training import Examples
from datagen.fingerprint import device_model
from datagen.references.threads import one_thread_each
from datagen.training.dataset import load_real_images
from datagen.training.model_recipe import DataSource

NUM_CLASSES, POOL, NUM_TEST = 10, 5_000, 5_000
WRONG_SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
TRUTH_SIZES = [60, 120, 250, 500, 1000, 2000, 4000, 8000]
TRUTH_REPEATS = 14
NUM_STEPS = 150


class Truth:
    """Accuracy of the same kind of classifier, averaged over many independent sets."""

    def __init__(self, real: Examples, test: Examples) -> None:
        features = PatchFeatures(real.images[:POOL], seed=0)
        self.known = features.extract(real.images)
        self.class_ids = real.class_ids
        self.tested = (features.extract(test.images), test.class_ids)
        rng = np.random.default_rng(1)
        self.curve = np.mean(
            [
                self.accuracies(
                    rng.permutation(len(real))[: TRUTH_SIZES[-1]], TRUTH_SIZES, 0.0, rng
                )
                for _ in range(TRUTH_REPEATS)
            ],
            axis=0,
        )

    def accuracies(
        self,
        rows: NDArray[np.int64],
        sizes: list[int],
        wrong: float,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        train = (self.known[rows], with_wrong_labels(self.class_ids[rows], wrong, rng))
        margins = nested_margins(
            train, sizes, self.tested, num_classes=NUM_CLASSES, stop=threading.Event()
        )
        return (margins > 0).mean(1)

    def worth(self, num: int, wrong: float, rng: np.random.Generator) -> float:
        if wrong == 0:
            return num
        reached = np.mean(
            [
                self.accuracies(rng.permutation(len(self.known))[:num], [num], wrong, rng)
                for _ in range(TRUTH_REPEATS)
            ]
        )
        return float(np.exp(np.interp(reached, self.curve, np.log(TRUTH_SIZES))))


def with_wrong_labels(
    class_ids: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    changed = class_ids.copy()
    rows = np.flatnonzero(rng.random(len(changed)) < share)
    changed[rows] = (changed[rows] + rng.integers(1, NUM_CLASSES, len(rows))) % NUM_CLASSES
    return changed


def scenario(number: int, real: Examples, test: Examples, truth: Truth | None) -> dict[str, object]:
    """truth: None for the small network."""
    rng = np.random.default_rng([number, 2])
    num = int(np.exp(rng.uniform(np.log(300), np.log(5000))))
    wrong = WRONG_SHARES[number % len(WRONG_SHARES)] if truth else 0.0
    rows = rng.permutation(len(real))
    pool, posing = real.take(rows[:POOL]), real.take(rows[POOL : POOL + num])
    posing = Examples(posing.images, with_wrong_labels(posing.class_ids, wrong, rng))
    held_out = test.take(rng.permutation(len(test))[:NUM_TEST])
    material = Material(pool + posing, POOL, NUM_CLASSES)
    started = time.process_time()
    with one_thread_each():
        found = measure_worth(
            material,
            probe_fit(material, held_out, seed=number) if truth else network(material, held_out),
            lambda work: [each(threading.Event()) for each in work],
            num_sizes=7 if truth else 5,
            num_repeats=6 if truth else 4,
            num_runs=1 if truth else 3,
            seed=number,
        ).alone
        seconds = time.process_time() - started
        true = truth.worth(num, wrong, rng) if truth else num
    covers = (found.low or 0) <= true and (found.high is None or true <= found.high)
    return {
        "scenario": number, "images": num, "wrong": wrong, "truth": round(true),
        "worth": round(found.value or 0), "low": round(found.low or 0),
        "high": None if found.high is None else round(found.high),
        "covers": bool(covers), "cpu_s": round(seconds, 1),
    }  # fmt: skip


def network(material: Material, held_out: Examples) -> Fit:
    trainer = SmallNetworkTrainer(NUM_CLASSES)
    return trainer_fit(trainer, material, held_out, num_steps=NUM_STEPS, seed=0)


def load(data: Path, part: str) -> Examples:
    names = tuple(str(k) for k in range(NUM_CLASSES))
    source = DataSource(format="idx", path=data, class_names=names, licence="MIT", source="F-MNIST")
    real = load_real_images(source, part=part)
    return Examples(real.images.copy(), real.class_ids)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scenarios", type=int, default=50)
    parser.add_argument("--classifier", choices=("probe", "cnn"), default="probe")
    parser.add_argument("--results", type=Path, default=Path("worth_coverage.jsonl"))
    arguments = parser.parse_args()
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores", flush=True)
    real, test = load(arguments.data, "train"), load(arguments.data, "test")
    done = []
    if arguments.results.exists():
        done = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    numbers = set(range(arguments.scenarios)) - {each["scenario"] for each in done}
    truth = None
    if numbers and arguments.classifier == "probe":
        with one_thread_each():
            truth = Truth(real, test)
    with open(arguments.results, "a") as file:
        for number in sorted(numbers):
            row = scenario(number, real, test, truth)
            done.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(json.dumps(row), flush=True)
    covered = sum(each["covers"] for each in done)
    errors = [abs(np.log(each["worth"] / each["truth"])) for each in done if each["worth"]]
    print(f"the 90% interval covers the truth in {covered} of {len(done)} scenarios")
    print(f"median relative error of the figure: {np.expm1(np.median(errors)):.1%}")


if __name__ == "__main__":
    main()
