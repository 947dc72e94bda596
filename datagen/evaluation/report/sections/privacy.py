"""Copies against chance, planted controls, distances. Called by render.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datagen.evaluation.measure import Measure
from datagen.evaluation.report import charts
from datagen.evaluation.report.components import (
    Section,
    bullets,
    cell,
    chart,
    details,
    name,
    notice,
    paragraph,
    table,
)
from datagen.evaluation.report.markup import Child, Markup, join, tag
from datagen.evaluation.report.numbers import (
    DASH,
    count,
    figure,
    fine_points,
    percent,
    plural,
    rate,
    tick,
)
from datagen.evaluation.results import Privacy


def privacy_section(privacy: Privacy) -> Section:
    parts: list[Child] = []
    if privacy.is_blind:
        blind = "This check is blind: it missed too many of the copies that it planted itself."
        parts.append(notice("bad", tag("strong", None, blind), " A low figure means nothing here."))
    parts.append(paragraph(privacy.sentence) if privacy.sentence else None)
    measures = (
        ("Flagged among synthetic images", privacy.rate, rate),
        ("Flagged among held-out real images (chance)", privacy.false_positive_rate, rate),
        ("Flagged above chance, points", privacy.excess, fine_points),
        ("Membership inference: members found at 1% false alarms", privacy.membership, rate),
    )
    rows: list[list[Child]] = [
        [label, join([cell(m, form), _remark(m)]), count(m.n)] for label, m, form in measures
    ]
    parts.append(table("Copies and chance", ("Measure", "Value", "Images"), rows))
    parts += [_scores_chart(privacy), _controls(privacy), _near_copies(privacy)]
    parts.append(bullets(privacy.notes) if privacy.notes else None)
    return Section("privacy", "Privacy", join(parts))


def _remark(measure: Measure) -> Markup | None:
    text = measure.note or measure.withheld
    return tag("span", {"class": "range block"}, text) if text else None


def _scores_chart(privacy: Privacy) -> Markup | None:
    synthetic, held_out = privacy.synthetic_scores, privacy.held_out_scores
    if not synthetic and not held_out:
        return None
    picture = charts.histogram(
        synthetic,
        held_out,
        threshold=privacy.threshold,
        title="How near the nearest training image is",
        description="Scores of synthetic and of held-out real images; a copy scores high.",
        axis="copy score: right is nearer to a training image",
        form=tick,
    )
    figures = table(
        "Copy scores",
        ("Images", "Number", "Median", "90th percentile", "99th percentile", "Highest"),
        [_quantiles("synthetic", synthetic), _quantiles("held-out real", held_out)],
    )
    return chart(picture, "Synthetic images against held-out real images", figures)


def _quantiles(label: str, scores: Sequence[float]) -> list[Child]:
    finite = sorted(score for score in scores if math.isfinite(score))
    if not finite:
        return [label, "0", DASH, DASH, DASH, DASH]
    at = [finite[min(int(q * len(finite)), len(finite) - 1)] for q in (0.5, 0.9, 0.99, 1)]
    return [label, count(len(finite)), *[figure(score) for score in at]]


def _controls(privacy: Privacy) -> Markup:
    if not privacy.controls:
        return notice("warn", "No copies were planted: how well this check sees is not known.")
    rows: list[list[Child]] = [
        [name(control.disguise), count(control.num_planted), percent(control.recall)]
        for control in privacy.controls
    ]
    head = ("Disguise", "Copies planted", "Found, with their original")
    return table("Does the check see? Copies planted by the check itself", head, rows)


def _near_copies(privacy: Privacy) -> Markup | None:
    if not privacy.near_copies:
        return None
    rows: list[list[Child]] = [
        [name(c.name), name(c.class_name), name(c.original), name(c.disguise), figure(c.score)]
        for c in privacy.near_copies
    ]
    head = ("Image", "Class", "Original", "Disguise", "Score")
    label = f"{plural(len(rows), 'flagged image')} by name"
    return details(label, table("Flagged images", head, rows))
