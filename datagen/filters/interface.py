"""What a filter offers: a score for every attempt, and a judge for every class.

Called by resolve.py (options), stages/ (scores when attempts are made, judges when they are
chosen) and the commands that explain a rejection. Cheap to import: numpy and pydantic alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from datagen.references.reference import Reference

Images = NDArray[np.uint8]  # NHWC, uint8, C is 1 or 3
Score = float | str


class FilterOptions(BaseModel):
    """The options of one filter."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def named_classes(self) -> Iterable[str]:
        """Classes that the options name: each has to be one of the recipe's."""
        return ()


class ClassJudge(Protocol):
    """Decides over the attempts of one class, in ordinal order. One fresh judge per class."""

    def reject(self, score: Score) -> str | None:
        """A short, stable word that says why the attempt is refused; None if it passes."""
        ...

    def accept(self, score: Score) -> None:
        """Remembers the score of an image that was chosen."""
        ...


class FilterRule(Protocol):
    """One rule. Scores know no thresholds: stored ones serve every later threshold."""

    name: str
    options: type[FilterOptions]

    def needs_reference(self, options: BaseModel) -> bool:
        """Whether scores or thresholds come from the reference of the recipe's model."""
        ...

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        """One JSON scalar per image, finite; a function of that image's pixels, its class and the
        reference alone. class_names: of each image. reference: None if none is needed."""
        ...

    def judge(
        self, options: BaseModel, class_name: str, reference: Reference | None
    ) -> ClassJudge: ...


def score_key(rule: FilterRule, options: BaseModel, reference: Reference | None) -> str:
    """Under what a score is kept with its attempt: what another reference gave is another score."""
    if not rule.needs_reference(options):
        return rule.name
    assert reference is not None, f"filter {rule.name} without a reference"
    return f"{rule.name}@{reference.digest[:12]}"
