"""Figures as a person reads them: 10,000; 96.4%; +1.2; 0.3 to 1.9. Called by report/."""

from __future__ import annotations

import math
from collections.abc import Callable

from datagen.evaluation.measure import Measure

Format = Callable[[float], str]
MINUS = "\u2212"
DASH = "–"
# From here on digits say nothing: powers of ten.
_HUGE = 1e15


def count(value: float) -> str:
    """A whole number with separators of thousands."""
    if not math.isfinite(value):
        return _endless(value)
    return _signed(f"{round(value):,}" if abs(value) < _HUGE else f"{value:.2e}")


def about(value: float) -> str:
    """A whole number to two significant digits above 100: what an estimate can bear."""
    if not 100 <= abs(value) < _HUGE:
        return count(value)
    step = 10 ** (len(str(abs(round(value)))) - 2)
    return count(round(value / step) * step)


def figure(value: float) -> str:
    """Three significant digits, and no more than needed above 100."""
    if not math.isfinite(value):
        return _endless(value)
    if value == 0 or abs(value) >= 100:
        return count(value)
    if abs(value) < 1e-4:
        return _signed(f"{value:.2e}")
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return _signed(f"{value:.{decimals}f}")


def tick(value: float) -> str:
    """As short as it can be: 0.2."""
    return _signed(f"{value:.6g}") if math.isfinite(value) else _endless(value)


def percent(share: float) -> str:
    """One decimal; two at the ends, where one would say none or all."""
    if not math.isfinite(share):
        return _endless(share)
    is_at_end = 0 < abs(share) < 0.001 or 0.999 < share < 1
    return _signed(f"{share * 100:,.{2 if is_at_end else 1}f}") + "%"


def rate(share: float) -> str:
    """Two decimals: for shares that ought to be small."""
    return _signed(f"{share * 100:,.2f}") + "%" if math.isfinite(share) else _endless(share)


def points(difference: float) -> str:
    """A difference of shares, always with its sign: +1.2."""
    return _difference(difference, 1)


def fine_points(difference: float) -> str:
    return _difference(difference, 2)


def _difference(difference: float, decimals: int) -> str:
    if not math.isfinite(difference):
        return _endless(difference)
    text = f"{difference * 100:,.{decimals}f}"
    if not text.strip("-0."):
        return text.lstrip("-")
    return _signed(text if difference < 0 else "+" + text)


def interval(measure: Measure, form: Format) -> str:
    """'0.3 to 1.9'; an open end in words; '' where there is none."""
    low, high = measure.low, measure.high
    if low is None and high is None:
        return ""
    if high is None or high == math.inf:
        return f"at least {form(low if low is not None else -math.inf)}"
    if low is None or low == -math.inf:
        return f"at most {form(high)}"
    return f"{form(low)} to {form(high)}"


def value(measure: Measure, form: Format) -> str:
    return DASH if measure.value is None else form(measure.value)


def plural(number: float, noun: str, many: str | None = None) -> str:
    return f"{count(number)} {noun if round(number) == 1 else many or noun + 's'}"


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def _endless(value: float) -> str:
    if math.isnan(value):
        return DASH
    return "∞" if value > 0 else MINUS + "∞"
