"""Every filter through the same cases: what the judge stage and the attempt cache rely on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from datagen.filters import FILTERS
from datagen.filters.interface import FilterOptions, FilterRule, Score, score_key
from datagen.references.reference import Reference, load_reference, save_reference
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, drawn, tiny_reference

ROOT = Path(__file__).resolve().parent.parent.parent
SHAPES = [(8, 8, 1), (28, 28, 1), (28, 28, 3), (32, 32, 3), (33, 70, 1), (200, 31, 3)]
REFERENCE_SHAPE = (SIDE_PX, SIDE_PX, 1)
# Each filter with its defaults, and one that works in another way with other options.
CASES: dict[str, tuple[FilterRule, FilterOptions]] = {
    name: (rule, rule.options()) for name, rule in sorted(FILTERS.items())
}
CASES["duplicate-features"] = (
    FILTERS["duplicate"],
    FILTERS["duplicate"].options.model_validate({"features": True}),
)
SLOW = "near_copy"  # it works through 32 images at a time, in milliseconds an image
every_case = pytest.mark.parametrize("case", CASES)
every_filter = pytest.mark.parametrize("name", sorted(FILTERS))


# A reference is of one size.
each_shape = pytest.mark.parametrize(
    ("case", "shape"),
    [
        (case, shape)
        for case, (rule, options) in CASES.items()
        for shape in ([REFERENCE_SHAPE] if rule.needs_reference(options) else SHAPES)
    ],
)


def reference_of(case: str) -> Reference | None:
    rule, options = CASES[case]
    return tiny_reference() if rule.needs_reference(options) else None


def images(num: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Noise, an even one, a black one and a white one; read-only, as raw images are. Of the size
    of the reference: half of them real discs."""
    batch = np.random.default_rng(seed).integers(0, 256, (num, *shape), np.uint8)
    if num and shape == REFERENCE_SHAPE:
        batch[num // 2 :] = drawn(num, seed=7).images[: num - num // 2]
    for index, level in enumerate((100, 0, 255)):
        batch[index + 1 : index + 2] = level
    batch.flags.writeable = False
    return batch


def scores_of(
    case: str, batch: NDArray[np.uint8], reference: Reference | None = None
) -> list[Score]:
    rule, _ = CASES[case]
    names: Sequence[str] = [CLASS_NAMES[0]] * len(batch)
    return rule.score(batch, names, reference or reference_of(case))


@every_filter
def test_the_filter_knows_its_name(name: str) -> None:
    assert FILTERS[name].name == name


@each_shape
def test_an_image_alone_scores_as_in_any_batch(case: str, shape: tuple[int, int, int]) -> None:
    batch = images(5 if case == SLOW else 37, shape)
    scores = scores_of(case, batch)
    assert len(scores) == len(batch)
    assert scores_of(case, batch[::-1]) == scores[::-1]
    assert [scores_of(case, image[None])[0] for image in batch] == scores


@every_case
def test_a_large_batch_scores_as_its_parts(case: str) -> None:
    """Large enough for the filter to work through it in pieces."""
    reference = reference_of(case)
    num = 40 if case == SLOW else 600
    batch = images(num, (64, 64, 1) if reference is None else reference.image_shape)
    assert scores_of(case, batch) == scores_of(case, batch[:7]) + scores_of(case, batch[7:])


@every_case
def test_no_image_no_score(case: str) -> None:
    assert scores_of(case, images(0, REFERENCE_SHAPE)) == []


@each_shape
def test_scores_are_short_plain_json(case: str, shape: tuple[int, int, int]) -> None:
    for score in scores_of(case, images(5, shape)):
        assert type(score) in (float, str)
        assert isinstance(score, str) or math.isfinite(score)
        text = json.dumps(score, allow_nan=False)
        assert json.loads(text) == score
        assert len(text) <= (80 if reference_of(case) is None else 250)


@every_case
def test_a_score_of_a_reference_is_kept_under_its_digest(case: str) -> None:
    (rule, options), reference = CASES[case], reference_of(case)
    suffix = "" if reference is None else f"@{reference.digest[:12]}"
    assert score_key(rule, options, tiny_reference()) == rule.name + suffix


@every_filter
def test_options_have_defaults_and_are_closed(name: str) -> None:
    """None stands for a default that the reference knows."""
    options = FILTERS[name].options
    assert options() == options.model_validate({})
    assert tuple(options().named_classes()) == ()
    with pytest.raises(ValidationError):
        options.model_validate({"no_such_option": 1})
    for field, info in options.model_fields.items():
        assert info.description
        bad = ["1", float("nan"), float("inf"), -1000, 10**12, [1]]
        bad += [] if info.default is None else [None]
        bad += [] if "bool" in str(info.annotation) else [True]
        for value in bad:
            with pytest.raises(ValidationError):
                options.model_validate({field: value})
        with pytest.raises(ValidationError):
            setattr(options(), field, info.default)


@every_case
def test_options_come_back_from_a_pinned_recipe(case: str) -> None:
    rule, options = CASES[case]
    stored = json.loads(json.dumps(options.model_dump(mode="json")))
    assert rule.options.model_validate(stored) == options


@every_case
def test_judges_are_fresh_for_each_class(case: str) -> None:
    """What one class accepted does not count in another; scores come back from JSON."""
    (rule, options), reference = CASES[case], reference_of(case)
    scores = json.loads(json.dumps(scores_of(case, images(40, REFERENCE_SHAPE))))
    verdicts = []
    for _ in range(2):
        judge = rule.judge(options, CLASS_NAMES[0], reference)
        verdict = []
        for score in scores:
            verdict.append(judge.reject(score))
            if verdict[-1] is None:
                judge.accept(score)
        verdicts.append(verdict)
    assert verdicts[0] == verdicts[1]
    assert None in verdicts[0]


@every_case
def test_asking_changes_nothing(case: str) -> None:
    (rule, options), reference = CASES[case], reference_of(case)
    judge = rule.judge(options, CLASS_NAMES[0], reference)
    for score in scores_of(case, images(40, REFERENCE_SHAPE)):
        assert judge.reject(score) == judge.reject(score)
        judge.accept(score)


SCORES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.contract.test_filter_contract import digests_of_scores
print(digests_of_scores(Path(sys.argv[2])))
"""


def digests_of_scores(stored: Path) -> dict[str, str]:
    reference = load_reference(stored)
    found = {}
    for case, (rule, options) in CASES.items():
        needed = reference if rule.needs_reference(options) else None
        shapes = [REFERENCE_SHAPE] if needed else SHAPES
        scores = [scores_of(case, images(9, shape), needed) for shape in shapes]
        found[case] = hashlib.sha256(json.dumps(scores).encode()).hexdigest()
    return found


def test_another_process_scores_the_same(tmp_path: Path) -> None:
    stored = tmp_path / "reference.safetensors"
    save_reference(tiny_reference(), stored)
    done = subprocess.run(
        [sys.executable, "-c", SCORES, str(ROOT), str(stored)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == str(digests_of_scores(stored))
