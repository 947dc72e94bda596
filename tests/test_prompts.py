"""Prompts by ordinal: dealt to the weights, exact to the counts, moved by no growth, and without a
rhythm that a split could fall in with."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.conditions import Prompt
from datagen.joint_counts import joint_counts
from datagen.plan import SplitPattern
from datagen.prompts import PromptPlan
from datagen.quotas import QuotaTree, dealt_place, whole_shares, window_of
from datagen.recipe import Recipe

SHARES = st.lists(st.integers(0, 40), min_size=1, max_size=9).filter(any)


def plan_of(prompt: dict[str, Any], seed: int = 7, **counts: int) -> PromptPlan:
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "worded",
            "image_size": [28, 28],
            "classes": [{"name": n, "count": c} for n, c in (counts or {"mole": 1000}).items()],
            "generator": {"model": "noise"},
            "conditioning": {"prompt": prompt},
        }
    )
    assert recipe.conditioning.prompt is not None
    return PromptPlan(recipe.conditioning.prompt, recipe.classes, seed)


def values(plan: PromptPlan, name: str, num: int, class_name: str = "mole") -> list[Any]:
    return [plan.of(class_name, k).attributes[name] for k in range(num)]


def two(tone: dict[str, Any], side: dict[str, Any], **more: Any) -> dict[str, Any]:
    template = "a {class}, {tone} on the {side}"
    return {"template": template, "attributes": {"tone": tone, "side": side}, **more}


# --- the text -------------------------------------------------------------------------------------


def test_a_prompt_says_class_and_values() -> None:
    tone = {"weights": {"light": 1}}
    prompt = {
        "template": "a {class}, {tone}",
        "negative": "no {class}",
        "attributes": {"tone": tone},
    }
    plan = plan_of(prompt, T_shirt=3)
    assert plan.of("T_shirt", 2) == Prompt("a T shirt, light", "no T shirt", {"tone": "light"})
    plan = plan_of({**prompt, "words": {"T_shirt": "tee"}}, T_shirt=3)
    assert plan.of("T_shirt", 2).text == "a tee, light"


def test_a_placeholder_may_name_an_attribute_of_the_class() -> None:
    classes = [
        {"name": "mole", "count": 2, "attributes": {"site": "back", "flat": True, "mm": 2.5}}
    ]
    recipe = Recipe.model_validate(
        {
            **{"version": 1, "name": "x", "image_size": [28, 28], "generator": {"model": "noise"}},
            "classes": classes,
            "conditioning": {"prompt": {"template": "{site} {mm} {flat}"}},
        }
    )
    assert recipe.conditioning.prompt is not None
    prompt = PromptPlan(recipe.conditioning.prompt, recipe.classes, 1).of("mole", 0)
    assert prompt.text == "back 2.5 true"
    assert prompt.attributes == {"site": "back", "mm": 2.5, "flat": True}


def test_each_prompt_of_a_list_is_used_equally_often() -> None:
    texts = [f"prompt {i}" for i in range(7)]
    plan = plan_of({"lists": {"mole": texts}}, mole=700)
    assert Counter(plan.of("mole", k).text for k in range(700)) == dict.fromkeys(texts, 100)


def test_a_long_list_is_used_up_before_any_prompt_comes_again() -> None:
    texts = [f"{i}" for i in range(1024)]
    plan = plan_of({"lists": {"mole": texts}}, mole=5000)
    drawn = [plan.of("mole", k).text for k in range(2048)]
    assert set(Counter(drawn).values()) == {2}
    assert [int(t) for t in drawn[:64]] != sorted(int(t) for t in drawn[:64])
    assert np.std([int(t) for t in drawn[:64]]) > 200, "near ordinals get near entries"


# --- dealing --------------------------------------------------------------------------------------


@given(SHARES, st.integers(1, 400))
@settings(deadline=None)
def test_a_quota_is_kept_over_every_prefix(shares: list[int], num: int) -> None:
    tree, total = QuotaTree(shares), sum(shares)
    seen: Counter[int] = Counter()
    for place in range(num):
        index, before = tree.locate(place)
        assert before == seen[index]
        seen[index] += 1
        for each, share in enumerate(shares):
            assert abs(seen[each] - (place + 1) * share / total) < 2
    assert all(tree.locate(p)[0] == QuotaTree(shares).locate(p)[0] for p in range(3))


@given(SHARES, st.integers(1, 5))
@settings(deadline=None)
def test_a_quota_is_exact_at_the_sum_of_its_shares(shares: list[int], times: int) -> None:
    tree = QuotaTree(shares)
    seen = Counter(tree.locate(place)[0] for place in range(times * sum(shares)))
    assert [seen[i] for i in range(len(shares))] == [times * share for share in shares]


@given(st.integers(4, 64), st.integers(1, 300), st.integers(0, 2**62))
@settings(deadline=None)
def test_places_are_dealt_once_each(window: int, total: int, seed: int) -> None:
    key = f"{seed}"
    exact = [dealt_place(k, window=window, key=key, total=total) for k in range(total)]
    assert sorted(exact) == list(range(total))
    whole = total // window * window
    assert exact[:whole] == [dealt_place(k, window=window, key=key) for k in range(whole)]


def test_weights_are_read_as_they_are_written() -> None:
    assert whole_shares([0.1, 0.2, 0.7]) == [1, 2, 7]
    assert whole_shares([1e-9, 1.0]) == [1, 10**9]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.integers(0, 2**62))
@settings(max_examples=30, deadline=None)
def test_weights_are_balanced_over_every_prefix(shares: list[int], seed: int) -> None:
    weights = {f"v{i}": share / sum(shares) for i, share in enumerate(shares)}
    prompt = {"template": "{t}", "attributes": {"t": {"weights": weights}}}
    drawn = values(plan_of(prompt, seed), "t", 600)
    whole = whole_shares(list(weights.values()))
    window = window_of(len(whole), Fraction(min(whole), sum(whole)))
    for value, weight in weights.items():
        counts = np.cumsum([v == value for v in drawn])
        off = np.abs(counts - weight * np.arange(1, 601))
        assert off.max() < 2 + window / 2
        assert off[window - 1 :: window].max() < 2


def test_counts_are_exact_for_each_class() -> None:
    by_class = {"mole": {"light": 401, "dark": 599}, "scar": {"light": 3, "dark": 4, "odd": 0}}
    prompt = {"template": "{class} {tone}", "attributes": {"tone": {"counts": by_class}}}
    plan = plan_of(prompt, mole=1000, scar=7)
    assert Counter(values(plan, "tone", 1000)) == by_class["mole"]
    assert Counter(values(plan, "tone", 7, "scar")) == {"light": 3, "dark": 4}


def test_growth_moves_nothing() -> None:
    tone = {"weights": {"a": 0.7, "b": 0.2, "c": 0.1}}
    side = {"weights": {"left": 0.5, "right": 0.5}}
    for more in ({}, {"combine": "independent"}):
        few = plan_of(two(tone, side, **more), mole=37)
        many = plan_of(two(tone, side, **more), mole=5000, scar=9)
        assert [few.of("mole", k) for k in range(37)] == [many.of("mole", k) for k in range(37)]


def test_an_attribute_of_its_own_sequence_is_not_moved_by_others() -> None:
    tone = {"weights": {"a": 0.7, "b": 0.3}}
    side = {"weights": {"left": 0.5, "right": 0.5}}
    alone = plan_of({"template": "{tone}", "attributes": {"tone": tone}, "combine": "independent"})
    beside = plan_of(two(tone, side, combine="independent"))
    assert values(alone, "tone", 200) == values(beside, "tone", 200)


def test_a_prompt_follows_from_its_arguments_alone() -> None:
    prompt = two({"weights": {"a": 0.5, "b": 0.5}}, {"weights": {"l": 0.5, "r": 0.5}})
    plan, again = plan_of(prompt), plan_of(prompt)
    backwards = {k: again.of("mole", k) for k in reversed(range(100))}
    assert [plan.of("mole", k) for k in range(100)] == [backwards[k] for k in range(100)]
    other = plan_of(prompt, seed=8)
    assert [plan.of("mole", k) for k in range(100)] != [other.of("mole", k) for k in range(100)]
    assert plan.of("mole", 9_999_999).attributes.keys() == {"tone", "side"}


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.5, "b": 0.5},
        {"a": 0.9, "b": 0.1},
        {"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2, "e": 0.2},
        {"a": 0.34, "b": 0.33, "c": 0.33},
    ],
)
@pytest.mark.parametrize("val", [0.5, 0.2, 0.1])
def test_values_do_not_fall_in_with_splits(weights: dict[str, float], val: float) -> None:
    """A share of each split beyond four standard deviations of free draws would be no chance."""
    num = 4000
    splits = SplitPattern({"train": 1 - val, "val": val}, limit=num)
    plan = plan_of({"template": "{t}", "attributes": {"t": {"weights": weights}}}, mole=num)
    drawn = values(plan, "t", num)
    inside = [drawn[k] for k in range(num) if splits.split_of(k) == "val"]
    for value, weight in weights.items():
        deviation = math.sqrt(weight * (1 - weight) / len(inside))
        assert abs(inside.count(value) / len(inside) - weight) < 4 * deviation


# --- two attributes -------------------------------------------------------------------------------


def test_crossed_weights_are_balanced_in_every_pair() -> None:
    plan = plan_of(two({"weights": {"a": 0.5, "b": 0.5}}, {"weights": {"l": 0.75, "r": 0.25}}))
    pairs = Counter(tuple(sorted(plan.of("mole", k).attributes.items())) for k in range(800))
    assert sorted(pairs.values()) == [100, 100, 300, 300]


def test_crossed_counts_are_exact_and_as_independent_as_they_can_be() -> None:
    tone, side = {"a": 701, "b": 200, "c": 99}, {"left": 333, "right": 667}
    plan = plan_of(two({"counts": tone}, {"counts": side}))
    assert Counter(values(plan, "tone", 1000)) == tone
    assert Counter(values(plan, "side", 1000)) == side
    pairs = Counter(
        (p.attributes["tone"], p.attributes["side"])
        for p in map(plan.of, ["mole"] * 1000, range(1000))
    )
    for (one, other), count in pairs.items():
        assert abs(count - tone[str(one)] * side[str(other)] / 1000) < 1


def test_counts_crossed_with_weights_keep_the_counts() -> None:
    plan = plan_of(two({"counts": {"a": 600, "b": 400}}, {"weights": {"l": 0.5, "r": 0.5}}))
    assert Counter(values(plan, "tone", 1000)) == {"a": 600, "b": 400}
    assert Counter(values(plan, "side", 1000)) == {"l": 500, "r": 500}


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_joint_counts_are_the_nearest_of_all_tables(data: st.DataObject) -> None:
    """Against every table of two rows and three columns with these margins."""
    rows = data.draw(st.lists(st.integers(0, 9), min_size=2, max_size=2).filter(any))
    total = sum(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, total), min_size=2, max_size=2)))
    columns = [cuts[0], cuts[1] - cuts[0], total - cuts[1]]
    wanted = np.outer(rows, columns) / total
    found = joint_counts(rows, columns)
    assert found.sum(axis=1).tolist() == rows
    assert found.sum(axis=0).tolist() == columns
    every = [
        np.array([[a, b, rows[0] - a - b], [columns[0] - a, columns[1] - b, 0]])
        for a in range(columns[0] + 1)
        for b in range(columns[1] + 1)
    ]
    for table in every:
        table[1, 2] = columns[2] - table[0, 2]
    least = min(float(((t - wanted) ** 2).sum()) for t in every if (t >= 0).all())
    assert float(((found - wanted) ** 2).sum()) == pytest.approx(least)


def test_what_row_by_row_rounding_leaves_is_mended() -> None:
    """Wanted are (1.5, 0.5), (0.75, 0.25) twice; row by row gives (2, 0), (1, 0), (0, 1)."""
    assert joint_counts([2, 1, 1], [3, 1]).tolist() == [[1, 1], [1, 0], [1, 0]]


def test_large_joint_counts_are_found() -> None:
    rng = np.random.default_rng(3)
    rows, columns = (rng.multinomial(9_999_991, rng.dirichlet(np.ones(60))) for _ in range(2))
    table = joint_counts(rows.tolist(), columns.tolist())
    assert (table.sum(axis=1) == rows).all()
    assert (table.sum(axis=0) == columns).all()
    assert np.abs(table - np.outer(rows, columns) / 9_999_991).max() < 2


# --- all of them ----------------------------------------------------------------------------------


def test_distinct_gives_every_prompt_once_and_the_classes_in_turn() -> None:
    prompt = two({"weights": {"a": 0.5, "b": 0.5, "z": 0}}, {"counts": {"l": 4, "r": 6}})
    plan = plan_of(prompt, mole=10, scar=10)
    texts = [each.text for each in plan.distinct()]
    assert len(texts) == len(set(texts)) == 8
    assert {t.split(",")[0] for t in texts[:2]} == {"a mole", "a scar"}
    drawn = {plan.of(name, k).text for name in ("mole", "scar") for k in range(10)}
    assert drawn <= set(texts)
    assert [each.text for each in plan.distinct(3)] == texts[:3]


def test_what_no_image_gets_is_not_among_them() -> None:
    plan = plan_of(two({"counts": {"a": 1, "b": 0}}, {"counts": {"l": 1, "r": 0}}), mole=1)
    assert [p.text for p in plan.distinct()] == ["a mole, a on the l"]


def test_equal_shares_are_whole() -> None:
    assert sum(Fraction(s, 3) for s in whole_shares([0.5, 0.25, 0.25])) == Fraction(4, 3)
