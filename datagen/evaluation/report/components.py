"""What the sections of a report are built from: tables, figures, cards. Called by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.markup import Child, Markup, clean, join, ready, tag
from datagen.evaluation.report.numbers import Format, count, interval, value
from datagen.evaluation.report.pictures import Shown

# Rows of one table: a page stays readable, and small, whatever the number of classes.
MAX_ROWS = 200
_NAME_LENGTH = 80


@dataclass(frozen=True)
class Section:
    """One part of the page. title: also its entry in the table of contents."""

    id: str
    title: str
    content: Markup

    def to_markup(self) -> Markup:
        heading = tag("h2", {"id": f"{self.id}-title"}, self.title)
        attributes = {"id": self.id, "aria-labelledby": f"{self.id}-title"}
        return tag("section", attributes, heading, self.content)


def name(text: str) -> Markup:
    """A name that someone else chose: clipped, and kept from changing the text around it."""
    is_long = len(text) > _NAME_LENGTH
    title = clean(text) if is_long else None
    return tag("bdi", {"title": title}, clean(text, limit=_NAME_LENGTH))


def paragraph(*children: Child) -> Markup:
    return tag("p", None, *children)


def sentence(text: str) -> str:
    """With a full stop, which a text that others wrote may lack."""
    return f"{text}." if text and text[-1].isalnum() else text


def muted(*children: Child) -> Markup:
    return tag("p", {"class": "muted"}, *children)


def notice(kind: str, *children: Child) -> Markup:
    """kind: good, bad or warn; the text itself says which."""
    return tag("p", {"class": f"notice {kind}", "role": "note"}, *children)


def bullets(items: Sequence[Child]) -> Markup:
    shown = [tag("li", None, item) for item in items[:MAX_ROWS]]
    if len(items) > MAX_ROWS:
        shown.append(tag("li", None, f"and {count(len(items) - MAX_ROWS)} more"))
    return tag("ul", None, *shown)


def table(caption: str, head: Sequence[Child], rows: Sequence[Sequence[Child]]) -> Markup:
    """The first cell of each row is its header. A wide table scrolls, also by keyboard."""
    columns = [tag("th", {"scope": "col"}, cell) for cell in head]
    body = [
        tag("tr", None, tag("th", {"scope": "row"}, first), *[tag("td", None, c) for c in cells])
        for first, *cells in rows[:MAX_ROWS]
    ]
    content = tag(
        "table",
        None,
        tag("caption", None, caption),
        tag("thead", None, tag("tr", None, *columns)),
        tag("tbody", None, *body),
    )
    rest = len(rows) - MAX_ROWS
    more = (
        muted(f"and {count(rest)} more rows, left out to keep the page small") if rest > 0 else None
    )
    return join([_scrolling(clean(caption), content), more])


def facts(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """Names and what they are, as a description list."""
    rows = [tag("div", None, tag("dt", None, k), tag("dd", None, v)) for k, v in pairs[:MAX_ROWS]]
    return tag("dl", None, *rows)


def details(summary: str, *content: Child) -> Markup:
    return tag("details", None, tag("summary", None, summary), *content)


def chart(picture: Markup, caption: str, figures: Markup) -> Markup:
    """A chart, what it says, and its figures as a table for those who do not see it."""
    return tag(
        "figure",
        None,
        tag("figcaption", None, caption),
        _scrolling(f"Chart: {clean(caption)}", picture),
        details("The figures as a table", figures),
    )


def picture(shown: Shown, alt: str) -> Markup:
    return tag(
        "img",
        {
            "src": ready(shown.uri),
            "alt": alt,
            "width": str(shown.width),
            "height": str(shown.height),
            "class": "exact" if shown.is_exact else None,
        },
    )


@dataclass(frozen=True)
class Card:
    """One answer: what was asked, the answer in large, its interval, and a plain sentence."""

    title: str
    answer: str
    range: str
    sentence: Child
    kind: str = ""

    def to_markup(self) -> Markup:
        return tag(
            "article",
            {"class": f"card {self.kind}".strip()},
            tag("h3", None, self.title),
            tag("p", {"class": "answer"}, self.answer),
            tag("p", {"class": "range"}, self.range) if self.range else None,
            tag("p", None, self.sentence),
        )


def cell(measure: Measure | None, form: Format) -> Markup:
    """A measure in a table: the value and, smaller, its interval; or why there is none."""
    if measure is None:
        return tag("span", {"class": "muted"}, "–")
    if measure.value is None:
        return tag(
            "span", {"class": "withheld", "title": clean(measure.withheld or "")}, "withheld"
        )
    ends = interval(measure, form)
    small = tag("span", {"class": "range"}, ends) if ends else None
    return join([value(measure, form), " " if small else None, small])


def _scrolling(label: str, content: Markup) -> Markup:
    attributes = {"class": "scroll", "role": "region", "tabindex": "0", "aria-label": label}
    return tag("div", attributes, content)
