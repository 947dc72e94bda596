from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from datagen.plan import EvenLayout, Plan, SplitPattern, attempt_key, attempt_seed
from datagen.recipe import Recipe
from tests.recipes import noise_recipe

RATIOS = st.sampled_from(
    [
        {"train": 1.0},
        {"train": 0.9, "val": 0.1},
        {"train": 0.8, "val": 0.15, "test": 0.05},
        {"a": 0.5, "b": 0.5},
        {"a": 0.333333, "b": 0.333333, "c": 0.333334},
        {"a": 0.01, "b": 0.99},
    ]
)
COUNTS = st.lists(st.integers(1, 80), min_size=1, max_size=6)


def recipe_of(counts: list[int], ratios: dict[str, float], shard_size: int) -> Recipe:
    changes: dict[str, Any] = {
        "classes": [{"name": f"c{i}", "count": n} for i, n in enumerate(counts)],
        "splits": {"ratios": ratios},
        "output": {"shard_size": shard_size},
    }
    return noise_recipe(changes).recipe


def test_counts_by_split_are_exact() -> None:
    plan = Plan(recipe_of([300], {"train": 0.8, "val": 0.15, "test": 0.05}, 64), unit_size=64)
    assert plan.counts_by_split(0) == {"train": 240, "val": 45, "test": 15}


@given(RATIOS, st.integers(1, 300))
def test_each_ordinal_goes_to_the_split_furthest_behind(ratios: dict[str, float], num: int) -> None:
    pattern = SplitPattern(ratios, limit=num)
    given_out: Counter[str] = Counter()
    for ordinal in range(num):
        behind = {s: r * (ordinal + 1) - given_out[s] for s, r in ratios.items()}
        split = pattern.split_of(ordinal)
        assert behind[split] >= max(behind.values()) - 1e-9
        given_out[split] += 1
    for index, name in enumerate(pattern.names):
        assert pattern.count(index, num) == given_out[name]
        assert abs(given_out[name] - ratios[name] * num) < len(ratios)


@given(RATIOS)
def test_the_order_of_the_splits_in_the_recipe_does_not_matter(ratios: dict[str, float]) -> None:
    turned = dict(reversed(ratios.items()))
    one, other = SplitPattern(ratios, limit=100), SplitPattern(turned, limit=100)
    assert [one.split_of(o) for o in range(100)] == [other.split_of(o) for o in range(100)]


@given(RATIOS, st.integers(1, 300))
def test_rank_and_ordinal_are_inverse(ratios: dict[str, float], num: int) -> None:
    pattern = SplitPattern(ratios, limit=num)
    for index, name in enumerate(pattern.names):
        ranks = range(pattern.count(index, num))
        ordinals = [pattern.ordinal(index, rank) for rank in ranks]
        assert ordinals == [o for o in range(num) if pattern.split_of(o) == name]


@given(RATIOS, st.integers(1, 100), st.integers(0, 200))
def test_growth_moves_no_sample_to_another_split(
    ratios: dict[str, float], num: int, more: int
) -> None:
    small, large = SplitPattern(ratios, limit=num), SplitPattern(ratios, limit=num + more)
    assert [small.split_of(o) for o in range(num)] == [large.split_of(o) for o in range(num)]


@given(COUNTS, RATIOS, st.integers(1, 50))
def test_shards_hold_every_sample_once_and_one_split_each(
    counts: list[int], ratios: dict[str, float], shard_size: int
) -> None:
    plan = Plan(recipe_of(counts, ratios, shard_size), unit_size=16)
    seen = []
    for index in range(plan.num_shards):
        samples = plan.shard_samples(index)
        assert 1 <= len(samples) <= shard_size
        assert {s.split for s in samples} == {plan.shard_split(index)[0]}
        seen += samples
    assert len(set(seen)) == len(seen) == sum(counts)
    for class_index, class_ordinal, split in seen:
        assert 0 <= class_ordinal < counts[class_index]
        assert split == plan.pattern.split_of(class_ordinal)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 40))
def test_pieces_of_an_even_layout_are_the_whole(counts: list[int], step: int) -> None:
    layout = EvenLayout(counts)
    whole = layout.between(0, layout.total)
    pieces = [p for i in range(0, layout.total, step) for p in layout.between(i, i + step)]
    assert pieces == whole
    assert sorted(whole) == [(c, r) for c, n in enumerate(counts) for r in range(n)]


@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.integers(8, 64))
def test_classes_are_spread_evenly_over_shards(counts: list[int], size: int) -> None:
    """Rounding moves a cut by half a sample of each class at most, for all classes together."""
    layout = EvenLayout(counts)
    for first in range(0, layout.total - size, size):
        piece = Counter(c for c, _ in layout.between(first, first + size))
        for class_index, count in enumerate(counts):
            assert abs(piece[class_index] - size * count / layout.total) <= 1 + len(counts) / 2


@given(COUNTS, st.integers(1, 64))
def test_units_hold_every_first_attempt_once(counts: list[int], unit_size: int) -> None:
    plan = Plan(recipe_of(counts, {"train": 1.0}, 8), unit_size=unit_size)
    requests = [r for u in range(plan.num_generate_units) for r in plan.generate_requests(u)]
    assert requests == [(c, o, 0) for c, n in enumerate(counts) for o in range(n)]


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**7), st.integers(0, 255))
@settings(max_examples=50)
def test_seeds_have_63_bits_and_differ_by_each_part(seed: int, ordinal: int, attempt: int) -> None:
    drawn = {
        attempt_seed(seed, "a", ordinal, attempt),
        attempt_seed(seed, "b", ordinal, attempt),
        attempt_seed(seed, "a", ordinal + 1, attempt),
        attempt_seed(seed, "a", ordinal, attempt + 1),
        attempt_seed(seed ^ 1, "a", ordinal, attempt),
    }
    assert len(drawn) == 5
    assert all(0 <= s < 2**63 for s in drawn)


def test_keys_and_seeds_never_change() -> None:
    """Golden values: another derivation would orphan every published image."""
    assert attempt_seed(42, "trouser", 0, 0) == 1773515798277586482
    assert attempt_key("c0ffee", "trouser", 7, 1) == (
        "34d6ea98bf8e87a8abe066d9e284ccff0bfaea2088bf9abd8542a5d5d9bffd63"
    )


def test_a_million_images_plan_in_little_memory() -> None:
    """VmHWM, since ru_maxrss of a child starts at its parent's. The time is printed by
    `datagen plan` itself."""
    code = (
        "from tests.test_plan import recipe_of\n"
        "from datagen.plan import Plan\n"
        "plan = Plan(recipe_of([100_000] * 10, {'train': 0.9, 'val': 0.1}, 256), unit_size=1024)\n"
        "assert plan.num_shards == 3516 + 391\n"
        "plan.shard_samples(2000), plan.counts_by_split(9)\n"
        "text = open('/proc/self/status').read()\n"
        "print(text.split('VmHWM:')[1].split()[0])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert int(done.stdout) < 300_000  # KiB
