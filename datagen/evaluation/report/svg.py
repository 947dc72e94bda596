"""SVG for the charts: scales, ticks, lines, text. Called by charts.py.

Colours come from style.css by class, so that they follow the light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datagen.evaluation.report.markup import Child, Markup, tag
from datagen.evaluation.report.numbers import Format

WIDTH = 720


@dataclass(frozen=True)
class Scale:
    """From figures to pixels; a logarithm where the figures span decades."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def svg(title: str, description: str, height: float, parts: Sequence[Child]) -> Markup:
    attributes = {
        "class": "chart",
        "role": "img",
        "viewBox": f"0 0 {WIDTH} {height:g}",
        "aria-label": f"{title}. {description}",
    }
    head = [tag("title", None, title), tag("desc", None, description)]
    return tag("svg", attributes, *head, *parts)


def is_drawable(value: float) -> bool:
    """Neither endless nor so large that differences are lost."""
    return abs(value) <= 1e12


def nice_ticks(low: float, high: float, *, about: int = 6) -> list[float]:
    """Round figures from low to high, about so many."""
    raw = (high - low) / about
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def fitting(
    ends: Sequence[float | None], marks: Sequence[float], start: float, end: float
) -> Scale:
    """A scale with some room around every finite figure."""
    finite = [value for value in (*ends, *marks) if value is not None and is_drawable(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = max((high - low) * 0.06, abs(high) * 1e-3, 1e-6)
    return Scale(low - room, high + room, start, end)


def vertical_ticks(x: Scale, top: float, bottom: float, form: Format) -> Iterator[Markup]:
    for tick in nice_ticks(x.low, x.high):
        yield line(x(tick), top, x(tick), bottom, "grid")
    yield from x_labels(x, bottom, form)


def x_labels(x: Scale, bottom: float, form: Format) -> Iterator[Markup]:
    for tick in nice_ticks(x.low, x.high):
        yield text(form(tick), x(tick), bottom + 18, "axis", "middle")


def horizontal_ticks(y: Scale, x: Scale, form: Format) -> Iterator[Markup]:
    for tick in nice_ticks(y.low, y.high):
        yield line(x.start, y(tick), x.end, y(tick), "grid")
        yield text(form(tick), x.start - 8, y(tick) + 4, "axis", "end")


def spread(places: Sequence[float], x: Scale) -> Iterator[float]:
    """Those places whose labels do not run into each other."""
    last = -math.inf
    for place in places:
        if x(place) - last >= 48:
            last = x(place)
            yield place


def path(corners: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(corners))


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    ends = {"x1": f"{x1:g}", "y1": f"{y1:g}", "x2": f"{x2:g}", "y2": f"{y2:g}"}
    return tag("line", {"class": kind, **ends})


def band(left: float, right: float, top: float, bottom: float) -> Markup:
    place = {"x": f"{left:g}", "y": f"{top:g}"}
    size = {"width": f"{right - left:g}", "height": f"{bottom - top:g}"}
    return tag("rect", {"class": "band", **place, **size})


def text(text: str, x: float, y: float, kind: str, anchor: str = "start") -> Markup:
    place = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": None if anchor == "start" else anchor}
    return tag("text", {"class": kind, **place}, text)
