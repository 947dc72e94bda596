"""What more real images would bring, and where the synthetic ones stand. Called by render.py."""

from __future__ import annotations

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
    start = _num_real(evaluation)
    mark = None
    if worth.value is None:
        parts.append(notice("warn", "What the data set is worth is withheld: ", worth.withheld))
    else:
        mark = charts.CurveMark(
            f"with synthetic: as {count(start + worth.value)}",
            start + worth.value,
            None if worth.low is None else start + worth.low,
            None if worth.high is None else start + worth.high,
        )
        parts.append(paragraph(_worth_in_words(start, worth)))
    rows = [charts.Dot("", p.accuracy.value, p.accuracy.low, p.accuracy.high, False) for p in known]
    picture = charts.curve(
        [point.num_real for point in known],
        rows,
        title="Accuracy by number of real images",
        description="The curve of real images alone, and where the synthetic images lift it to.",
        form=percent,
        axis="real labelled images (logarithmic)",
        start=start,
        mark=mark,
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


def _num_real(evaluation: Evaluation) -> int:
    """Real images that the comparison starts from."""
    alone = [arm.num_images for arm in evaluation.utility.arms if arm.name.lower() in _REAL_ALONE]
    return alone[0] if alone else evaluation.subject.num_train


_REAL_ALONE = ("real", "real only", "real alone")


def _worth_in_words(start: int, worth: Measure) -> str:
    ends = interval(worth, about)
    return (
        f"{plural(start, 'real image')} together with the synthetic ones do as well as about "
        f"{count(start + (worth.value or 0))} real images alone: worth about "
        f"{about(worth.value or 0)} real labels" + (f" (90% interval {ends})." if ends else ".")
    )
