"""Gates: how they are written, and which evaluations pass them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from datagen.gates import MEASURES, NAMES, Gate, shortcomings
from datagen.recipe import InvalidRecipe, parse_recipe
from tests.evaluation.report import sample


def measure(value: float | None, low: float | None = None, high: float | None = None) -> Any:
    content: dict[str, Any] = {"value": value, "n": 100}
    if low is not None or high is not None:
        content["interval"] = [low, high]
    if value is None:
        content["withheld"] = "too few images"
    return content


def evaluation(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "fid": measure(20.0),
        "label_agreement": measure(0.92, 0.89, 0.95),
        "near_copies": measure(0.0),
        "privacy": {"excess": measure(0.001, -0.002, 0.004), "is_blind": False},
        "utility": {"verdict": "no_difference", "gap": measure(0.0, -0.01, 0.01)},
    }
    return content | changes


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("utility", "not harms"),
        ("utility", "helps or no_difference"),
        ("fid", "<= 20"),
        ("label_agreement", ">= 0.89"),
        ("near_copy_excess", "<= 0.004"),
        ("near_copy_rate", "<=0"),
        ("utility_gap", ">= -0.01"),
    ],
)
def test_a_gate_opens(name: str, text: str) -> None:
    gate = Gate(name, text)
    assert gate.fault() is None
    assert shortcomings([gate], evaluation()) == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("utility", "helps", "utility is no_difference, required: helps"),
        ("fid", "<= 19.9", "fid is 20"),
        ("label_agreement", ">= 0.9", "the lower bound of label_agreement is 0.89"),
        ("near_copy_excess", "<= 0.003", "the upper bound of near_copy_excess is 0.004"),
    ],
)
def test_a_gate_stays_shut_and_says_why(name: str, text: str, told: str) -> None:
    (shortcoming,) = shortcomings([Gate(name, text)], evaluation())
    assert told in shortcoming


def test_what_is_withheld_does_not_pass() -> None:
    withheld = evaluation(
        fid=measure(None), utility={"verdict": None, "withheld": "it never learned"}
    )
    gates = [Gate("fid", "<= 1000"), Gate("utility", "not harms")]
    told = shortcomings(gates, withheld)
    assert ["too few images" in told[0], "it never learned" in told[1]] == [True, True]


def test_a_blind_search_for_copies_opens_no_gate() -> None:
    blind = evaluation(privacy={"excess": measure(0.0, 0.0, 0.0), "is_blind": True})
    for name in ("near_copy_excess", "near_copy_rate"):
        (shortcoming,) = shortcomings([Gate(name, "<= 1")], blind)
        assert "missed planted ones" in shortcoming


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fidd", "<= 3"),
        ("fid", "< 3"),
        ("fid", "<= nan"),
        ("fid", ""),
        ("fid", "<= -1"),
        ("kid", "<= -0.1"),
        ("near_copy_excess", "<= 2"),
        ("near_copy_rate", "<= 1e9"),
        ("label_agreement", ">= 80"),
        ("precision", ">= -1"),
        ("recall", ">= nan"),
        ("density", ">= -0.5"),
        ("utility_gap", ">= 2"),
        ("worth_real_labels", "<= -5"),
        ("utility", "<= 3"),
        ("utility", "not"),
        ("utility", "helps harms"),
        ("utility", "helps or"),
        ("utility", "not not harms"),
    ],
)
def test_a_recipe_with_another_gate_is_refused_by_field(name: str, text: str) -> None:
    recipe = (
        "version: 1\nname: gated\nimage_size: [8, 8]\nclasses: [{name: a, count: 1}]\n"
        "generator: {model: noise, channels: 1}\n"
        f'evaluation: {{reference: real, require: {{{name}: "{text}"}}}}\n'
    )
    with pytest.raises(InvalidRecipe, match=rf"r\.yaml:6: evaluation\.require\.{name}: "):
        parse_recipe(recipe.encode(), source="r.yaml")


def test_all_faults_of_gates_are_told_at_once_with_what_fits() -> None:
    recipe = {
        **{"version": 1, "name": "gated", "image_size": [8, 8]},
        "classes": [{"name": "a", "count": 1}],
        "generator": {"model": "noise", "channels": 1},
        "evaluation": {
            "reference": "real",
            "require": {"label_agreement": 0.8, "fidd": "<= 3", "precision": ">= 80", "utility": 1},
        },
    }
    with pytest.raises(InvalidRecipe) as raised:
        parse_recipe(json.dumps(recipe).encode(), source="r.json")
    told = {each.field.rpartition(".")[2]: each.expected for each in raised.value.problems}
    assert told.keys() == {"label_agreement", "fidd", "precision", "utility"}
    assert told["label_agreement"] == 'text in quotes: a bound such as "<= 0.005" or ">= 0.9"'
    assert told["precision"] == "a bound that is a share between 0 and 1; 2% is 0.02"
    assert told["utility"].startswith('text in quotes: "not VERDICT"')


def test_every_gate_reads_what_an_evaluation_holds() -> None:
    content = sample.evaluation().to_json()
    for name in NAMES:
        if name in MEASURES:
            assert isinstance(shortcomings([Gate(name, "<= -1e9")], content), list)
