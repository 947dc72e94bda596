"""What more real images would bring, and where the synthetic ones stand. Called by render.py."""

from __future__ import annotations

from collections.abc import Iterator

from datagen.evaluation.measure import Measure
from datagen.evaluation.report import charts
from datagen.evaluation.report.components import (
    Section,
    cell,
    chart,
    notice,
    paragraph,
    table,
)
from datagen.evaluation.report.markup import Child, join
from datagen.evaluation.report.numbers import (
    about,
    count,
    interval,
    percent,
    plural,
)
from datagen.evaluation.report.words import worth_in_words
from datagen.evaluation.results import (
    Evaluation,
)


def learning_curve_section(evaluation: Evaluation) -> Section:
    utility, title = evaluation.utility, "Learning curve"
    worth = utility.worth_real_labels
    known = [point for point in utility.learning_curve if point.num_real > 0]
    known.sort(key=lambda point: point.num_real)
    parts: list[Child] = []
    if len(known) < 2:
        parts.append(paragraph("The learning curve of real images was not measured."))
        parts.append(paragraph(worth.withheld) if worth.withheld else None)
        return Section("curve", title, join(parts))
    if worth.value is None:
        parts.append(notice("warn", "What the data set is worth is withheld: ", worth.withheld))
    parts += [paragraph(each) for each in _in_words(worth, utility.added_worth)]
    rows = [charts.Dot("", p.accuracy.value, p.accuracy.low, p.accuracy.high, False) for p in known]
    picture = charts.curve(
        [point.num_real for point in known],
        rows,
        title="Accuracy by number of real images",
        description="The curve of real images alone, and where the synthetic images stand on it.",
        form=percent,
        axis="real labelled images (logarithmic)",
        marks=list(_marks(worth, utility.added_worth)),
    )
    figures = table(
        "Accuracy of real images alone",
        ("Real images", "Accuracy"),
        [[count(point.num_real), cell(point.accuracy, percent)] for point in known],
    )
    parts.append(
        chart(picture, "What more real images would bring, read off measurements", figures)
    )
    return Section("curve", title, join(parts))


def _marks(worth: Measure, added: Measure | None) -> Iterator[charts.CurveMark]:
    if worth.value is not None:
        label = f"synthetic alone: as {worth_in_words(worth)}"
        yield charts.CurveMark(label, worth.value, worth.low, worth.high)
    if added is not None and added.value is not None:
        together = added.n + added.value
        label = f"{count(added.n)} real + synthetic: as {about(together)}"
        yield charts.CurveMark(label, together, None, None, is_main=False)


def _in_words(worth: Measure, added: Measure | None) -> Iterator[str]:
    if worth.value is not None:
        ends = interval(worth, about)
        yield (
            "By themselves the synthetic images train a classifier as well as "
            f"{worth_in_words(worth)} labelled real images do"
            + (f" (90% interval {ends})" if ends else "")
            + (f"; {worth.note}." if worth.note else ".")
        )
    if added is not None and added.value is not None:
        ends = interval(added, about)
        yield (
            f"Added to {plural(added.n, 'real image')}, they do as much as about "
            f"{about(added.value)} more real ones" + (f" (90% interval {ends})." if ends else ".")
        )
