"""What chance does to the mode-collapse watch, and what it says of models.

    python benchmarks/collapse.py --data DIR [--models fashion-mnist-cgan ...] [--pairs 1000]

DIR holds Fashion-MNIST's IDX files. Real images of a class are compared with other real ones of it,
on the features of the judge of a training with seed 1; then samples of each model, 200 a class.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from datagen.features import embed
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import load_model
from datagen.training.dataset import load_real_images, split_held_out
from datagen.training.diversity import watch
from datagen.training.judge import MAX_PER_CLASS, HeldOutJudge, sample_class
from datagen.training.model_recipe import DataSource

NUM_CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="*", type=Path, default=[])
    parser.add_argument("--pairs", type=int, default=1000, help="of sets, for each class")
    arguments = parser.parse_args()
    source = DataSource(format="idx", path=arguments.data, licence="MIT", source="Fashion-MNIST")
    real = load_real_images(source)
    train, held_out = split_held_out(real, held_out=5000, seed=1)
    config = ModelConfig("", tuple(map(str, range(NUM_CLASSES))), (28, 28), 1, {})
    judge = HeldOutJudge(train, held_out, config=config, seed=1)
    others = train.take(np.arange(20_000, 40_000))  # the judge's network has not seen these
    features = embed(judge.network, others.images)
    seen = {c: features[others.class_ids == c] for c in range(NUM_CLASSES)}
    rng = np.random.default_rng(0)
    print(f"{'n':>4} {'':9} {'mean':>6} {'1/1000':>7} {'1/100':>7}")
    for num in (10, 30, 100, 200):
        found = []
        for _ in range(arguments.pairs):
            sides = [
                {c: rng.choice(rows, num, replace=False) for c, rows in each.items()}
                for each in (seen, judge.features)
            ]
            found += list(watch(*sides).classes.values())
        for name in ("spread", "coverage"):
            values = np.array([getattr(each, name) for each in found])
            low = np.quantile(values, [0.001, 0.01])
            print(f"{num:4} {name:9} {values.mean():6.3f} {low[0]:7.3f} {low[1]:7.3f}")
    for path in arguments.models:
        model = load_model(path)
        sampler = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=100)
        samples = {
            c: embed(judge.network, sample_class(sampler, c, MAX_PER_CLASS))
            for c in range(NUM_CLASSES)
        }
        diversity = watch(samples, judge.features)
        print(model.name, diversity.figures())
        for line in diversity.warnings(model.config.class_names, generator=model.spec.name):
            print(" ", line)


if __name__ == "__main__":
    main()
