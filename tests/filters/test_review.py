from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from datagen.filters.review import MAX_REJECTED, ReviewFilter, ReviewOptions

RULE = ReviewFilter()


def test_what_a_reviewer_refused_is_rejected_by_its_pixels_alone() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 12, 3), np.uint8)
    digest = hashlib.sha256(images[1].tobytes()).hexdigest()
    judge = RULE.judge(ReviewOptions(rejected=(digest,)), "cat", None)
    scores = RULE.score(images, ["cat"] * 3, None)
    assert [judge.reject(score) for score in scores] == [None, "review", None]
    moved = np.moveaxis(np.moveaxis(images, 3, 0).copy(), 0, 3)  # equal, laid out otherwise
    assert RULE.score(moved, ["dog"] * 3, None) == scores


def test_a_list_as_recipes_hold_it_is_read() -> None:
    options = ReviewOptions.model_validate({"rejected": ["ab" * 32]})
    assert options.rejected == ("ab" * 32,)


@pytest.mark.parametrize(
    "rejected", [["ab"], ["AB" * 32], "ab" * 32, ["ab" * 32] * (MAX_REJECTED + 1)]
)
def test_other_lists_are_refused(rejected: object) -> None:
    with pytest.raises(ValidationError):
        ReviewOptions.model_validate({"rejected": rejected})
