"""What two versions share and what they do not, by class and ordinal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from datagen.diff import FieldChange, OrdinalRanges, VersionDiff, diff_versions
from datagen.settings import load_settings
from tests.published import Home, open_home, publish

CAT = {"name": "cat", "count": 60}
DOG = {"name": "dog", "count": 40, "attributes": {"age": 3}}
COW = {"name": "cow", "count": 5}

# Version 1 is the recipe as it is; each of these becomes the version after the one before it.
CHANGES: list[dict[str, Any]] = [
    {"classes": [CAT, DOG | {"count": 60}], "filters": [{"filter": "blank"}]},  # 2: grown
    {"classes": [COW, CAT]},  # 3: a class more, a class less
    {"classes": [CAT, DOG | {"attributes": {"age": 4}}]},  # 4: other labels
    {"splits": {"ratios": {"train": 0.5, "val": 0.5}}},  # 5: other splits
    {"seed": 8},  # 6: other images
    {"output": {"shard_size": 7}},  # 7: the same images, packed otherwise
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("diff") / "home"
    for changes in [{}, *CHANGES, {"name": "other"}]:
        publish(load_settings({}, home=folder), changes)
    with open_home(folder) as opened:
        yield opened


def diff(home: Home, before: str, after: str) -> VersionDiff:
    return diff_versions(home.catalog, home.version(before), home.version(after))


def totals(added: int, removed: int, changed: int, unchanged: int) -> dict[str, int]:
    return {"added": added, "removed": removed, "changed": changed, "unchanged": unchanged}


def test_a_grown_class_adds_its_last_ordinals(home: Home) -> None:
    found = diff(home, "small@1", "small@2")
    assert found.totals == totals(20, 0, 0, 100)
    assert found.classes["dog"].added.ranges == [[40, 59]]
    assert FieldChange("classes.dog.count", 40, 60) in found.recipe
    assert [change.field.split(".")[:2] for change in found.recipe] == [
        ["classes", "dog"],
        ["filters", "blank"],
    ]


def test_the_other_way_round_removes_them(home: Home) -> None:
    found = diff(home, "small@2", "small@1")
    assert found.totals == totals(0, 20, 0, 100)
    assert found.classes["dog"].removed.ranges == [[40, 59]]


def test_classes_come_and_go(home: Home) -> None:
    found = diff(home, "small@1", "small@3")
    assert found.totals == totals(5, 40, 0, 60)
    assert list(found.classes) == ["cat", "dog", "cow"]
    assert {change.field for change in found.recipe} == {"classes.cow", "classes.dog"}


def test_other_attributes_are_a_change_of_labels_alone(home: Home) -> None:
    found = diff(home, "small@1", "small@4")
    assert found.totals == totals(0, 0, 40, 60)
    assert found.classes["dog"].parts == {"attributes": 40}
    assert found.classes["dog"].changed.ranges == [[0, 39]]


def test_other_splits_are_a_change(home: Home) -> None:
    found = diff(home, "small@1", "small@5")
    moved = sum(
        before.split != after.split
        for name in ("cat", "dog")
        for before, after in zip(home.rows(name), rows_of(home, 5, name), strict=True)
    )
    assert moved > 0
    assert found.totals == totals(0, 0, moved, 100 - moved)
    assert set(found.classes["cat"].parts) == {"split"}


def rows_of(home: Home, job_id: int, class_name: str) -> list[Any]:
    from datagen.catalog.samples import iterate_samples

    return list(iterate_samples(home.catalog, job_id, class_name))


def test_other_images_are_a_change(home: Home) -> None:
    found = diff(home, "small@1", "small@6")
    assert found.totals == totals(0, 0, 100, 0)
    assert found.classes["cat"].parts == {"image": 60}
    assert found.recipe == [FieldChange("seed", 7, 8)]


def test_the_same_images_in_other_shards_are_unchanged(home: Home) -> None:
    found = diff(home, "small@1", "small@7")
    assert found.totals == totals(0, 0, 0, 100)
    assert found.recipe == [FieldChange("output.shard_size", 32, 7)]


def test_versions_of_different_names_can_be_compared(home: Home) -> None:
    found = diff(home, "small@1", "other")
    assert (found.before, found.after) == ("small@1", "other@1")
    assert found.totals == totals(0, 0, 0, 100)
    assert found.recipe == [FieldChange("name", "small", "other")]


def test_a_version_does_not_differ_from_itself(home: Home) -> None:
    found = diff(home, "small@3", "small@3")
    assert found.recipe == []
    assert found.totals == totals(0, 0, 0, 65)


def test_ordinals_are_kept_as_ranges() -> None:
    ranges = OrdinalRanges()
    for ordinal in [0, 1, 2, 5, 7, 8, 10_000_000]:
        ranges.add(ordinal)
    assert ranges.ranges == [[0, 2], [5, 5], [7, 8], [10_000_000, 10_000_000]]
    assert ranges.count == 7
