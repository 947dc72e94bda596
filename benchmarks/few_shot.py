"""Fashion-MNIST, 50 real images of each class: real + synthetic against real + tuned augmentation,
the generator trained on the same 500 images and nothing else.

    python benchmarks/few_shot.py --data DIR --folder DIR [--subsets 10] [--generator cgan]
                                  [--images 80000] [--arm mixed]

Subsets are paired: both arms have the same real images, seeds, steps and augmentation, which is
tuned for the arm without synthetic images. mixed: half of each batch is synthetic; pretrained: the
first half of the steps is. Each finished subset is kept in the folder; a run goes
on where one ended. One core.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.utility.arms import DEFAULT, train_and_score
from datagen.evaluation.utility.few_shot import draw_subset, tuned_policy
from datagen.evaluation.utility.network import SmallNetworkTrainer
from datagen.evaluation.utility.scores import Score
from datagen.evaluation.utility.statistics import estimate
from datagen.evaluation.utility.training import Examples, Task
from datagen.fingerprint import device_model
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig
from datagen.references.threads import one_thread_each
from datagen.training.dataset import RealImages, load_real_images
from datagen.training.judge import HeldOutJudge, sample_class
from datagen.training.loop import train
from datagen.training.model_recipe import DataSource, ModelRecipe, Schedule

NUM_CLASSES, PER_CLASS, SYNTHETIC_PER_CLASS, SEEDS = 10, 50, 200, 3
CLASS_NAMES = tuple(str(k) for k in range(NUM_CLASSES))
NETWORKS = {
    "edm": {"patch_px": 2, "widths": [48, 96], "sigma_data": 0.706},
    "cgan": {"latent_dim": 64, "widths": [96, 64], "num_blocks": 1},
}
OBJECTIVES = {
    "edm": {"precision": "bfloat16", "evaluation_steps": 12},
    "cgan": {"gamma": 0.5, "augment_probability": 0.5, "precision": "bfloat16"},
}
ARMS = {"mixed": "second", "pretrained": "pretraining"}
EFFORT = replace(DEFAULT, few_steps=400)


def synthetic_images(
    real: Examples,
    generator: str,
    *,
    num_images: int,
    source: DataSource,
    folder: Path,
    seed: int,
    per_class: int = SYNTHETIC_PER_CLASS,
) -> Examples:
    """Samples of the last moving-average weights after training on `real` for so many images."""
    kept = folder / "samples.npz"
    if not kept.exists():
        recipe = ModelRecipe(
            version=1, name="few-shot", generator=generator, seed=seed, data=source,
            network=NETWORKS[generator], objective=OBJECTIVES[generator],
            schedule=Schedule(
                num_images=num_images, batch_size=64,
                learning_rate={"edm": 1e-3, "cgan": 3e-4}[generator],
                warmup_images=2_000, ema_halflife_images=10_000,
                evaluate_every_images=10**9, checkpoint_every_images=10**9,
            ),
        )  # fmt: skip
        spec = GENERATORS[generator]
        config = ModelConfig(
            generator, CLASS_NAMES, (28, 28), 1,
            spec.network_options.model_validate(recipe.network).model_dump(mode="json"),
        )  # fmt: skip
        objective = spec.objective(
            config, spec.objective_options.model_validate(recipe.objective), seed=seed
        )
        images = RealImages(real.images, real.class_ids)
        # Judged on its own training images: no other real image takes part.
        trained = train(
            recipe, objective, train_part=images, folder=folder / "training",
            judge=HeldOutJudge(images, images, config=config, seed=seed),
        )  # fmt: skip
        print(f"  trained on {trained.progress.images_seen:,} images", flush=True)
        sampler = objective.ema_sampler(100)
        parts = [sample_class(sampler, c, per_class) for c in range(NUM_CLASSES)]
        np.savez_compressed(kept, images=np.concatenate(parts))
    images_made = np.load(kept)["images"]
    return Examples(images_made, np.repeat(np.arange(NUM_CLASSES), len(images_made) // NUM_CLASSES))


def measure(
    real: Examples,
    rows: NDArray[np.int64],
    synthetic: Examples,
    test: Examples,
    *,
    arm: str,
    seed: int,
) -> tuple[str, list[Score], list[Score]]:
    trainer, stop = SmallNetworkTrainer(NUM_CLASSES, width=24), threading.Event()
    policy = tuned_policy(
        real, rows, EFFORT,
        lambda what, work: [train_and_score(trainer, task, on, stop) for task, on in work],
        what="tuning", seed=seed,
    )  # fmt: skip
    few = real.take(rows)
    tasks = [Task(few, SEEDS * seed + s, EFFORT.few_steps, policy) for s in range(SEEDS)]
    alone = [train_and_score(trainer, task, test, stop) for task in tasks]
    added = {ARMS[arm]: synthetic}
    both = [train_and_score(trainer, replace(t, **added), test, stop) for t in tasks]
    return policy, both, alone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--subsets", type=int, default=10)
    parser.add_argument("--generator", choices=tuple(NETWORKS), default="cgan")
    parser.add_argument("--images", type=int, default=80_000, help="seen in training, a subset")
    parser.add_argument("--arm", choices=tuple(ARMS), default="mixed")
    arguments = parser.parse_args()
    cores, arm = os.cpu_count(), arguments.arm
    print(
        f"machine: {device_model('cpu')}, {cores} cores, {arguments.generator}, {arm}", flush=True
    )
    source = DataSource(
        format="idx", path=arguments.data, class_names=CLASS_NAMES, licence="MIT", source="F-MNIST"
    )
    real, test = (
        Examples(each.images.copy(), each.class_ids)
        for each in (load_real_images(source, part=part) for part in ("train", "test"))
    )
    gaps, influences = [], []
    for number in range(arguments.subsets):
        folder = arguments.folder / f"{arguments.generator}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"result-{arm}.npz"
        if not kept.exists():
            started = time.monotonic()
            rows = draw_subset(real, PER_CLASS, number)
            with one_thread_each():
                synthetic = synthetic_images(
                    real.take(rows), arguments.generator, num_images=arguments.images,
                    source=source, folder=folder, seed=number,
                )  # fmt: skip
                policy, both, alone = measure(real, rows, synthetic, test, arm=arm, seed=number)
            accuracies = [[s.figures["accuracy"].value for s in arm] for arm in (both, alone)]
            parts = [
                a.figures["accuracy"].influence - b.figures["accuracy"].influence
                for a, b in zip(both, alone, strict=True)
            ]
            np.savez_compressed(kept, accuracies=accuracies, influence=np.mean(parts, axis=0))
            with_synthetic, without = np.mean(accuracies, axis=1)
            print(
                json.dumps({
                    "subset": number, "policy": policy, "real + augmentation": round(without, 4),
                    "real + synthetic": round(with_synthetic, 4),
                    "seconds": round(time.monotonic() - started),
                }),
                flush=True,
            )  # fmt: skip
        result = np.load(kept)
        with_synthetic, without = result["accuracies"].mean(1)
        gaps.append(with_synthetic - without)
        influences.append(result["influence"])
        if len(gaps) > 1:
            gap = estimate(np.array(gaps), np.mean(influences, axis=0), None)
            low, high = gap.interval()
            print(
                f"after {len(gaps)} subsets: {100 * gap.value:+.2f} points "
                f"[{100 * low:+.2f}, {100 * high:+.2f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
