"""What a filter offers: a score for every attempt, and a judge for every class.

Called by resolve.py (options), stages/ (scores when attempts are made, judges when they are
chosen) and the commands that explain a rejection. Cheap to import: numpy and pydantic alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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


@runtime_checkable
class NetworkRule(Protocol):
    """A FilterRule whose score needs its options: they name the network that is asked."""

    name: str

    def check(self, options: BaseModel) -> None:
        """Raises ModelError, naming option, value and remedy, if the network cannot be used so."""
        ...

    def scorer_digest(self, options: BaseModel) -> str:
        """Over all of the options and the files they name that decides a score."""
        ...

    def score_by(
        self, options: BaseModel, images: Images, class_names: Sequence[str]
    ) -> list[Score]:
        """As FilterRule.score, in place of it."""
        ...


@runtime_checkable
class FillingRule(Protocol):
    """A NetworkRule that asks about all classes of the recipe at once."""

    def fill(self, options: BaseModel, class_names: Sequence[str]) -> FilterOptions:
        """The options with what follows from the recipe's classes. Raises ModelError."""
        ...


def check_options(
    rule: FilterRule, options: FilterOptions, class_names: Sequence[str]
) -> FilterOptions:
    """As they are pinned to the recipe. class_names: of the recipe. Raises ModelError."""
    if isinstance(rule, FillingRule):
        options = rule.fill(options, class_names)
    if isinstance(rule, NetworkRule):
        rule.check(options)
    return options


def scores_of(
    rule: FilterRule,
    options: BaseModel,
    images: Images,
    class_names: Sequence[str],
    reference: Reference | None,
) -> list[Score]:
    """See FilterRule.score. class_names: of each image."""
    if isinstance(rule, NetworkRule):
        return rule.score_by(options, images, class_names)
    return rule.score(images, class_names, reference)


def score_key(rule: FilterRule, options: BaseModel, reference: Reference | None) -> str:
    """Under what a score is kept with its attempt: what another reference or network gave is
    another score."""
    if isinstance(rule, NetworkRule):
        return f"{rule.name}@{rule.scorer_digest(options)[:12]}"
    if not rule.needs_reference(options):
        return rule.name
    assert reference is not None, f"filter {rule.name} without a reference"
    return f"{rule.name}@{reference.digest[:12]}"
