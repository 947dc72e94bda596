"""Where a model's knowledge comes from: the part of its card that its data sets repeat."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@dataclass(frozen=True)
class ModelOrigin:
    """license: SPDX identifier of the model, under which its images are offered too.

    training_data: what it was trained on and where that is from, in a sentence ("" if nobody
    said); None for a model that saw no images. training_data_license: SPDX identifier. conditions:
    the same of the model that drew what the images were made to fit, if any.
    """

    license: str | None = None
    training_data: str | None = None
    training_data_license: str | None = None
    conditions: ModelOrigin | None = None

    @property
    def has_two_licenses(self) -> bool:
        return self.conditions is not None and self.conditions.license != self.license

    @property
    def license_urls(self) -> str | list[str]:
        """Of both models, where they differ."""
        if self.conditions is None or not self.has_two_licenses:
            return self.license_url
        return [self.license_url, self.conditions.license_url]

    @property
    def license_url(self) -> str:
        """The licence's page at SPDX; the words themselves if they are no identifier."""
        if self.license and _SPDX.fullmatch(self.license):
            return f"https://spdx.org/licenses/{self.license}.html"
        return self.license or "unknown"

    @property
    def hugging_face_license(self) -> str:
        """An identifier for the front matter: theirs are SPDX's in lower case. Two are "other"."""
        if self.has_two_licenses:
            return "other"
        if self.license and _SPDX.fullmatch(self.license):
            return self.license.lower()
        return "other" if self.license else "unknown"
