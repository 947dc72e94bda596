"""Cost of fidelity, diversity and label agreement, their agreement with other packages, and the
small classifier's accuracy.

    python benchmarks/fidelity.py --data DIR [--images 2500 5000 10000] [--side 32]

DIR holds Fashion-MNIST's four IDX files. Test images pose as synthetic ones, padded to `side`;
features of the real images are cached first, as in a second evaluation against one reference.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from datagen.evaluation.feature_metrics import (
    frechet_distance,
    kernel_distance_estimate,
    manifold_figures,
    manifold_of,
)
from datagen.evaluation.fidelity import measure_fidelity
from datagen.evaluation.label_agreement import measure_label_agreement
from datagen.evaluation.results import Fidelity
from datagen.features import (
    Classifier,
    FeatureCache,
    accuracy,
    compute_features,
    fit_classifier,
    load_extractor,
    train_classifier,
)
from datagen.fingerprint import device_model
from datagen.image_set import ImageSet
from datagen.training.dataset import RealImages, load_real_images
from datagen.training.model_recipe import DataSource

CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="*", default=[2500, 5000, 10_000])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"machine: {device_model('cpu')}, {os.cpu_count()} cores, {platform.python_version()}")
    source = DataSource(
        format="idx",
        path=arguments.data,
        class_names=CLASS_NAMES,
        licence="MIT",
        source="Fashion-MNIST",
    )
    train, test = load_real_images(source), load_real_images(source, part="test")
    small_classifier(train, test, arguments.epochs)
    sets = [image_set(images, arguments.side) for images in (train, test)]
    classifier = fit_classifier(sets[0].take(range(20_000)), seed=0)
    agreement_with_others(sets, classifier)
    for num in arguments.images:
        one_size(sets, classifier, num)


def small_classifier(train: RealImages, test: RealImages, epochs: int) -> None:
    started = time.process_time()
    network = train_classifier(
        train.images, train.class_ids, num_classes=10, num_epochs=epochs, seed=0
    )
    seconds = time.process_time() - started
    reached = 100 * accuracy(network, test.images, test.class_ids)
    print(f"small classifier: {reached:.2f}% after {epochs} epochs, {seconds:.1f} CPU seconds")


def image_set(real: RealImages, side: int) -> ImageSet:
    """Black borders up to side x side."""
    before = (side - real.images.shape[1]) // 2
    after = side - real.images.shape[1] - before
    images = np.pad(real.images, ((0, 0), (before, after), (before, after), (0, 0)))
    names = tuple(f"{i}.png" for i in range(len(real)))
    return ImageSet(images, real.class_ids, CLASS_NAMES, names)


class _Given(torch.nn.Module):
    num_features = 128

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def agreement_with_others(sets: list[ImageSet], classifier: Classifier) -> None:
    """On the features of 2,000 real images of either part."""
    extractor = load_extractor(None, classifier)
    rows = range(2000)
    a, b = (compute_features(extractor, s.take(rows).images).astype(np.float64) for s in sets)
    fid = FrechetInceptionDistance(feature=_Given()).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=_Given(), subsets=1, subset_size=2000)
    kid.set_dtype(torch.float64)
    for metric in (fid, kid):
        metric.update(torch.from_numpy(a), real=True)
        metric.update(torch.from_numpy(b), real=False)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(a, b, nearest_k=5)
    figures = manifold_figures(manifold_of(a), manifold_of(b))
    theirs = float(fid.compute())
    print(f"FID: relative difference {abs(frechet_distance(a, b).value / theirs - 1):.1e}")
    theirs = float(kid.compute()[0])
    print(f"KID: relative difference {abs(kernel_distance_estimate(a, b).value / theirs - 1):.1e}")
    for name, value in expected.items():
        print(f"{name}: difference from prdc {abs(getattr(figures, name).value - value):.1e}")


def one_size(sets: list[ImageSet], classifier: Classifier, num: int) -> None:
    """num test images pose as synthetic; as many training images are held out."""
    synthetic = sets[1].take(range(num))
    held_out, real = sets[0].take(range(num)), sets[0].take(range(num, 2 * num))
    extractor = load_extractor(None, classifier)
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        for images in (held_out, real):
            compute_features(extractor, images.images, cache=cache)
        cpu, wall = time.process_time(), time.monotonic()
        found = measure_fidelity(
            synthetic,
            real,
            held_out,
            extractor=extractor,
            classifier=classifier,
            seed=0,
            quick=False,
            cache=cache,
        )
        agreement = measure_label_agreement(synthetic, classifier, held_out, seed=0)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{num} images of {real.image_shape}: {cpu:.1f} CPU s, {wall:.1f} s, peak {peak:.2f} GiB")
    print(f"  label agreement {agreement.agreement.value}, {extractor.name}")
    for name in Fidelity.NAMES:
        measure = getattr(found, name)
        shown = measure.withheld or (
            f"{measure.value:.5g} [{measure.low}, {measure.high}] floor {measure.floor:.5g}"
        )
        print(f"  {name:16} {shown}")


if __name__ == "__main__":
    main()
