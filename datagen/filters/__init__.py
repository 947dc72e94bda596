"""The filters that a recipe may name."""

from __future__ import annotations

from datagen.filters.blank import BlankFilter
from datagen.filters.duplicate import DuplicateFilter
from datagen.filters.interface import FilterRule
from datagen.filters.label_agreement import LabelAgreementFilter
from datagen.filters.moderation import ModerationFilter
from datagen.filters.near_copy import NearCopyFilter
from datagen.filters.outlier import OutlierFilter
from datagen.filters.prompt_agreement import PromptAgreementFilter
from datagen.filters.quality import QualityFilter
from datagen.filters.review import ReviewFilter

FILTERS: dict[str, FilterRule] = {
    "blank": BlankFilter(),
    "duplicate": DuplicateFilter(),
    "label_agreement": LabelAgreementFilter(),
    "moderation": ModerationFilter(),
    "near_copy": NearCopyFilter(),
    "outlier": OutlierFilter(),
    "prompt_agreement": PromptAgreementFilter(),
    "quality": QualityFilter(),
    "review": ReviewFilter(),
}
