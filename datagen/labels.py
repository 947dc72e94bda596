"""What is true of an image. Grows with label kinds; conversions and checks live here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attribute = str | int | float | bool


@dataclass(frozen=True)
class Labels:
    """class_name: the requested class. attributes: of the class, as the recipe states them."""

    class_name: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"class_name": self.class_name, "attributes": dict(self.attributes)}
