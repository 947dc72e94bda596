"""The figures of a reference: thresholds, the rates measured with them, and where it comes from.

They are the JSON in the header of reference.safetensors. Read by filters and by the command line.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

FORMAT: Literal[1] = 1
MAX_CLASSES = 10_000

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Share = Annotated[float, Field(ge=0, le=1)]
_Shares = Annotated[tuple[_Share, ...], Field(max_length=MAX_CLASSES)]
_Count = Annotated[int, Field(ge=0, lt=2**31)]
_Range = tuple[float, float]


class LabelFacts(BaseModel):
    """temperature: the classifier's logits are divided by it. thresholds: by class; an image whose
    own class has less probability is taken for wrongly labelled. wrong_rejected, right_rejected: by
    class, measured on images that calibrated nothing; wrong: labels drawn at random."""

    model_config = _STRICT

    temperature: float = Field(gt=0, le=1000)
    thresholds: _Shares
    wrong_rejected: _Shares
    right_rejected: _Shares
    accuracy: _Share

    @property
    def mean_wrong_rejected(self) -> float:
        """Over classes."""
        return round(sum(self.wrong_rejected) / len(self.wrong_rejected), 4)

    @property
    def mean_right_rejected(self) -> float:
        return round(sum(self.right_rejected) / len(self.right_rejected), 4)


class OutlierFacts(BaseModel):
    """threshold: of the distance, at the stated quantile of held-out real images. rejected: share
    of other held-out real images above it."""

    model_config = _STRICT

    threshold: float = Field(ge=0)
    quantile: _Share
    rejected: _Share


class QualityFacts(BaseModel):
    """bounds: by class, measure -> lowest and highest that real images show. rejected: share of
    held-out real images outside."""

    model_config = _STRICT

    bounds: Annotated[
        tuple[Annotated[dict[str, _Range], Field(max_length=16)], ...],
        Field(max_length=MAX_CLASSES),
    ]
    rejected: _Share


class DuplicateFacts(BaseModel):
    """max_distance: cosine distance of codes, below which few pairs of real images of one class
    lie. flagged: share of real images with another so near."""

    model_config = _STRICT

    max_distance: float = Field(ge=0, le=2)
    flagged: _Share


class CopyFacts(BaseModel):
    """thresholds: by the rate that calibrated them, from high to low; images whose score is above
    count as copies. rejected: the same rates among other held-out real images, num_measured of
    them."""

    model_config = _STRICT

    rates: Annotated[tuple[_Share, ...], Field(min_length=1, max_length=32)]
    thresholds: Annotated[tuple[float, ...], Field(min_length=1, max_length=32)]
    rejected: Annotated[tuple[_Share, ...], Field(min_length=1, max_length=32)]
    num_measured: _Count

    @model_validator(mode="after")
    def _check_lengths(self) -> CopyFacts:
        if not len(self.rates) == len(self.thresholds) == len(self.rejected):
            raise ValueError("rates, thresholds, rejected: expected as many of each")
        return self

    def threshold(self, max_rate: float) -> float:
        """Of the highest rate that was calibrated and is not above max_rate."""
        fitting = [rate for rate in self.rates if rate <= max_rate]
        return self.thresholds[self.rates.index(max(fitting, default=min(self.rates)))]


class ReferenceFacts(BaseModel):
    """What reference.safetensors says of itself."""

    model_config = _STRICT

    format: Literal[1]
    class_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=63)], ...],
        Field(min_length=2, max_length=MAX_CLASSES),
    ]
    image_size: tuple[Annotated[int, Field(ge=8, le=1024)], Annotated[int, Field(ge=8, le=1024)]]
    channels: Literal[1, 3]
    num_train: _Count
    num_calibration: _Count
    num_measured: _Count
    seed: int = Field(ge=0, lt=2**63)
    licence: str = Field(max_length=200)
    source: str = Field(max_length=1000)
    labels: LabelFacts
    outliers: OutlierFacts
    quality: QualityFacts
    duplicates: DuplicateFacts
    copies: CopyFacts

    @model_validator(mode="after")
    def _check_classes(self) -> ReferenceFacts:
        labels = self.labels
        columns = (labels.thresholds, labels.wrong_rejected, labels.right_rejected)
        if {len(c) for c in (*columns, self.quality.bounds)} != {len(self.class_names)}:
            raise ValueError("labels, quality: expected one entry for each class")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("class_names: expected no name twice")
        return self
