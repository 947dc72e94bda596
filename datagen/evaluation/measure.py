"""One measured figure: a value with its n and interval, or the reason why it is withheld."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measure:
    """low, high: the 95% interval unless the measure's docstring says another level. floor: the
    same figure between two sets of real images of equal n: what a perfect data set would show.
    n: images on each side. withheld: why there is no value. per_class: class name -> measure."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    withheld: str | None = None
    per_class: Mapping[str, Measure] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        assert (self.value is None) == (self.withheld is not None)
        assert self.value is None or math.isfinite(self.value), self.value

    @classmethod
    def absent(cls, reason: str, *, n: int = 0) -> Measure:
        return cls(None, n, withheld=reason)

    def to_json(self) -> dict[str, Any]:
        """What is unknown is left out, but value and n are always there."""
        content: dict[str, Any] = {"value": self.value, "n": self.n}
        if self.low is not None or self.high is not None:
            content["interval"] = [self.low, self.high]
        if self.floor is not None:
            content["floor"] = self.floor
        if self.withheld is not None:
            content["withheld"] = self.withheld
        if self.note:
            content["note"] = self.note
        if self.per_class:
            content["per_class"] = {name: m.to_json() for name, m in self.per_class.items()}
        return content
