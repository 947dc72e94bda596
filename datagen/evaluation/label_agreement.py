"""Are the labels right: how often an independent classifier confirms them.

The classifier never saw the synthetic images; it was trained on real images that are not held
out. Called by evaluate.py and fairness.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.feature_metrics import Estimate, share
from datagen.evaluation.measure import Measure
from datagen.evaluation.results import LabelAgreement, Suspect
from datagen.faults import plural
from datagen.features import Classifier
from datagen.image_set import ImageSet

MAX_SUSPECTS = 200
MIN_SKILL = 0.5
_MIN_HELD_OUT = 30


def measure_label_agreement(
    synthetic: ImageSet, classifier: Classifier, held_out: ImageSet, *, seed: int
) -> LabelAgreement:
    """floor of each agreement: the classifier's accuracy on held-out real images, which is what
    right labels would show. Withheld if the classifier is no judge: see learned_enough.

    seed: of no effect today, the measure draws nothing.
    """
    accuracy = _agreement(held_out, _confirms(classifier, held_out), note="on held-out real images")
    reason = _why_no_judge(classifier, held_out)
    if not len(synthetic):
        reason = "there are no synthetic images"
    if reason is not None:
        return LabelAgreement(Measure.absent(reason, n=len(synthetic)), accuracy)
    probabilities = classifier.predict_proba(synthetic.images)
    confirms = probabilities.argmax(axis=1) == synthetic.class_ids
    agreement = _agreement(synthetic, confirms)
    per_class = {
        name: replace(measure, floor=accuracy.per_class[name].value)
        for name, measure in agreement.per_class.items()
    }
    return LabelAgreement(
        agreement=replace(agreement, floor=_expected(synthetic, accuracy), per_class=per_class),
        classifier_accuracy=accuracy,
        suspects=_suspects(synthetic, probabilities),
    )


def skill(classifier: Classifier, held_out: ImageSet) -> float:
    """Share of the way from guessing (0) to no error (1), classes weighing equally."""
    confirms = _confirms(classifier, held_out)
    recalls = [
        confirms[held_out.class_ids == class_id].mean()
        for class_id in np.unique(held_out.class_ids)
    ]
    chance = 1 / max(2, len(recalls))
    return float((np.mean(recalls) - chance) / (1 - chance))


def _why_no_judge(classifier: Classifier, held_out: ImageSet) -> str | None:
    """A classifier that is wrong in more than half of the way to guessing cannot tell a wrong
    label from its own error."""
    if len(held_out) < _MIN_HELD_OUT:
        return (
            f"{plural(len(held_out), 'held-out real image')} cannot show that the classifier is "
            f"any good; give at least {_MIN_HELD_OUT}"
        )
    reached = skill(classifier, held_out)
    if reached >= MIN_SKILL:
        return None
    return (
        f"the classifier never learned the real classes: {max(0.0, reached):.0%} of the way from "
        f"guessing to no error on held-out real images, expected {MIN_SKILL:.0%}; give more real "
        "images, or check their labels"
    )


def _confirms(classifier: Classifier, images: ImageSet) -> NDArray[np.bool_]:
    if not len(images):
        return np.zeros(0, dtype=bool)
    predicted = classifier.predict_proba(images.images).argmax(axis=1)
    confirms: NDArray[np.bool_] = predicted == images.class_ids
    return confirms


def _agreement(images: ImageSet, confirms: NDArray[np.bool_], *, note: str = "") -> Measure:
    """Of each class and of all."""
    groups = None if images.groups is None else np.array(images.groups)
    per_class = {}
    for class_id, name in enumerate(images.class_names):
        rows = images.rows_of(class_id)
        inside = None if groups is None else groups[rows]
        per_class[name] = _share(confirms[rows], inside)
    clustered = "" if groups is None else "interval clustered by group"
    whole = _share(confirms, groups)
    return replace(whole, per_class=per_class, note="; ".join(p for p in (note, clustered) if p))


def _share(confirms: NDArray[np.bool_], groups: NDArray[np.str_] | None) -> Measure:
    if not len(confirms):
        return Measure.absent("there are no images of this class")
    estimate: Estimate = share(confirms)
    if groups is not None:
        estimate = share(confirms, num_effective=_num_effective(confirms, groups))
    return Measure(estimate.value, len(confirms), low=estimate.low, high=estimate.high)


def _num_effective(confirms: NDArray[np.bool_], groups: NDArray[np.str_]) -> float:
    """How many independent images would give the variance that the groups give.

    Source: the ratio estimator of cluster sampling, Cochran 1977, equation 11.30; the group count
    where all agree or disagree and no variance is seen.
    """
    _, group_ids = np.unique(groups, return_inverse=True)
    num_groups, n, mean = int(group_ids.max()) + 1, len(confirms), float(confirms.mean())
    if num_groups == 1:
        return 1.0
    residuals = np.bincount(group_ids, weights=confirms - mean)
    variance = num_groups / (num_groups - 1) * float((residuals**2).sum()) / n**2
    if not variance:
        return float(num_groups)
    return min(float(n), mean * (1 - mean) / variance)


def _expected(synthetic: ImageSet, accuracy: Measure) -> float | None:
    """The classifier's accuracy on real images mixed as the synthetic classes are."""
    counts = synthetic.counts()
    total = 0.0
    for class_id, name in enumerate(synthetic.class_names):
        value = accuracy.per_class[name].value
        if counts[class_id] and value is None:
            return None
        total += float(counts[class_id]) * (value or 0.0)
    return total / len(synthetic)


def _suspects(synthetic: ImageSet, probabilities: NDArray[np.float32]) -> tuple[Suspect, ...]:
    """The images that the classifier calls something else, least probable label first."""
    own = probabilities[np.arange(len(synthetic)), synthetic.class_ids]
    predicted = probabilities.argmax(axis=1)
    doubted = np.flatnonzero(predicted != synthetic.class_ids)
    order = doubted[np.argsort(own[doubted], kind="stable")][:MAX_SUSPECTS]
    return tuple(
        Suspect(
            synthetic.names[i],
            synthetic.class_names[synthetic.class_ids[i]],
            synthetic.class_names[predicted[i]],
            round(float(own[i]), 4),
        )
        for i in order
    )
