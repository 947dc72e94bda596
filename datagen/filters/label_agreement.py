"""label_agreement: an image that an independent classifier does not take for its class. Listed in
datagen.filters.FILTERS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score

if TYPE_CHECKING:
    from datagen.references.reference import Reference

_Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class LabelAgreementOptions(FilterOptions):
    min_probability: _Probability | None = Field(
        default=None,
        description="a probability from 0 to 1 for every class; left out, the reference's own "
        "threshold of each class",
    )
    thresholds: Mapping[str, _Probability] = Field(
        default_factory=dict,
        max_length=10_000,
        description="a mapping like {shirt: 0.1}: of single classes, before min_probability",
    )

    def named_classes(self) -> Iterable[str]:
        return self.thresholds


@dataclass(frozen=True)
class LabelAgreementJudge:
    min_probability: float

    def reject(self, score: Score) -> str | None:
        return "label_agreement" if float(score) < self.min_probability else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class LabelAgreementFilter:
    """The score is the calibrated probability of the image's own class, to 4 decimals.

    Source: threshold per class, Northcutt et al. 2021 (arXiv 1911.00068), section 3.1, whose mean
    of each class is here the least that finds wrong labels (references/labels.py).
    """

    name = "label_agreement"
    options: type[FilterOptions] = LabelAgreementOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return True

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        assert reference is not None
        shares = reference.look(images).probabilities(reference.facts.labels.temperature)
        class_ids = reference.class_ids(class_names)
        return [round(float(row[c]), 4) for row, c in zip(shares, class_ids, strict=True)]

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, LabelAgreementOptions)
        assert reference is not None
        threshold = options.thresholds.get(class_name, options.min_probability)
        if threshold is None:
            class_id = reference.class_names.index(class_name)
            threshold = reference.facts.labels.thresholds[class_id]
        return LabelAgreementJudge(threshold)
