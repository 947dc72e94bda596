"""How figures are put into words on the page."""

from __future__ import annotations

import pytest

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.sections.fidelity import fidelity_section
from datagen.evaluation.report.words import FIDELITY, reading_of
from tests.evaluation.report import sample

SAME = "no difference from real images can be seen: the interval holds the floor"


@pytest.mark.parametrize(
    ("low", "high", "floor", "told"),
    [
        (-0.0001, 0.0003, 0.00004, SAME),
        (0.0002, 0.0008, 0.00004, "lower is better"),
        (0.0002, 0.0008, None, "lower is better"),
        (None, None, 0.00004, "lower is better"),
    ],
)
def test_an_interval_that_holds_the_floor_is_no_difference(
    low: float | None, high: float | None, floor: float | None, told: str
) -> None:
    measure = Measure(0.0002, 1000, low=low, high=high, floor=floor)
    assert reading_of(FIDELITY["kid"], measure) == told


def test_kid_is_shown_a_thousandfold_and_called_so() -> None:
    page = str(fidelity_section(sample.evaluation().fidelity))
    assert "KID × 1,000" in page
    assert FIDELITY["kid"].form(0.00052) == "0.520"
