"""Charts as inline SVG. Colours come from style.css by class, so that they follow the scheme.

No meaning is in colour alone: the real or older thing is an outline, a dash or a hollow mark.
Every chart has a title and a description; sections/ puts its figures into a table below it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from datagen.evaluation.report.markup import Child, Markup, clean, join, tag
from datagen.evaluation.report.numbers import Format, count, percent
from datagen.evaluation.report.svg import (
    WIDTH,
    Scale,
    band,
    fitting,
    horizontal_ticks,
    is_drawable,
    line,
    path,
    spread,
    svg,
    text,
    vertical_ticks,
    x_labels,
)

MAX_ROWS = 40
_LABEL_WIDTH = 215
_VALUE_WIDTH = 96
_ROW_HEIGHT = 30
_MAX_LABEL = 30
_TOP = 34


@dataclass(frozen=True)
class Dot:
    """One row of a dot chart. value None: shown as withheld. is_main: what the chart is about."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    is_main: bool = True


def dots(
    rows: Sequence[Dot],
    *,
    title: str,
    description: str,
    form: Format,
    axis: str,
    zero: float | None = None,
    margin: float | None = None,
) -> Markup:
    """A dot with its interval in each row. zero: where nothing changes; margin: half the width of
    the band around it that counts as no difference."""
    shown, top = rows[:MAX_ROWS], 8
    bottom = top + _ROW_HEIGHT * len(shown)
    height = bottom + 46
    marks = [] if zero is None else [zero - (margin or 0), zero + (margin or 0)]
    ends = [end for row in shown for end in (row.value, row.low, row.high)]
    x = fitting(ends, marks, _LABEL_WIDTH, WIDTH - _VALUE_WIDTH)
    parts: list[Child] = []
    if zero is not None and margin:
        parts.append(band(x(zero - margin), x(zero + margin), top, bottom))
    parts += vertical_ticks(x, top, bottom, form)
    if zero is not None:
        parts.append(line(x(zero), top, x(zero), bottom, "zero"))
    for i, row in enumerate(shown):
        parts.append(_dot_row(row, x, top + _ROW_HEIGHT * (i + 0.5), form))
    parts.append(text(axis, WIDTH / 2, height - 4, "axis", "middle"))
    return svg(title, description, height, parts)


def _dot_row(row: Dot, x: Scale, y: float, form: Format) -> Markup:
    label = text(clean(row.label, limit=_MAX_LABEL), _LABEL_WIDTH - 12, y + 4, "label", "end")
    end = WIDTH - _VALUE_WIDTH + 10
    if row.value is None:
        return join([label, text("withheld", end, y + 4, "axis")])
    parts: list[Child] = [label]
    if row.low is not None or row.high is not None:
        low = x.low if row.low is None else row.low
        high = x.high if row.high is None else row.high
        parts.append(line(x(low), y, x(high), y, "whisker" if row.is_main else "whisker other"))
    mark = {"cx": f"{x(row.value)}", "cy": f"{y}", "r": "5.5"}
    parts.append(tag("circle", {**mark, "class": "dot" if row.is_main else "dot other"}))
    parts.append(text(form(row.value), end, y + 4, "label number"))
    return join(parts)


@dataclass(frozen=True)
class CurveMark:
    """Where a thing stands on the curve, with the interval along it; high None: open."""

    label: str
    at: float
    low: float | None
    high: float | None
    is_main: bool = True


def curve(
    places: Sequence[float],
    rows: Sequence[Dot],
    *,
    title: str,
    description: str,
    form: Format,
    axis: str,
    marks: Sequence[CurveMark],
) -> Markup:
    """rows[i] at places[i] > 0, ascending, on a logarithmic axis. marks: at most two."""
    height, bottom = 340, 282
    # Beyond twice the largest measured place nothing was measured: a mark there is at the edge.
    most = max([places[-1], *[min(mark.at, 2 * places[-1]) for mark in marks]])
    x = Scale(places[0] / 1.15, most * 1.15, 70, WIDTH - 24, is_log=True)
    y = fitting(
        [end for row in rows for end in (row.value, row.low, row.high)], [], bottom, _TOP + 8
    )
    parts: list[Child] = list(horizontal_ticks(y, x, form))
    for place in spread(places, x):
        parts.append(text(count(place), x(place), bottom + 20, "axis", "middle"))
    parts += _curve_line(places, rows, x, y)
    # The label of the mark on the right goes above the other's, so that no line crosses it.
    for i, mark in enumerate(sorted(marks, key=lambda mark: -mark.at)):
        parts += _curve_mark(mark, x, bottom, 14 + 20 * i)
        parts += _lifted(places, rows, mark, x, y)
    parts.append(text(axis, WIDTH / 2, height - 4, "axis", "middle"))
    return svg(title, description, height, parts)


