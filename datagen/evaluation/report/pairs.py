"""Synthetic images beside the real images nearest to them. Called by render.py."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.evaluation.report.components import (
    Section,
    muted,
    name,
    notice,
    paragraph,
    picture,
)
from datagen.evaluation.report.markup import Child, Markup, clean, join, tag
from datagen.evaluation.report.numbers import plural
from datagen.evaluation.report.pictures import PairPicture, Pixels, encode

MAX_PAIRS = 24


def pairs_section(pairs: Sequence[PairPicture], *, max_bytes: int) -> Section:
    """Worst first, as many as fit: synthetic, nearest training, nearest held-out."""
    intro = paragraph(
        "Each three show a synthetic image, the training image nearest to it, and the held-out "
        "real image nearest to it, which the generator never saw. A copy looks like the second "
        "and not like the third; where both look alike, the class itself has little variety."
    )
    shown, left = list[Child](), max_bytes
    for number, pair in enumerate(pairs[:MAX_PAIRS], 1):
        markup = _pair(pair, number)
        if (size := len(markup.encode())) <= left:
            shown.append(tag("li", None, markup))
            left -= size
    if not shown:
        return Section("pairs", "Copy pairs", paragraph("There are no pairs to show."))
    care = notice(
        "warn",
        "The training and held-out images here are real. Whoever may not see them must not see "
        "this page.",
    )
    rest = len(pairs) - len(shown)
    more = muted(f"{plural(rest, 'more pair')} not shown.") if rest > 0 else None
    return Section(
        "pairs", "Copy pairs", join([intro, care, tag("ol", {"class": "pairs"}, *shown), more])
    )


def _pair(pair: PairPicture, number: int) -> Markup:
    three: list[tuple[str, Pixels | None, str]] = [
        ("synthetic", pair.synthetic, pair.synthetic_name),
        ("nearest training", pair.nearest_training, pair.training_name),
        ("nearest held-out", pair.nearest_held_out, pair.held_out_name),
    ]
    cells = [_pair_cell(number, *each) for each in three]
    flag = tag("strong", {"class": "bad", "aria-hidden": "true"}, "⚑ ") if pair.is_flagged else None
    caption = tag("figcaption", None, flag, clean(pair.caption))
    return tag("figure", None, tag("div", {"class": "three"}, *cells), caption)


def _pair_cell(number: int, role: str, image: Pixels | None, file_name: str) -> Markup:
    label = tag("span", {"class": "role"}, role)
    if image is None:
        return tag("div", None, tag("span", {"class": "none"}, "none given"), label)
    called = tag("span", {"class": "file"}, name(file_name)) if file_name else None
    return tag("div", None, picture(encode(image), f"Pair {number}, {role}"), label, called)
