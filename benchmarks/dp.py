"""Differential privacy: accuracy of a CNN trained on private synthetic images, tested on real ones.

    python benchmarks/dp.py --data DIR [--recipe RECIPE] [--epsilon 10 1] [--work DIR] [--seeds 3]

DIR holds Fashion-MNIST's four IDX files. For each epsilon: the model recipe is trained as
`datagen train` trains it (going on from what lies in --work), 20,000 images are sampled, equal by
class, the CNN of datagen.features is trained on them alone and tested on the 10,000 test images,
which nothing else reads. Published: 86.2% at epsilon 10, 79.4% at 1 (DPDM, arXiv 2210.09929).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from datagen.features import accuracy, train_classifier
from datagen.fingerprint import device_model
from datagen.generators.model_directory import Model, load_model
from datagen.training.dataset import RealImages, load_real_images
from datagen.training.model_recipe import ModelRecipe, load_model_recipe
from datagen.training.session import train_model

RECIPE = Path(__file__).parent.parent / "recipes/models/fashion-mnist-cgan-private.yaml"
PUBLISHED = {10.0: 86.2, 1.0: 79.4}
EPOCHS = 10


def trained_model(recipe: ModelRecipe, epsilon: float, *, data: Path, work: Path) -> Model:
    assert recipe.privacy is not None
    recipe = recipe.model_copy(
        update={"privacy": recipe.privacy.model_copy(update={"epsilon": epsilon})}
    )
    folder = work / f"{recipe.name}-{epsilon:g}"
    out = folder / "model"
    if out.exists():
        return load_model(out)
    started = time.monotonic()

    def show(progress: object, losses: dict[str, float]) -> None:
        step = getattr(progress, "step", 0)
        if step % 100 == 0:
            words = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"  step {step}, {time.monotonic() - started:.0f} s: {words}", flush=True)

    return train_model(recipe, out=out, work=folder / "work", data=data, report=show)


def sampled(model: Model, num_images: int) -> RealImages:
    sampler = model.spec.load(
        model.config, model.weights, model.spec.options(), batch_size=model.spec.batch_size
    )
    num_classes = len(model.config.class_names)
    class_ids = np.arange(num_images) % num_classes
    parts = []
    for first in range(0, num_images, sampler.batch_size):
        seeds = range(first, min(first + sampler.batch_size, num_images))
        parts.append(sampler.sample(list(seeds), class_ids[first : seeds.stop].tolist()))
    return RealImages(np.concatenate(parts), class_ids.astype(np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--epsilon", type=float, nargs="*", default=[10.0, 1.0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep checkpoints and models here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {device_model('cpu')}, one thread", flush=True)
    recipe = load_model_recipe(arguments.recipe)
    source = recipe.data.model_copy(update={"path": arguments.data})
    test = load_real_images(source, part="test")
    with tempfile.TemporaryDirectory() as folder:
        for epsilon in arguments.epsilon:
            work = arguments.work or Path(folder)
            model = trained_model(recipe, epsilon, data=arguments.data, work=work)
            report(model, epsilon, test, num_images=arguments.images, num_seeds=arguments.seeds)


def report(
    model: Model, epsilon: float, test: RealImages, *, num_images: int, num_seeds: int
) -> None:
    facts, training = model.facts.privacy, model.facts.training
    assert facts is not None
    assert training is not None
    images = sampled(model, num_images)
    scores = []
    for seed in range(num_seeds):
        network = train_classifier(
            images.images,
            images.class_ids,
            num_classes=len(model.config.class_names),
            num_epochs=EPOCHS,
            seed=seed,
        )
        scores.append(100 * accuracy(network, test.images, test.class_ids))
    published = PUBLISHED.get(epsilon)
    print(
        f"{model.config.generator}, epsilon {facts.epsilon:.3f} (audited at least "
        f"{facts.audited_epsilon:.2f}), delta {facts.delta:g}, {training.seconds / 60:.0f} min: "
        f"accuracy {statistics.mean(scores):.2f}% ({min(scores):.2f} to {max(scores):.2f})"
        + (f"; published {published}" if published else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()
