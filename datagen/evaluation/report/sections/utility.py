"""What the images do for a classifier: by way of training, by class. Called by render.py."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.evaluation.report import charts
from datagen.evaluation.report.components import (
    Section,
    cell,
    chart,
    muted,
    name,
    notice,
    paragraph,
    sentence,
    table,
)
from datagen.evaluation.report.markup import Child, Markup, join
from datagen.evaluation.report.numbers import (
    DASH,
    count,
    percent,
    points,
)
from datagen.evaluation.report.words import VERDICTS, metric_words
from datagen.evaluation.results import (
    Arm,
    Utility,
)


def utility_section(utility: Utility) -> Section:
    parts: list[Child] = [paragraph(sentence(utility.sentence or utility.withheld or ""))]
    if utility.verdict is None:
        parts.append(notice("warn", "The verdict is withheld: ", utility.withheld))
    parts.append(
        muted(
            f"Compared: {utility.comparison or 'real + synthetic against real alone'}. ",
            f"Trained: {utility.trainer}. A difference within ±{points(utility.margin)[1:]} ",
            "points counts as none.",
        )
    )
    parts += [_arms_chart(utility.arms), _class_gaps_chart(utility), _few_shot_chart(utility)]
    for label, measure in (
        ("Rarest classes", utility.rarest),
        ("Synthetic images alone, against real alone", utility.synthetic_only_gap),
    ):
        if measure is not None:
            parts.append(paragraph(f"{label}: ", cell(measure, points), " points."))
    return Section("utility", "Utility", join(parts))


def _arms_chart(arms: Sequence[Arm]) -> Markup | None:
    if not arms:
        return None
    rows = [
        charts.Dot(arm.name, m.value, m.low, m.high, "synthetic" in arm.name)
        if (m := arm.metrics.get("accuracy"))
        else charts.Dot(arm.name, None)
        for arm in arms
    ]
    picture = charts.dots(
        rows,
        title="Accuracy by way of training",
        description="Tested on held-out real images; lines are 95% intervals.",
        form=percent,
        axis="accuracy on held-out real images; hollow: without synthetic images",
    )
    keys = list(dict.fromkeys(key for arm in arms for key in arm.metrics))
    figures = table(
        "Ways of training",
        ["Trained on", "Images", *[metric_words(key).label for key in keys]],
        [
            [
                name(arm.name),
                count(arm.num_images),
                *[cell(arm.metrics.get(key), metric_words(key).form) for key in keys],
            ]
            for arm in arms
        ],
    )
    return chart(picture, "Accuracy of each way of training, with 95% intervals", figures)


def _class_gaps_chart(utility: Utility) -> Markup | None:
    gaps = utility.class_gaps
    if not gaps:
        return None
    rows = [charts.Dot(each, gap.value, gap.low, gap.high) for each, gap in gaps.items()]
    picture = charts.dots(
        rows,
        title="Effect on accuracy by class",
        description="Right of zero the synthetic images help the class, left of it they harm it.",
        form=points,
        axis="points of accuracy gained; the band counts as no difference",
        zero=0.0,
        margin=utility.margin,
    )
    figures = table(
        "Effect by class",
        ("Class", "Effect, points", "Verdict"),
        [[name(each), cell(gap, points), _word(utility, each)] for each, gap in gaps.items()],
    )
    caption = "Effect on each class, intervals corrected for looking at many classes"
    return chart(picture, caption, figures)


def _word(utility: Utility, class_name: str) -> str:
    verdict = utility.class_verdicts.get(class_name)
    return DASH if verdict is None else VERDICTS[verdict]


def _few_shot_chart(utility: Utility) -> Markup | None:
    if not utility.few_shot:
        return None
    gaps = sorted(utility.few_shot.items())
    picture = charts.dots(
        [charts.Dot(f"{count(n)} real a class", g.value, g.low, g.high) for n, g in gaps],
        title="Effect with few real images",
        description="Accuracy gained when only so many real images of each class are known.",
        form=points,
        axis="points of accuracy gained; the band counts as no difference",
        zero=0.0,
        margin=utility.margin,
    )
    figures = table(
        "Effect with few real images",
        ("Real images per class", "Effect, points"),
        [[count(n), cell(gap, points)] for n, gap in gaps],
    )
    return chart(picture, "Effect with few real images of each class", figures)
