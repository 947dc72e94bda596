"""Measures by declared attribute, with the largest gap named. Called by render.py."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.components import (
    Section,
    cell,
    name,
    paragraph,
    table,
)
from datagen.evaluation.report.markup import Markup, clean, join, tag
from datagen.evaluation.report.words import metric_words
from datagen.evaluation.results import (
    AttributeFairness,
)


def fairness_section(fairness: Sequence[AttributeFairness]) -> Section:
    if not fairness:
        text = (
            "No attribute (such as sex, scanner or site) is declared for these images: whether one "
            "group is served worse than another cannot be seen."
        )
        return Section("fairness", "Fairness", paragraph(text))
    return Section("fairness", "Fairness", join(_attribute(each) for each in fairness[:20]))


def _attribute(each: AttributeFairness) -> Markup:
    keys = list(dict.fromkeys(key for measures in each.values.values() for key in measures))
    rows = [
        [name(of), *[_fairness_cell(measures.get(key), key) for key in keys]]
        for of, measures in each.values.items()
    ]
    gap = each.largest_gap
    largest = each.sentence or gap.withheld or ""
    head = [name(each.attribute), *[metric_words(key).label for key in keys]]
    return join(
        [
            tag("h3", None, "By ", name(each.attribute)),
            paragraph(tag("strong", None, "Largest gap: "), largest),
            table(f"Measures by {clean(each.attribute, limit=60)}", head, rows),
        ]
    )


def _fairness_cell(measure: Measure | None, key: str) -> Markup:
    return cell(measure, metric_words(key).form)
