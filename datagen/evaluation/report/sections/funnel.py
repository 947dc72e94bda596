"""How many attempts were made of each class, and why they were rejected. Called by render.py."""

from __future__ import annotations

from datagen.evaluation.report import charts
from datagen.evaluation.report.components import (
    Section,
    chart,
    name,
    paragraph,
    table,
)
from datagen.evaluation.report.markup import clean, join
from datagen.evaluation.report.numbers import (
    count,
    plural,
)
from datagen.evaluation.results import (
    Funnel,
)


def funnel_section(funnel: Funnel | None) -> Section:
    """Counts of a class: `attempts`, `kept`, and every other key is a reason for rejection."""
    title = "Acceptance funnel"
    if funnel is None or not funnel.classes:
        text = "Nothing is known of attempts: these images were not made by a recipe of ours."
        return Section("funnel", title, paragraph(text))
    classes = funnel.classes
    reasons = list(
        dict.fromkeys(key for each in classes.values() for key in each if key not in _OUTCOMES)
    )
    totals = {key: sum(c.get(key, 0) for c in classes.values()) for key in (*_OUTCOMES, *reasons)}
    intro = paragraph(
        f"{plural(totals['attempts'], 'attempt')}, {count(totals['kept'])} kept. "
        + "; ".join(f"{clean(r, limit=60)} rejected {count(totals[r])}" for r in reasons[:12])
    )
    # The chart has room for four reasons by name, the most frequent; the table has all.
    ranked = sorted(reasons, key=lambda reason: -totals[reason])
    head, tail = ranked[:4], ranked[4:]
    legend = ["kept", *head, *(["other reasons"] if tail else [])]
    bars = [
        charts.Bar(
            each,
            [
                (0, counts.get("kept", 0)),
                *[(i, counts.get(reason, 0)) for i, reason in enumerate(head, 1)],
                (5, sum(counts.get(reason, 0) for reason in tail)),
            ],
            f"{count(counts.get('attempts', 0))} tried",
        )
        for each, counts in classes.items()
    ]
    picture = charts.stacked(
        bars,
        legend=legend,
        title="Attempts by class",
        description=f"Kept and rejected attempts of {plural(len(classes), 'class', 'classes')}.",
    )
    rows = [
        [name(each), *[count(counts.get(key, 0)) for key in (*_OUTCOMES, *reasons[:12])]]
        for each, counts in classes.items()
    ]
    columns = ["Class", "Attempts", "Kept", *[name(reason) for reason in reasons[:12]]]
    figures = table("Attempts by class and outcome", columns, rows)
    return Section("funnel", title, join([intro, chart(picture, "Attempts by class", figures)]))


_OUTCOMES = ("attempts", "kept")
