"""Fits a reference to real images: what a model knows of what it was trained on.

Called by `datagen models fit-reference`. The classifier and the statistics see the training part
alone; thresholds are calibrated on one half of the held-out part, and the rates that the reference
states are measured on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from datagen.errors import InputError
from datagen.features import fit_temperature, train_classifier
from datagen.image_set import ImageSet
from datagen.references.classifier import Looks, ReferenceClassifier, weights_of
from datagen.references.codes import fit_duplicates
from datagen.references.copy_detector import CopyDetector
from datagen.references.copy_score import threshold_at
from datagen.references.duplicates import DuplicateDescriptor, learn_duplicates
from datagen.references.facts import (
    FORMAT,
    CopyFacts,
    DuplicateFacts,
    LabelFacts,
    OutlierFacts,
    QualityFacts,
    ReferenceFacts,
)
from datagen.references.labels import label_rates, label_thresholds
from datagen.references.outliers import OutlierStatistics, fit_outliers
from datagen.references.quality import measure_quality, outside, quality_bounds
from datagen.references.reference import Reference, make_reference

OUTLIER_QUANTILE = 0.999
COPY_RATES = (0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
DEFAULT_COPY_RATE = 0.005
_MAX_SEARCHED = 1_500  # of either half: a search takes milliseconds an image
_MIN_HELD_OUT = 4  # of each class: two to calibrate on, two to measure
# The classifier sees about so many images, each at most so often.
_IMAGES_SEEN, _MAX_EPOCHS = 165_000, 20


def fit_reference(
    train: ImageSet,
    held_out: ImageSet,
    *,
    seed: int,
    licence: str = "",
    source: str = "",
    on_progress: Callable[[str], None] = lambda text: None,
) -> Reference:
    """Raises InputError if the parts differ in shape or classes, or hold too few images."""
    _check(train, held_out)
    parts = halve(held_out, seed=seed)
    on_progress(f"classifier: {len(train):,} images")
    classifier = _fit_classifier(train, seed=seed)
    on_progress(f"thresholds: {len(parts[0]):,} held-out images, and {len(parts[1]):,} to measure")
    looks = [classifier.look(part.images) for part in parts]
    statistics, outliers = _fit_outliers(train, classifier, parts, looks)
    on_progress("descriptors of duplicates")
    descriptor, duplicate_facts = _fit_duplicates(train, seed=seed)
    detector, copy_facts = _fit_copies(train, parts, seed=seed, on_progress=on_progress)
    facts = ReferenceFacts(
        format=FORMAT,
        class_names=train.class_names,
        image_size=train.image_shape[:2],
        channels=3 if train.image_shape[2] == 3 else 1,
        num_train=len(train),
        num_calibration=len(parts[0]),
        num_measured=len(parts[1]),
        seed=seed,
        licence=licence,
        source=source,
        labels=_label_facts(parts, looks),
        outliers=outliers,
        quality=_quality_facts(train, held_out),
        duplicates=duplicate_facts,
        copies=copy_facts,
    )
    tensors = {f"classifier.{name}": array for name, array in classifier.weights.items()}
    tensors |= {f"outliers.{name}": array for name, array in statistics.tensors().items()}
    tensors |= {f"duplicates.{name}": array for name, array in descriptor.tensors().items()}
    tensors |= {f"copies.{name}": array for name, array in detector.state().items()}
    return make_reference(facts, tensors)


def _check(train: ImageSet, held_out: ImageSet) -> None:
    if train.class_names != held_out.class_names or train.image_shape != held_out.image_shape:
        raise InputError(
            f"held-out images of {held_out.image_shape}, classes {held_out.class_names[:10]}; "
            f"expected {train.image_shape}, {train.class_names[:10]}, as the training images have"
        )
    if len(train.class_names) < 2:
        raise InputError(f"classes {train.class_names}: expected at least 2 to tell apart")
    for part, kind, least in ((train, "training", 2), (held_out, "held-out", _MIN_HELD_OUT)):
        counts = part.counts()
        if counts.min() < least:
            name = part.class_names[int(counts.argmin())]
            raise InputError(
                f"class {name}: {counts.min()} {kind} images; expected at least {least} of every "
                "class: add images, or hold out more"
            )


def halve(held_out: ImageSet, *, seed: int) -> tuple[ImageSet, ImageSet]:
    """Class by class; what belongs together stays in one half as far as the classes allow."""
    rng = np.random.default_rng(seed)
    groups = held_out.groups or held_out.names
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    order = rng.permutation(len(places))
    rank = np.array([order[places[group]] for group in groups])
    in_first = np.zeros(len(held_out), bool)
    for class_id in range(held_out.num_classes):
        rows = held_out.rows_of(class_id)
        in_first[rows[rank[rows] < np.median(rank[rows])]] = True
    return held_out.take(np.flatnonzero(in_first)), held_out.take(np.flatnonzero(~in_first))


def _fit_classifier(train: ImageSet, *, seed: int) -> ReferenceClassifier:
    network = train_classifier(
        train.images,
        train.class_ids,
        num_classes=train.num_classes,
        num_epochs=min(_MAX_EPOCHS, max(1, round(_IMAGES_SEEN / len(train)))),
        seed=seed,
    )
    return ReferenceClassifier(weights_of(network), train.image_shape, train.num_classes)


def _label_facts(parts: Sequence[ImageSet], looks: Sequence[Looks]) -> LabelFacts:
    temperature = round(fit_temperature(looks[0].logits, parts[0].class_ids), 4)
    shares = [look.probabilities(temperature) for look in looks]
    thresholds = label_thresholds(shares[0], parts[0].class_ids)
    wrong, right = label_rates(shares[1], parts[1].class_ids, thresholds)
    hits = shares[1].argmax(axis=1) == parts[1].class_ids
    return LabelFacts(
        temperature=temperature,
        thresholds=tuple(thresholds),
        wrong_rejected=tuple(wrong),
        right_rejected=tuple(right),
        accuracy=round(float(hits.mean()), 4),
    )


def _fit_outliers(
    train: ImageSet,
    classifier: ReferenceClassifier,
    parts: Sequence[ImageSet],
    looks: Sequence[Looks],
) -> tuple[OutlierStatistics, OutlierFacts]:
    features = classifier.look(train.images).features
    statistics = fit_outliers(
        train.images, features, train.class_ids, num_classes=train.num_classes
    )
    both = statistics.both(parts[0].images, looks[0].features, parts[0].class_ids)
    limits = np.quantile(both, OUTLIER_QUANTILE, axis=0, method="higher")
    scaled = replace(statistics, scales=np.maximum(limits, 1e-6).astype(np.float32))
    distances = [
        scaled.distances(part.images, look.features, part.class_ids)
        for part, look in zip(parts, looks, strict=True)
    ]
    threshold = round(float(np.quantile(distances[0], OUTLIER_QUANTILE, method="higher")), 4)
    rejected = float((np.round(distances[1], 4) > threshold).mean())
    return scaled, OutlierFacts(
        threshold=threshold, quantile=OUTLIER_QUANTILE, rejected=round(rejected, 4)
    )


def _fit_duplicates(train: ImageSet, *, seed: int) -> tuple[DuplicateDescriptor, DuplicateFacts]:
    descriptor = learn_duplicates(train.images, seed=seed)
    max_distance, flagged = fit_duplicates(
        descriptor.codes(train.images), train.class_ids, num_classes=train.num_classes
    )
    return descriptor, DuplicateFacts(max_distance=max_distance, flagged=flagged)


def _fit_copies(
    train: ImageSet,
    parts: Sequence[ImageSet],
    *,
    seed: int,
    on_progress: Callable[[str], None],
) -> tuple[CopyDetector, CopyFacts]:
    """Calibrated as it will be stored."""
    detector = CopyDetector.fit(train.images, seed=seed, is_compact=True, on_progress=on_progress)
    rng = np.random.default_rng(seed)
    on_progress("copies: thresholds")
    some = [part.take(rng.permutation(len(part))[:_MAX_SEARCHED]) for part in parts]
    calibration, measured = (detector.search(part.images).score for part in some)
    limits = np.maximum.accumulate([threshold_at(calibration, rate) for rate in COPY_RATES])
    thresholds = [round(float(limit), 4) for limit in limits]
    facts = CopyFacts(
        rates=COPY_RATES,
        thresholds=tuple(thresholds),
        rejected=tuple(round(float((measured > each).mean()), 4) for each in thresholds),
        num_measured=len(measured),
    )
    return detector.with_threshold(calibration, DEFAULT_COPY_RATE), facts


def _quality_facts(train: ImageSet, held_out: ImageSet) -> QualityFacts:
    measured = measure_quality(train.images)
    bounds = [quality_bounds(measured[train.rows_of(c)]) for c in range(train.num_classes)]
    others = zip(measure_quality(held_out.images), held_out.class_ids, strict=True)
    rejected = np.mean([outside(values, bounds[c]) is not None for values, c in others])
    return QualityFacts(bounds=tuple(bounds), rejected=round(float(rejected), 4))
