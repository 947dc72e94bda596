from __future__ import annotations

import numpy as np

from datagen.filters.interface import Score
from datagen.filters.label_agreement import LabelAgreementFilter, LabelAgreementOptions
from tests.tiny_reference import CLASS_NAMES, drawn, tiny_reference

RULE = LabelAgreementFilter()
FRESH = drawn(60, seed=11)  # neither trained on nor calibrated with
NAMES = [CLASS_NAMES[c] for c in FRESH.class_ids]


def scores(class_names: list[str]) -> list[Score]:
    return RULE.score(FRESH.images, class_names, tiny_reference())


def share_rejected(class_names: list[str]) -> float:
    judges = {n: RULE.judge(RULE.options(), n, tiny_reference()) for n in CLASS_NAMES}
    verdicts = [
        judges[name].reject(score)
        for name, score in zip(class_names, scores(class_names), strict=True)
    ]
    assert {v for v in verdicts if v} <= {"label_agreement"}
    return float(np.mean([verdict is not None for verdict in verdicts]))


def test_wrong_labels_are_rejected_and_right_ones_pass() -> None:
    wrong = [CLASS_NAMES[(c + 1 + row % 2) % 3] for row, c in enumerate(FRESH.class_ids)]
    assert share_rejected(wrong) >= 0.9
    assert share_rejected(NAMES) <= 0.05


def test_the_scores_of_all_classes_are_probabilities() -> None:
    columns = [scores([name] * len(FRESH)) for name in CLASS_NAMES]
    totals = np.sum(np.array(columns, np.float64), axis=0)
    assert np.abs(totals - 1).max() < 2e-4


def test_the_threshold_of_a_class_goes_before_that_of_all() -> None:
    options = LabelAgreementOptions(min_probability=0.5, thresholds={"ring": 0.9})
    reference = tiny_reference()
    assert tuple(options.named_classes()) == ("ring",)
    ring, disc = (RULE.judge(options, name, reference) for name in ("ring", "disc"))
    assert (ring.reject(0.8999), ring.reject(0.9)) == ("label_agreement", None)
    assert (disc.reject(0.4999), disc.reject(0.5)) == ("label_agreement", None)


def test_by_default_each_class_has_the_threshold_of_its_calibration() -> None:
    thresholds = tiny_reference().facts.labels.thresholds
    for name, threshold in zip(CLASS_NAMES, thresholds, strict=True):
        judge = RULE.judge(RULE.options(), name, tiny_reference())
        assert judge.reject(threshold) is None
        assert judge.reject(threshold - 1e-4) == "label_agreement"
