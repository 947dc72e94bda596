"""What the filters that know real images find, and what they cost the real ones.

    python benchmarks/filters.py --data DIR [--reference FILE] [--train N]

DIR holds Fashion-MNIST's IDX files. The reference is fitted to 55,000 of the 60,000 training
images and calibrated on half of the other 5,000, as `datagen models fit-reference` does, or read
from FILE. All shares below are of the 10,000 test images, which no step has seen. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datagen.filters import FILTERS
from datagen.filters.interface import FilterOptions, NetworkRule
from datagen.fingerprint import device_model
from datagen.image_set import ImageSet
from datagen.references.fit import fit_reference
from datagen.references.reference import Reference, load_reference
from datagen.training.dataset import RealImages, load_real_images, split_held_out
from datagen.training.model_recipe import DataSource

Images = NDArray[np.uint8]
CLASS_NAMES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
NUM_HELD_OUT, SPLIT_SEED = 5000, 1  # of the shipped models' recipes
WRONG_SHARE = 0.1
NUM_DAMAGED = NUM_COPIES = 2000


def rejected(
    name: str, images: Images, class_names: list[str], reference: Reference, options: FilterOptions
) -> NDArray[np.bool_]:
    """(N,): each image judged alone."""
    rule = FILTERS[name]
    scores = rule.score(images, class_names, reference)
    judges = {c: rule.judge(options, c, reference) for c in CLASS_NAMES}
    reasons = [judges[c].reject(score) for c, score in zip(class_names, scores, strict=True)]
    return np.array([reason is not None for reason in reasons])


def names_of(class_ids: NDArray[np.int64]) -> list[str]:
    return [CLASS_NAMES[c] for c in class_ids]


# --- label_agreement ------------------------------------------------------------------------------


def print_labels(test: RealImages, reference: Reference) -> None:
    """10% of the labels are wrong, each one of the other nine at random; then the hardest wrong
    label there is: the class that the classifier likes best after the right one."""
    rng = np.random.default_rng(5)
    is_wrong = rng.random(len(test)) < WRONG_SHARE
    others = (test.class_ids + rng.integers(1, 10, len(test))) % 10
    labels = np.where(is_wrong, others, test.class_ids)
    rule_options = FILTERS["label_agreement"].options()
    found = rejected("label_agreement", test.images, names_of(labels), reference, rule_options)
    print("\n| class of the label | wrong labels rejected | right labels rejected |\n|---|---|---|")
    for c, name in enumerate(CLASS_NAMES):
        of_class = labels == c
        wrong, right = found[of_class & is_wrong].mean(), found[of_class & ~is_wrong].mean()
        print(f"| {name} | {wrong:.1%} | {right:.1%} |")
    wrong, right = found[is_wrong].mean(), found[~is_wrong].mean()
    print(f"| **all {len(test):,} images** | **{wrong:.1%}** | **{right:.1%}** |")
    logits = reference.look(test.images).logits.copy()
    logits[np.arange(len(test)), test.class_ids] = -np.inf
    hardest = names_of(logits.argmax(axis=1))
    confused = rejected("label_agreement", test.images, hardest, reference, rule_options)
    print(f"| every label the most confusing one | {confused.mean():.1%} | |")


# --- outlier, quality -----------------------------------------------------------------------------


def damaged(images: Images) -> dict[str, Images]:
    rng = np.random.default_rng(6)
    num, side = len(images), images.shape[1]
    noise = rng.normal(0, 25, images.shape)
    tiles = images.reshape(num, 2, side // 2, 2, side // 2, 1)
    return {
        "as they are": images,
        "of another class": images,
        "noise alone": rng.integers(0, 256, images.shape, np.uint8),
        "noise of 25 levels added": np.clip(images + noise, 0, 255).astype(np.uint8),
        "inverted": 255 - images,
        "turned by 90 degrees": np.rot90(images, axes=(1, 2)),
        "upside down": images[:, ::-1],
        "quarters swapped": tiles[:, ::-1, :, ::-1].reshape(images.shape),
        "mean of two": ((images.astype(int) + images[rng.permutation(num)]) // 2).astype(np.uint8),
        "blurred, sigma 1.5 px": np.stack(
            [cv2.GaussianBlur(image, (0, 0), 1.5)[..., None] for image in images]
        ),
    }


def print_damage(test: RealImages, reference: Reference) -> None:
    own = names_of(test.class_ids)
    rng = np.random.default_rng(7)
    other = names_of((test.class_ids + rng.integers(1, 10, len(test))) % 10)
    names = ("outlier", "quality", "label_agreement")
    print(f"\n| images | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for kind, images in damaged(test.images).items():
        labels = other if kind == "of another class" else own
        shares = [
            rejected(name, np.ascontiguousarray(images), labels, reference, FILTERS[name].options())
            for name in names
        ]
        print(f"| {kind} | {' | '.join(f'{share.mean():.1%}' for share in shares)} |")


# --- duplicate ------------------------------------------------------------------------------------


def disguised(images: Images) -> dict[str, Images]:
    rng = np.random.default_rng(8)
    centre = (images.shape[2] / 2 - 0.5, images.shape[1] / 2 - 0.5)

    def noisy(spread: int) -> Images:
        noise = rng.integers(-spread, spread + 1, images.shape)
        return np.clip(images + noise, 0, 255).astype(np.uint8)

    def moved(matrix: NDArray[np.float64]) -> Images:
        size = images.shape[2], images.shape[1]
        return np.stack([cv2.warpAffine(image, matrix, size)[..., None] for image in images])

    def jpeg(image: Images) -> Images:
        data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)[..., None]

    return {
        "noise of ±2 levels": noisy(2),
        "noise of ±8 levels": noisy(8),
        "brightness +10%": np.clip(images * 1.1, 0, 255).astype(np.uint8),
        "JPEG 50": np.stack([jpeg(image) for image in images]),
        "turned by 3 degrees": moved(cv2.getRotationMatrix2D(centre, 3, 1)),
        "moved by half a pixel": moved(np.array([[1, 0, 0.5], [0, 1, 0.5]])),
        "moved by a pixel": moved(np.array([[1.0, 0, 1], [0, 1, 0]])),
    }


def print_duplicates(test: RealImages, reference: Reference) -> None:
    """Each copy against its original alone; real images against the others of their class."""
    rule = FILTERS["duplicate"]
    kinds = {
        "hash": rule.options(),
        "hash and features": rule.options.model_validate({"features": True}),
    }
    print(f"\n| images | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    some = test.images[:NUM_COPIES]
    for kind, copies in disguised(some).items():
        shares = [share_found(some, copies, reference, options) for options in kinds.values()]
        print(f"| copies: {kind} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    flagged = [share_flagged(test, reference, options) for options in kinds.values()]
    print(f"| real, of 1,000 in a class | {' | '.join(f'{share:.2%}' for share in flagged)} |")


def share_found(
    originals: Images, copies: Images, reference: Reference, options: FilterOptions
) -> float:
    rule = FILTERS["duplicate"]
    known = reference if rule.needs_reference(options) else None
    names = [""] * len(originals)
    first, second = (rule.score(images, names, known) for images in (originals, copies))
    found = 0
    for original, copy in zip(first, second, strict=True):
        judge = rule.judge(options, "", known)
        judge.accept(original)
        found += judge.reject(copy) is not None
    return found / len(copies)


def share_flagged(test: RealImages, reference: Reference, options: FilterOptions) -> float:
    rule = FILTERS["duplicate"]
    known = reference if rule.needs_reference(options) else None
    flagged = 0
    for class_id, name in enumerate(CLASS_NAMES):
        images = test.images[test.class_ids == class_id]
        judge = rule.judge(options, name, known)
        for score in rule.score(images, [name] * len(images), known):
            flagged += judge.reject(score) is not None
            judge.accept(score)
    return flagged / len(test)


# --- cost -----------------------------------------------------------------------------------------


def print_costs(test: RealImages, reference: Reference) -> None:
    print("\n| score, batches of 64 at 28 px | cost |\n|---|---|")
    rules = {n: r for n, r in FILTERS.items() if not isinstance(r, NetworkRule)}
    options = {name: rule.options() for name, rule in rules.items()}
    options["duplicate"] = FILTERS["duplicate"].options.model_validate({"features": True})
    for name, rule in rules.items():
        known = reference if rule.needs_reference(options[name]) else None
        batches = [test.images[i : i + 64] for i in range(0, 640, 64)]
        names = [CLASS_NAMES[0]] * 64
        rule.score(test.images[-64:], names, known)
        start = time.process_time()
        for batch in batches:
            rule.score(batch, names, known)
        core_us = (time.process_time() - start) / 640 * 1e6
        print(f"| {name} | {core_us:,.0f} core-µs an image |")


def read_reference(data: Path, path: Path | None, num_train: int) -> Reference:
    if path is not None:
        return load_reference(path)
    real = load_real_images(source_of(data))
    parts = split_held_out(real, held_out=NUM_HELD_OUT, seed=SPLIT_SEED)
    train, held_out = (
        ImageSet(part.images, part.class_ids, CLASS_NAMES, tuple(map(str, range(len(part)))))
        for part in parts
    )
    start = time.process_time()
    reference = fit_reference(train.take(np.arange(num_train)), held_out, seed=SPLIT_SEED)
    print(f"Fitted to {num_train:,} images in {time.process_time() - start:.0f} core-s.\n")
    return reference


def source_of(data: Path) -> DataSource:
    return DataSource(format="idx", path=data, class_names=CLASS_NAMES, licence="-", source="-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--reference", type=Path, help="a fitted one")
    parser.add_argument("--train", type=int, default=55_000, help="training images to fit it to")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{os.cpu_count()} cores, {device_model('cpu')}, torch {torch.__version__}\n")
    reference = read_reference(wanted.data, wanted.reference, wanted.train)
    test = load_real_images(source_of(wanted.data), part="test")
    print(f"Reference {reference.digest[:12]}, accuracy {reference.facts.labels.accuracy:.2%}.")
    print_labels(test, reference)
    print_damage(test.take(np.arange(NUM_DAMAGED)), reference)
    print_duplicates(test, reference)
    print_costs(test, reference)


if __name__ == "__main__":
    main()
