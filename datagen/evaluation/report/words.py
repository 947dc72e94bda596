"""What measures and verdicts are called, and how their figures are written. Called by report/."""

from __future__ import annotations

from dataclasses import dataclass

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.numbers import Format, about, count, figure, percent, points
from datagen.evaluation.results import Verdict

VERDICTS: dict[Verdict, str] = {
    "helps": "✓ Helps",
    "no_difference": "= No difference",
    "harms": "✕ Harms",
    "inconclusive": "? Inconclusive",
}
KINDS: dict[Verdict, str] = {
    "helps": "good",
    "no_difference": "",
    "harms": "bad",
    "inconclusive": "warn",
}


@dataclass(frozen=True)
class Words:
    """meaning: in a few words; reading: where a good value lies."""

    label: str
    form: Format
    meaning: str = ""
    reading: str = ""


def _thousandfold(kid: float) -> str:
    return figure(kid * 1000)


_LOWER, _HIGHER, _NEAR = "lower is better", "higher is better", "near the floor is good"
FIDELITY: dict[str, Words] = {
    "fid": Words("FID", figure, "distance between the two sets as a whole", _LOWER),
    "kid": Words("KID × 1,000", _thousandfold, "unbiased for few images; a thousandfold", _LOWER),
    "precision": Words("Precision", percent, "share of synthetic images that look real", _HIGHER),
    "recall": Words("Recall", percent, "share of real images within its reach", _HIGHER),
    "density": Words("Density", figure, "how deep among the real images they lie", _HIGHER),
    "coverage": Words("Coverage", percent, "share of real images with one near", _HIGHER),
    "inception_score": Words("Inception-style score", figure, "clear, varied classes", _HIGHER),
    "ssim_diversity": Words("Variety by SSIM", figure, "within a class, pixels", _NEAR),
    "lpips_diversity": Words("Variety by LPIPS", figure, "within a class, as seen", _NEAR),
}

# Of ways of training, and of the values of an attribute.
_METRICS: dict[str, Words] = {
    "accuracy": Words("Accuracy", percent),
    "auroc": Words("AUROC", figure),
    "sensitivity": Words("Sensitivity", percent),
    "ece": Words("Calibration error", percent),
    "count": Words("Images", count),
    "label_agreement": Words("Label agreement", percent),
    "coverage": Words("Coverage", percent),
    "utility": Words("Effect, points", points),
}


def reading_of(words: Words, measure: Measure) -> str:
    """Where a good value lies, or that this one is as good as can be told."""
    low, high, floor = measure.low, measure.high, measure.floor
    if low is None or high is None or floor is None or not low <= floor <= high:
        return words.reading
    return "no difference from real images can be seen: the interval holds the floor"


def metric_words(key: str) -> Words:
    return _METRICS.get(key) or Words(key.replace("_", " ").capitalize(), figure)


def worth_in_words(worth: Measure) -> str:
    """'about 2,400', or the end that is known where the curve does not reach."""
    assert worth.value is not None
    if worth.value <= 0 and worth.high is not None:
        return f"less than {about(worth.high)}"
    if worth.high is None and worth.low is not None:
        return f"at least {about(worth.low)}"
    return f"about {about(worth.value)}"
