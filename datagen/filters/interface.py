"""What a filter offers: a score for every attempt, and a judge for every class.

Called by resolve.py (options), engine.py (scores when attempts are made, judges when they are
chosen) and the commands that explain a rejection. Cheap to import: numpy and pydantic alone.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Images = NDArray[np.uint8]  # NHWC, uint8, C is 1 or 3
Score = float | str


class ClassJudge(Protocol):
    """Decides over the attempts of one class, in ordinal order. One fresh judge per class."""

    def reject(self, score: Score) -> str | None:
        """A short, stable word that says why the attempt is refused; None if it passes."""
        ...

    def accept(self, score: Score) -> None:
        """Remembers the score of an image that was chosen."""
        ...


class FilterRule(Protocol):
    """One rule. Scores know no options: stored ones serve every later threshold."""

    name: str
    options: type[BaseModel]

    def score(self, images: Images) -> list[Score]:
        """One JSON scalar per image, finite; a function of that image's pixels alone."""
        ...

    def judge(self, options: BaseModel) -> ClassJudge: ...
