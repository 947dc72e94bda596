"""The verdict in plain words: the headline, and the limits of what was measured.

Called by evaluate.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import LabelAgreement, Privacy, Subject, Utility
from datagen.faults import plural

_VERDICTS = {
    "helps": "These images help a model",
    "no_difference": "These images make no difference to a model",
    "harms": "These images harm a model",
    "inconclusive": "Whether these images help a model is not decided",
}
_FEW_HELD_OUT = 500
_SEEN = 0.5  # share of planted copies under one disguise


def headline(utility: Utility, agreement: LabelAgreement, privacy: Privacy) -> str:
    """One line for who reads nothing else: worth, labels, copies."""
    parts = [_worth(utility), _labels(agreement), _copies(privacy)]
    return ". ".join(part for part in parts if part) + "."


def labels_text(worth: Measure) -> str:
    """About how many real labels, as a budget holder reads it."""
    if worth.value is None:
        return f"worth in real labels withheld: {worth.withheld}"
    text = f"worth about {worth.value:,.0f} real labels"
    if worth.low is not None and worth.high is not None:
        return f"{text} [{worth.low:,.0f}, {worth.high:,.0f}]"
    return f"{text} [at least {worth.low:,.0f}]" if worth.low is not None else text


def limits(
    subject: Subject, utility: Utility, privacy: Privacy, *, has_groups: bool
) -> Iterator[str]:
    """What a reader must not conclude."""
    yield (
        f"Every figure compares with {subject.num_train + subject.num_held_out:,} real images of "
        f"{subject.reference}. On other patients, devices or sites it may be another."
    )
    if subject.num_held_out < _FEW_HELD_OUT:
        yield (
            f"Only {subject.num_held_out:,} real images were held out: intervals are wide, and "
            "rare failures go unseen."
        )
    if subject.quick:
        yield "This was the quick evaluation: smaller samples and fewer repeats, wider intervals."
    if not has_groups:
        yield (
            "The real images name no groups such as patients: each image counts as independent. "
            "Where one patient has several, the intervals are too narrow."
        )
    if utility.verdict is not None:
        yield (
            f"Utility was measured with one kind of classifier ({utility.trainer}); another may "
            "gain more or less. Use --trainer to measure with your own."
        )
    missed = [control for control in privacy.controls if control.recall < _SEEN]
    if missed and not privacy.is_blind:
        told = ", ".join(f"{control.disguise} {control.recall:.0%}" for control in missed)
        yield (
            f"The search for copies found few of its planted ones under some disguises ({told}): "
            "of copies disguised like that it says little."
        )
    if privacy.is_blind:
        yield "The search for copies missed planted ones: a low rate of copies shows nothing."
    yield (
        "That no copy was found does not prove that none is there, and is no legal judgement of "
        "anonymity."
    )


def _worth(utility: Utility) -> str:
    if utility.verdict is None:
        return f"Utility withheld: {utility.withheld}"
    return f"{_VERDICTS[utility.verdict]}; {labels_text(utility.worth_real_labels)}"


def _labels(agreement: LabelAgreement) -> str:
    measure = agreement.agreement
    if measure.value is None:
        return f"Label agreement withheld: {measure.withheld}"
    text = f"An independent classifier agrees with {measure.value:.1%} of the labels"
    real = agreement.classifier_accuracy.value
    return text if real is None else f"{text} (with {real:.1%} of real ones)"


def _copies(privacy: Privacy) -> str:
    if privacy.is_blind and privacy.num_identical:
        known = plural(privacy.num_identical, "image is a", "images are a")
        return f"{known} training image, pixel by pixel; the search for other copies is blind here"
    if privacy.is_blind:
        return "The search for copies is blind here: nothing is known of copies"
    rate, chance = privacy.rate, privacy.false_positive_rate
    if rate.value is None:
        return f"The search for copies is withheld: {rate.withheld}"
    num = len(privacy.near_copies)
    looks = "looks like a copy" if num == 1 else "look like copies"
    found = f"{num:,} of {rate.n:,} images {looks} of training images"
    if chance.value is not None:
        found += f", where chance makes about {chance.value * rate.n:,.1f}"
    missed = [control.disguise for control in privacy.controls if control.recall < _SEEN]
    return f"{found}; copies under {', '.join(missed)} mostly go unseen" if missed else found