def _curve_line(
    places: Sequence[float], rows: Sequence[Dot], x: Scale, y: Scale
) -> Iterator[Markup]:
    known = [(x(at), row) for at, row in zip(places, rows, strict=True) if row.value is not None]
    banded = [(at, row.low, row.high) for at, row in known if row.low is not None]
    edge = [(at, y(low)) for at, low, _ in banded if low is not None]
    edge += [(at, y(high)) for at, _, high in reversed(banded) if high is not None]
    if len(edge) > 2:
        yield tag("path", {"class": "band", "d": path(edge) + "Z"})
    corners = [(at, y(row.value)) for at, row in known if row.value is not None]
    yield tag("path", {"class": "curve", "d": path(corners)})
    for at, height in corners:
        yield tag("circle", {"class": "dot other", "cx": f"{at}", "cy": f"{height}", "r": "4.5"})


def _curve_mark(mark: CurveMark, x: Scale, bottom: float, label_y: float) -> Iterator[Markup]:
    low = mark.at if mark.low is None else mark.low
    high = x.high if mark.high is None else mark.high
    if mark.is_main:
        place = {"class": "worth", "x": f"{x(low)}", "y": f"{label_y + 4}"}
        size = {"width": f"{max(x(high) - x(low), 1):.1f}", "height": f"{bottom - label_y - 4}"}
        yield tag("rect", {**place, **size})
    yield from _flag(x(mark.at), bottom, mark.label, "main" if mark.is_main else "other", label_y)


def _lifted(
    places: Sequence[float], rows: Sequence[Dot], mark: CurveMark, x: Scale, y: Scale
) -> Iterator[Markup]:
    """A dot where the mark meets the curve, if it does."""
    known = [(x(p), y(r.value)) for p, r in zip(places, rows, strict=True) if r.value is not None]
    if mark.is_main and len(known) > 1 and known[0][0] <= x(mark.at) <= known[-1][0]:
        across, heights = zip(*known, strict=True)
        height = float(np.interp(x(mark.at), np.array(across), np.array(heights)))
        yield tag(
            "circle", {"class": "dot", "cx": f"{x(mark.at)}", "cy": f"{height:.1f}", "r": "6"}
        )


def _flag(at: float, bottom: float, label: str, kind: str, y: float) -> Iterator[Markup]:
    yield line(at, y + 4, at, bottom, f"flag {kind}")
    is_right = at > WIDTH / 2
    yield text(
        label, at - 6 if is_right else at + 6, y, "label flagged", "end" if is_right else "start"
    )


def histogram(
    synthetic: Sequence[float],
    held_out: Sequence[float],
    *,
    threshold: float,
    title: str,
    description: str,
    axis: str,
    form: Format,
) -> Markup:
    """Shares per bin: synthetic filled, held-out real a dashed outline, with the threshold."""
    height, bottom, num_bins = 300, 244, 40
    both = [score for score in (*synthetic, *held_out, threshold) if is_drawable(score)]
    x = fitting(both, [], 70, WIDTH - 24)
    edges = np.linspace(x.low, x.high, num_bins + 1)
    shares = [_shares(scores, edges) for scores in (synthetic, held_out)]
    top = max([0.01, *(float(each.max()) for each in shares)])
    y = Scale(0, top * 1.1, bottom, _TOP + 8)
    parts: list[Child] = list(horizontal_ticks(y, x, percent))
    parts += x_labels(x, bottom, form)
    steps = [_steps(each, edges, x, y) for each in shares]
    parts.append(tag("path", {"class": "area", "d": steps[0] + "Z"}))
    parts.append(tag("path", {"class": "outline", "d": steps[1]}))
    if is_drawable(threshold):
        parts += _flag(x(threshold), bottom, f"flagged from {form(threshold)}", "threshold", 28)
    parts.append(tag("rect", {"class": "area", "x": "70", "y": "6", "width": "22", "height": "10"}))
    parts.append(text("synthetic", 98, 15, "label"))
    parts.append(tag("path", {"class": "outline", "d": "M180 11H202"}))
    parts.append(text("held-out real", 208, 15, "label"))
    parts.append(text(axis, WIDTH / 2, height - 4, "axis", "middle"))
    return svg(title, description, height, parts)


