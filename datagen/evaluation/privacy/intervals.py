"""95% intervals of shares and of the difference between two. Called by measure.py."""

from __future__ import annotations

import math

from scipy.stats import binomtest

from datagen.evaluation.measure import Measure


def wilson(count: int, num: int) -> Measure:
    """Score interval (Wilson 1927), as in scipy."""
    if num == 0:
        return Measure.absent("no images")
    interval = binomtest(count, num).proportion_ci(method="wilson")
    return Measure(count / num, num, float(interval.low), float(interval.high))


def newcombe(a: Measure, b: Measure) -> Measure:
    """a - b with the hybrid score interval (Newcombe 1998, Statistics in Medicine 17:873, method
    10)."""
    for each in (a, b):
        if each.value is None or each.low is None or each.high is None:
            return Measure.absent(each.withheld or "no interval", n=min(a.n, b.n))
    assert a.value is not None
    assert a.low is not None
    assert a.high is not None
    assert b.value is not None
    assert b.low is not None
    assert b.high is not None
    difference = a.value - b.value
    low = difference - math.hypot(a.value - a.low, b.high - b.value)
    high = difference + math.hypot(a.high - a.value, b.value - b.low)
    return Measure(difference, a.n, low, high)
