"""Fidelity and variety, each figure beside its floor. Called by render.py."""

from __future__ import annotations

from datagen.evaluation.measure import Measure
from datagen.evaluation.report import charts
from datagen.evaluation.report.components import (
    Section,
    cell,
    details,
    name,
    paragraph,
    table,
)
from datagen.evaluation.report.markup import Child, Markup, join, tag
from datagen.evaluation.report.numbers import (
    DASH,
    count,
)
from datagen.evaluation.report.words import FIDELITY, reading_of
from datagen.evaluation.results import (
    Fidelity,
)


def fidelity_section(fidelity: Fidelity) -> Section:
    rows = [_fidelity_row(key, getattr(fidelity, key)) for key in Fidelity.NAMES]
    intro = paragraph(
        "Each figure stands beside its floor: the same figure between two sets of real images of "
        "equal size, which is what a perfect data set would show. In the bars the floor is the "
        "upright line. Features: ",
        name(fidelity.extractor),
        ".",
    )
    head = ("Measure", "This data set", "Floor", "Images each", "Against the floor", "Reading")
    return Section(
        "fidelity",
        "Fidelity against the floor",
        join([intro, table("Fidelity and variety", head, rows), _fidelity_by_class(fidelity)]),
    )


def _fidelity_row(key: str, measure: Measure) -> list[Child]:
    words = FIDELITY[key]
    bar = None
    if measure.value is not None:
        most = max(measure.value, measure.floor or 0) * 1.1
        bar = charts.bullet(measure.value, floor=measure.floor, most=most)
    return [
        join([words.label, tag("span", {"class": "range block"}, words.meaning)]),
        cell(measure, words.form),
        DASH if measure.floor is None else words.form(measure.floor),
        count(measure.n),
        bar or DASH,
        reading_of(words, measure),
    ]


def _fidelity_by_class(fidelity: Fidelity) -> Markup | None:
    measured = [key for key in Fidelity.NAMES if getattr(fidelity, key).per_class]
    if not measured:
        return None
    names = dict.fromkeys(n for key in measured for n in getattr(fidelity, key).per_class)
    rows = [
        [
            name(each),
            *[cell(getattr(fidelity, k).per_class.get(each), FIDELITY[k].form) for k in measured],
        ]
        for each in names
    ]
    head = ["Class", *[FIDELITY[key].label for key in measured]]
    return details("Class by class", table("Fidelity by class", head, rows))
