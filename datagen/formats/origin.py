"""Where a model's knowledge comes from: the part of its card that its data sets repeat."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelOrigin:
    """license: SPDX identifier of the model, under which its images are offered too.

    training_data: what it was trained on and where that is from, in a sentence; None for a model
    that saw no images. training_data_license: SPDX identifier.
    """

    license: str | None = None
    training_data: str | None = None
    training_data_license: str | None = None
