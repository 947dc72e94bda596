"""From a set of synthetic images and the name of real data to an evaluation and its report.

Called by assessment.py (`datagen evaluate`) and stages/evaluate.py (gates).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datagen.evaluation.alignment import same_channels, same_size, with_classes_of
from datagen.evaluation.checks import MatchedSets, match_sets
from datagen.evaluation.evaluate import About, Options, RealData, evaluate
from datagen.evaluation.measure import Measure
from datagen.evaluation.named_data import NamedData, check_unchanged
from datagen.evaluation.report.render import render_report
from datagen.evaluation.results import Evaluation, Privacy
from datagen.evaluation.words import labels_text
from datagen.image_set import ImageSet
from datagen.real_images import load_image_set, load_reference


@dataclass(frozen=True)
class Assessment:
    """report: the HTML page."""

    evaluation: Evaluation
    report: str

    def to_bytes(self) -> bytes:
        """The evaluation as JSON."""
        return (json.dumps(self.evaluation.to_json(), ensure_ascii=False, indent=1) + "\n").encode()

    def summary(self) -> dict[str, Any]:
        """The main figures, for lists."""
        utility, privacy = self.evaluation.utility, self.evaluation.privacy
        return {
            "headline": self.evaluation.headline,
            "verdict": utility.verdict,
            "worth_real_labels": utility.worth_real_labels.value,
            "label_agreement": self.evaluation.label_agreement.agreement.value,
            "fid": self.evaluation.fidelity.fid.value,
            "near_copies": len(privacy.near_copies),
            "near_copy_excess": privacy.excess.to_json(),
            "quick": self.evaluation.subject.quick,
        }

    def figures(self) -> dict[str, str]:
        """The main figures in words, for the card."""
        found = self.evaluation
        utility, privacy = found.utility, found.privacy
        return {
            "verdict": utility.verdict or f"withheld: {utility.withheld}",
            "worth": labels_text(utility.worth_real_labels),
            "label agreement": _in_words(found.label_agreement.agreement),
            "FID": _in_words(found.fidelity.fid),
            "KID": _in_words(found.fidelity.kid),
            "precision": _in_words(found.fidelity.precision),
            "recall": _in_words(found.fidelity.recall),
            "near copies": _copies(privacy),
            "near copies above chance": _in_words(privacy.excess),
            "measured against": found.subject.reference,
        }


def assess(
    synthetic: ImageSet,
    data: NamedData,
    about: About,
    options: Options,
    *,
    held_out: Path | None = None,
    baseline: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    check_abort: Callable[[], None] = lambda: None,
) -> Assessment:
    """held_out: replaces what `data` holds out. Raises InputError for images that cannot be read or
    do not fit, naming them."""
    if data.digest:
        check_unchanged(data)
    on_progress("reading the real images")
    size = synthetic.image_shape[:2]
    train, kept = load_reference(
        data.train_path, held_out or data.held_out_path, image_size=size, seed=options.seed
    )
    matched = match_sets(synthetic, train, kept, seed=options.seed)
    if baseline is not None:
        options = replace(options, baseline=_baseline(baseline, matched, seed=options.seed))
    real = RealData(data.name, matched.train, matched.held_out, matched.notes)
    facts: Mapping[str, str] = {"real data": f"{data.name} {data.digest[:12]}".strip()}
    about = replace(about, provenance={**about.provenance, **facts})
    evaluation, pictures = evaluate(
        matched.synthetic, real, about, options, on_progress=on_progress, check_abort=check_abort
    )
    return Assessment(evaluation, render_report(evaluation, pictures))


def _baseline(path: Path, matched: MatchedSets, *, seed: int) -> ImageSet:
    """Fitted to the synthetic images as the real ones are."""
    notes: list[str] = []
    size = matched.synthetic.image_shape[:2]
    images = load_image_set(path, image_size=size, seed=seed)
    images = with_classes_of(matched.synthetic, images, "baseline", notes)
    _, images, _ = same_channels(matched.synthetic, images, matched.held_out, notes)
    return same_size(matched.synthetic, images, "baseline", notes)


def _copies(privacy: Privacy) -> str:
    if not privacy.is_blind:
        return _in_words(privacy.rate)
    same = f"; {privacy.num_identical} with equal pixels" if privacy.num_identical else ""
    return f"the check is blind{same}"


def _in_words(measure: Measure) -> str:
    """Value, interval, floor and n."""
    if measure.value is None:
        return f"withheld: {measure.withheld}"
    text = f"{measure.value:.4g}"
    if measure.low is not None and measure.high is not None:
        text += f" [{measure.low:.4g}, {measure.high:.4g}]"
    if measure.floor is not None:
        text += f" (real against real: {measure.floor:.4g})"
    return f"{text}, n = {measure.n:,}"
