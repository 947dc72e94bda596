"""The first section: is the label right, is it faithful, does it help, does it copy. In words."""

from __future__ import annotations

from collections.abc import Iterator

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.components import (
    Card,
    Section,
    bullets,
    cell,
    name,
    notice,
    sentence,
    table,
)
from datagen.evaluation.report.markup import Child, Markup, clean, join, tag
from datagen.evaluation.report.numbers import (
    DASH,
    about,
    count,
    fine_points,
    interval,
    percent,
    plural,
    points,
    rate,
)
from datagen.evaluation.report.words import FIDELITY, KINDS, VERDICTS, worth_in_words
from datagen.evaluation.results import Evaluation, Fidelity, Utility

WITHHELD = "Withheld"


def verdict_section(evaluation: Evaluation) -> Section:
    cards = [
        _utility_card(evaluation.utility),
        _worth_card(evaluation.utility),
        _label_card(evaluation),
        _copies_card(evaluation),
    ]
    parts: list[Child] = [tag("p", {"class": "headline"}, evaluation.headline)]
    if claims := evaluation.subject.performance_claims:
        parts.append(notice("warn", tag("strong", None, "Use: "), claims))
    parts.append(tag("div", {"class": "cards"}, *[card.to_markup() for card in cards]))
    parts.append(_class_table(evaluation))
    parts.append(_withheld(evaluation))
    return Section("verdict", "Verdict", join(parts))


def _utility_card(utility: Utility) -> Card:
    gap = utility.gap
    words = sentence(utility.sentence or utility.withheld or gap.withheld or "")
    if utility.verdict is None:
        return Card(
            "Does it help a model?", WITHHELD, "", sentence(utility.withheld or words), "warn"
        )
    parts = [f"{points(gap.value)} points of accuracy" if gap.value is not None else ""]
    if ends := interval(gap, points):
        parts.append(f"95% interval {ends}")
    return Card(
        "Does it help a model?",
        VERDICTS[utility.verdict],
        ", ".join(part for part in parts if part),
        words,
        KINDS[utility.verdict],
    )


def _worth_card(utility: Utility) -> Card:
    worth, added = utility.worth_real_labels, utility.added_worth
    title = "How many real labels is it worth?"
    if worth.value is None:
        return Card(title, WITHHELD, "", sentence(worth.withheld or ""), "warn")
    ends, words = interval(worth, about), worth_in_words(worth)
    text = (
        f"By themselves these images train a classifier as well as {words} labelled real images do"
        + (f"; {worth.note}." if worth.note else ".")
    )
    if added is not None and added.value is not None:
        text += (
            f" Added to {plural(added.n, 'real image')}, they do as much as about "
            f"{about(added.value)} more."
        )
    answer = f"{words[0].upper()}{words[1:]} real labels"
    return Card(title, answer, f"90% interval {ends}" if ends else "", text)


def _label_card(evaluation: Evaluation) -> Card:
    title = "Are the labels right?"
    agreement = evaluation.label_agreement.agreement
    judge = evaluation.label_agreement.classifier_accuracy
    if agreement.value is None:
        return Card(title, WITHHELD, "", sentence(agreement.withheld or ""), "warn")
    text = (
        f"An independent classifier confirms the label of {percent(agreement.value)} of "
        f"{plural(agreement.n, 'image')}."
    )
    if judge.value is not None:
        text += f" On held-out real images it is right in {percent(judge.value)}."
    else:
        text += f" How good it is itself is not known: {judge.withheld}"
    ends = interval(agreement, percent)
    return Card(title, percent(agreement.value), f"95% interval {ends}" if ends else "", text)


def _copies_card(evaluation: Evaluation) -> Card:
    title, privacy = "Does it copy real images?", evaluation.privacy
    if privacy.is_blind:
        text = privacy.sentence or (
            "Of the copies that the check planted itself, it found too few: nothing follows from "
            "what it did not find."
        )
        return Card(title, "Not known: the check is blind", "", text, "bad")
    if privacy.rate.value is None:
        return Card(title, WITHHELD, "", sentence(privacy.rate.withheld or ""), "warn")
    flagged = round(privacy.rate.value * privacy.rate.n)
    text = f"{rate(privacy.rate.value)} of {plural(privacy.rate.n, 'image')} flagged."
    chance = privacy.false_positive_rate
    if chance.value is not None:
        text += (
            f" Chance alone flags {rate(chance.value)}: so many held-out real images, which "
            "copy nothing, are flagged."
        )
    excess = privacy.excess
    ends = interval(excess, fine_points)
    range_ = "" if excess.value is None else f"{fine_points(excess.value)} points against chance"
    is_more = excess.low is not None and excess.low > 0
    return Card(
        title,
        f"{plural(flagged, 'near copy', 'near copies')} flagged",
        f"{range_}, 95% interval {ends}" if range_ and ends else range_,
        join([text, " " + privacy.sentence if privacy.sentence else None]),
        "bad" if is_more else "",
    )


def _class_table(evaluation: Evaluation) -> Markup:
    utility, subject = evaluation.utility, evaluation.subject
    agreement = evaluation.label_agreement.agreement.per_class
    copies = evaluation.privacy.rate.per_class
    rows: list[list[Child]] = []
    for each, number in subject.counts.items():
        verdict = utility.class_verdicts.get(each)
        row: list[Child] = [
            name(each),
            count(number),
            cell(agreement.get(each), percent),
            cell(utility.class_gaps.get(each), points),
            DASH if verdict is None else tag("span", {"class": KINDS[verdict]}, VERDICTS[verdict]),
            cell(copies.get(each), rate),
        ]
        rows.append(row)
    head = ("Class", "Images", "Label agreement", "Effect, points", "Verdict", "Near copies")
    return table("Class by class", head, rows)


def _withheld(evaluation: Evaluation) -> Markup:
    """Every main figure that is missing, with the reason."""
    missing = list(_missing(evaluation))
    title = tag("h3", None, "What is withheld, and why")
    if not missing:
        return join([title, tag("p", None, "Nothing: every figure asked for was measured.")])
    labels: dict[str, list[str]] = {}
    for label, why in missing:
        labels.setdefault(why, []).append(label)
    items = [
        join([tag("strong", None, "; ".join(group)), ": ", clean(why)])
        for why, group in labels.items()
    ]
    return join([title, bullets(items)])


def _missing(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    utility, privacy = evaluation.utility, evaluation.privacy
    if utility.verdict is None:
        yield "Utility verdict", utility.withheld or "no reason given"
    measures: list[tuple[str, Measure]] = [
        ("Effect on accuracy", utility.gap),
        ("Worth in real labels", utility.worth_real_labels),
        ("Label agreement", evaluation.label_agreement.agreement),
        ("Accuracy of the label classifier", evaluation.label_agreement.classifier_accuracy),
        ("Near copies", privacy.rate),
        ("Near copies among held-out real images", privacy.false_positive_rate),
        ("Near copies above chance", privacy.excess),
        ("Membership inference", privacy.membership),
        *((FIDELITY[key].label, getattr(evaluation.fidelity, key)) for key in Fidelity.NAMES),
    ]
    for label, measure in measures:
        if measure.withheld is not None:
            yield label, measure.withheld
