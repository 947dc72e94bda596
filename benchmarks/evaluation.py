"""Cost of an evaluation without its utility part: seconds, memory, and how they grow.

    python benchmarks/evaluation.py --data DIR [--images 2500 5000 10000] [--side 32] [--whole]

DIR holds Fashion-MNIST's four IDX files. 50,000 training images are the reference, the other 10,000
pose as synthetic ones, test images are held out; all are padded to `side`. Features of the real
images are cached first; the copy search is fitted every time, as in every evaluation. --whole: the
default evaluation with utility, and what it says of real images that pose as a data set.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import torch
from fidelity import CLASS_NAMES, image_set

from datagen.evaluation.evaluate import About, Options, RealData, evaluate
from datagen.evaluation.fidelity import measure_fidelity
from datagen.evaluation.label_agreement import measure_label_agreement
from datagen.evaluation.privacy import measure_privacy
from datagen.features import FeatureCache, fit_classifier, load_extractor
from datagen.fingerprint import device_model
from datagen.image_set import ImageSet
from datagen.training.dataset import load_real_images
from datagen.training.model_recipe import DataSource

NUM_REFERENCE = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="*", default=[2500, 5000, 10_000])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    cores, threads = os.cpu_count(), torch.get_num_threads()
    print(f"machine: {device_model('cpu')}, {cores} cores, {threads} threads")
    source = DataSource(
        format="idx", path=arguments.data, class_names=CLASS_NAMES, licence="MIT", source="F-MNIST"
    )
    train, held_out = (
        image_set(load_real_images(source, part=part), arguments.side) for part in ("train", "test")
    )
    real = train.take(range(NUM_REFERENCE))
    posing = train.take(range(NUM_REFERENCE, NUM_REFERENCE + max(arguments.images)))
    if arguments.whole:
        whole(posing, real, held_out)
        return
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        fidelity_and_labels(posing.take(range(1000)), real, held_out, cache)
        for num in arguments.images:
            started, computed = time.monotonic(), time.process_time()
            fidelity_and_labels(posing.take(range(num)), real, held_out, cache)
            between = time.monotonic() - started
            found = measure_privacy(posing.take(range(num)), real, held_out, quick=False, seed=1)
            seconds, work = time.monotonic() - started, time.process_time() - computed
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            print(
                f"{num} images: {seconds:.0f} s ({between:.0f} fidelity and labels, "
                f"{seconds - between:.0f} copies), {work:.0f} CPU-s, {memory:.2f} GB\n"
                f"  {found.sentence}\n  excess {found.excess.to_json()}",
                flush=True,
            )


def whole(posing: ImageSet, real: ImageSet, held_out: ImageSet) -> None:
    started, computed = time.monotonic(), time.process_time()
    counts = dict(zip(posing.class_names, posing.counts().tolist(), strict=True))
    about = About("real images that pose as a data set", None, posing.digest(), counts)
    found, _ = evaluate(posing, RealData("others", real, held_out), about, Options(workers=2))
    seconds, work = time.monotonic() - started, time.process_time() - computed
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(posing)} images: {seconds:.0f} s, {work:.0f} CPU-s, {memory:.2f} GB")
    print(found.headline)
    print(f"excess {found.privacy.excess.to_json()}")


def fidelity_and_labels(
    synthetic: ImageSet, real: ImageSet, held_out: ImageSet, cache: FeatureCache
) -> None:
    classifier = fit_classifier(real, seed=0)
    extractor = load_extractor(None, classifier)
    measure_fidelity(
        synthetic, real, held_out, extractor=extractor, classifier=classifier, seed=0, quick=False,
        cache=cache,
    )  # fmt: skip
    measure_label_agreement(synthetic, classifier, held_out, seed=0)


if __name__ == "__main__":
    main()
