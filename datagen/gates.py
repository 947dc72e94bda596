"""Gates: what an evaluation must show before a version is published, such as `fid: "<= 30"`.

Called by recipe.py (which gates a recipe may name, and how they are written) and by
stages/evaluate.py (which of them an evaluation does not pass).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datagen.faults import suggest

VERDICTS = ("helps", "no_difference", "inconclusive", "harms")

# Name of a gate -> where its measure stands in the evaluation's JSON.
MEASURES: dict[str, tuple[str, ...]] = {
    "fid": ("fid",),
    "kid": ("kid",),
    "precision": ("precision",),
    "recall": ("recall",),
    "density": ("density",),
    "coverage": ("coverage",),
    "label_agreement": ("label_agreement",),
    "near_copy_rate": ("near_copies",),
    "near_copy_excess": ("privacy", "excess"),
    "membership_inference": ("privacy", "membership_inference"),
    "utility_gap": ("utility", "gap"),
    "worth_real_labels": ("utility", "worth_real_labels"),
}
NAMES = ("utility", *MEASURES)
_SHARE = (0.0, 1.0, "a share between 0 and 1; 2% is 0.02")
_DISTANCE = (0.0, math.inf, "a distance, 0 or more")
# Name of a gate -> the least and the largest bound that mean something, and what they are.
_BOUNDS: dict[str, tuple[float, float, str]] = {
    **dict.fromkeys(MEASURES, _SHARE),
    "fid": _DISTANCE,
    "kid": _DISTANCE,
    "density": (0.0, math.inf, "a density, 0 or more; that of real images is about 1"),
    "utility_gap": (-1.0, 1.0, "a difference of two shares, from -1 to 1; 2 points are 0.02"),
    "worth_real_labels": (0.0, math.inf, "a number of real labels, 0 or more"),
}
_BY_COPY_SEARCH = ("near_copy_rate", "near_copy_excess", "membership_inference")

_BOUND = re.compile(r"(<=|>=)\s*(-?\d{1,12}(?:\.\d{1,12})?(?:[eE]-?\d{1,2})?)")


@dataclass(frozen=True)
class Gate:
    """One requirement as it is written, such as name "fid", text "<= 30"."""

    name: str
    text: str

    def fault(self) -> str | None:
        """What was expected, if it is not written as a gate."""
        if self.name not in NAMES:
            return f"a gate: {', '.join(NAMES)}{suggest(self.name, NAMES)}"
        if self.name == "utility":
            if self._verdicts() is None:
                return f'"not VERDICT", or "VERDICT or VERDICT", of {", ".join(VERDICTS)}'
        else:
            return self._fault_of_bound()
        return None

    def _fault_of_bound(self) -> str | None:
        match = _BOUND.fullmatch(self.text)
        if match is None:
            return 'a bound such as "<= 0.005" or ">= 0.9"'
        least, largest, kind = _BOUNDS[self.name]
        return None if least <= float(match[2]) <= largest else f"a bound that is {kind}"

    def shortcoming(self, evaluation: Mapping[str, Any]) -> str | None:
        """Why the evaluation does not pass, in words; None if it does.

        What is withheld does not pass. Where there is an interval, its end that is the worse for
        the data set counts: the upper one for <=, the lower one for >=.
        """
        if self.name == "utility":
            utility = evaluation["utility"]
            if utility["verdict"] in (self._verdicts() or ()):
                return None
            found = utility["verdict"] or f"withheld ({utility.get('withheld')})"
            return f"utility is {found}, required: {self.text}"
        if self.name in _BY_COPY_SEARCH and evaluation["privacy"]["is_blind"]:
            return (
                f"{self.name} says nothing: the search for copies missed planted ones, required: "
                f"{self.text}"
            )
        measure: Any = evaluation
        for part in MEASURES[self.name]:
            measure = measure[part]
        return self._bound_missed(measure)

    def _bound_missed(self, measure: Mapping[str, Any]) -> str | None:
        if measure["value"] is None:
            return f"{self.name} is withheld ({measure.get('withheld')}), required: {self.text}"
        match = _BOUND.fullmatch(self.text)
        assert match is not None
        is_upper, bound = match[1] == "<=", float(match[2])
        end = measure.get("interval", (None, None))[is_upper]
        found, kind = (measure["value"], "") if end is None else (end, f"{_END[is_upper]} of ")
        if found <= bound if is_upper else found >= bound:
            return None
        return f"{kind}{self.name} is {found:.4g}, required: {self.text}"

    def _verdicts(self) -> frozenset[str] | None:
        """Those that pass."""
        words = self.text.split()
        if len(words) == 2 and words[0] == "not" and words[1] in VERDICTS:
            return frozenset(VERDICTS) - {words[1]}
        named = words[::2]
        if words[1::2] == ["or"] * (len(named) - 1) and named and set(named) <= set(VERDICTS):
            return frozenset(named)
        return None


def gate_fault(name: str, given: Any) -> str | None:
    """What was expected, if this is no gate. given: as the recipe has it, text or not."""
    fault = Gate(name, given if isinstance(given, str) else "").fault()
    if isinstance(given, str) or name not in NAMES:
        return fault
    return f"text in quotes: {fault}"


_END = {True: "the upper bound", False: "the lower bound"}


def shortcomings(gates: Sequence[Gate], evaluation: Mapping[str, Any]) -> list[str]:
    """evaluation: as Evaluation.to_json gives it."""
    found = (gate.shortcoming(evaluation) for gate in gates)
    return [text for text in found if text is not None]