def _shares(scores: Sequence[float], edges: np.ndarray) -> np.ndarray:
    """(bins,) share of the finite scores in each bin."""
    finite = np.asarray([score for score in scores if is_drawable(score)], dtype=np.float64)
    counts = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0]
    return np.asarray(counts / max(len(finite), 1), dtype=np.float64)


def _steps(shares: np.ndarray, edges: np.ndarray, x: Scale, y: Scale) -> str:
    corners = [(x(float(edges[0])), y(0))]
    for share, (left, right) in zip(shares, pairwise(edges), strict=True):
        corners += [(x(float(left)), y(float(share))), (x(float(right)), y(float(share)))]
    return path([*corners, (x(float(edges[-1])), y(0))])


@dataclass(frozen=True)
class Bar:
    """One row of stacked parts: (part's index in the legend, size)."""

    label: str
    parts: Sequence[tuple[int, float]]
    note: str


def stacked(rows: Sequence[Bar], *, legend: Sequence[str], title: str, description: str) -> Markup:
    """Bars on one scale. Part i wears class p0 to p5; its legend entry says which it is."""
    shown = rows[:MAX_ROWS]
    top = 12 + 22 * math.ceil(len(legend) / 3)
    height = top + 26 * len(shown) + 8
    most = max([1.0, *(sum(size for _, size in row.parts) for row in shown)])
    x = Scale(0, most, _LABEL_WIDTH, WIDTH - 120)
    parts: list[Child] = [_HATCHES]
    for i, name in enumerate(legend):
        left, y = 20 + 232 * (i % 3), 4 + 22 * (i // 3)
        parts.append(_block(left, y, 14, 12, i))
        parts.append(text(clean(name, limit=30), left + 20, y + 11, "label"))
    for i, row in enumerate(shown):
        y, at = top + 26 * i, 0.0
        label = clean(row.label, limit=_MAX_LABEL)
        parts.append(text(label, _LABEL_WIDTH - 12, y + 14, "label", "end"))
        for part, size in row.parts:
            parts.append(_block(x(at), y, round(x(at + size) - x(at), 1), 18, part))
            at += size
        parts.append(text(row.note, x(at) + 8, y + 14, "axis"))
    return svg(title, description, height, parts)


def _hatch(id_: str, drawing: str) -> Markup:
    size = {"width": "6", "height": "6", "patternUnits": "userSpaceOnUse"}
    ground = tag("rect", {"class": "hatch-ground", "width": "6", "height": "6"})
    return tag(
        "pattern", {"id": id_, **size}, ground, tag("path", {"class": "hatch", "d": drawing})
    )


# Fills that differ without colour too; style.css names them. One such chart to a page.
_HATCHES = tag(
    "defs",
    None,
    _hatch("slash", "M-1 7L7 -1M-1 1L1 -1M5 7L7 5"),
    _hatch("dotted", "M2 3h1.6"),
    _hatch("upright", "M3 0V6"),
    _hatch("level", "M0 3H6"),
)


def _block(x: float, y: float, width: float, height: float, part: int) -> Markup:
    place = {"x": f"{x}", "y": f"{y}", "width": f"{width}", "height": f"{height}"}
    return tag("rect", {"class": f"part p{min(part, 5)}", **place})


def bullet(value: float, *, floor: float | None, most: float) -> Markup:
    """A bar for a table cell, with a tick where a perfect data set would end. The row has the
    figures: hidden from screen readers."""
    x = Scale(0, most if most > 0 else 1, 1, 119)
    parts: list[Child] = [line(1, 11, 119, 11, "grid")]
    width = {"width": f"{round(x(max(value, 0)) - 1, 1)}", "height": "8"}
    parts.append(tag("rect", {"class": "part p0", "x": "1", "y": "7", **width}))
    if floor is not None:
        parts.append(line(x(max(floor, 0)), 1, x(max(floor, 0)), 21, "floor"))
    size = {"viewBox": "0 0 120 22", "width": "120", "height": "22"}
    return tag("svg", {"class": "bullet", "aria-hidden": "true", **size}, *parts)
