"""Every filter through the same cases: what the judge stage and the attempt cache rely on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from datagen.filters import FILTERS
from datagen.filters.interface import FilterRule, Score

ROOT = Path(__file__).resolve().parent.parent.parent
SHAPES = [(8, 8, 1), (28, 28, 1), (28, 28, 3), (32, 32, 3), (33, 70, 1), (200, 31, 3)]
every_filter = pytest.mark.parametrize("name", sorted(FILTERS))


def images(num: int, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    """Noise, an even one, a black one and a white one; read-only, as raw images are."""
    batch = np.random.default_rng(seed).integers(0, 256, (num, *shape), np.uint8)
    for index, level in enumerate((100, 0, 255)):
        batch[index + 1 : index + 2] = level
    batch.flags.writeable = False
    return batch


def scores_of(rule: FilterRule, batch: NDArray[np.uint8]) -> list[Score]:
    return rule.score(batch, ["cat"] * len(batch), None)


@every_filter
def test_the_filter_knows_its_name(name: str) -> None:
    assert FILTERS[name].name == name


@every_filter
@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_alone_scores_as_in_any_batch(name: str, shape: tuple[int, int, int]) -> None:
    rule = FILTERS[name]
    batch = images(37, shape)
    scores = scores_of(rule, batch)
    assert len(scores) == 37
    assert scores_of(rule, batch[::-1]) == scores[::-1]
    assert [scores_of(rule, image[None])[0] for image in batch] == scores


@every_filter
def test_a_large_batch_scores_as_its_parts(name: str) -> None:
    """Large enough for the filter to work through it in pieces."""
    rule = FILTERS[name]
    batch = images(600, (64, 64, 1))
    assert scores_of(rule, batch) == scores_of(rule, batch[:7]) + scores_of(rule, batch[7:])


@every_filter
def test_no_image_no_score(name: str) -> None:
    assert scores_of(FILTERS[name], images(0, (28, 28, 1))) == []


@every_filter
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_short_plain_json(name: str, shape: tuple[int, int, int]) -> None:
    for score in scores_of(FILTERS[name], images(5, shape)):
        assert type(score) in (float, str)
        assert isinstance(score, str) or math.isfinite(score)
        text = json.dumps(score, allow_nan=False)
        assert json.loads(text) == score
        assert len(text) <= 80


@every_filter
def test_options_have_defaults_and_are_closed(name: str) -> None:
    options = FILTERS[name].options
    assert options() == options.model_validate({})
    with pytest.raises(ValidationError):
        options.model_validate({"no_such_option": 1})
    for field, info in options.model_fields.items():
        assert info.description
        for bad in (True, "1", None, float("nan"), float("inf"), -1, 10**12, [1]):
            with pytest.raises(ValidationError):
                options.model_validate({field: bad})
        with pytest.raises(ValidationError):
            setattr(options(), field, info.default)


@every_filter
def test_judges_are_fresh_for_each_class(name: str) -> None:
    """What one class accepted does not count in another; scores come back from JSON."""
    rule = FILTERS[name]
    scores = json.loads(json.dumps(scores_of(rule, images(40, (28, 28, 1)))))
    verdicts = []
    for _ in range(2):
        judge = rule.judge(rule.options(), "cat", None)
        verdict = []
        for score in scores:
            verdict.append(judge.reject(score))
            if verdict[-1] is None:
                judge.accept(score)
        verdicts.append(verdict)
    assert verdicts[0] == verdicts[1]
    assert None in verdicts[0]


@every_filter
def test_asking_changes_nothing(name: str) -> None:
    rule = FILTERS[name]
    judge = rule.judge(rule.options(), "cat", None)
    for score in scores_of(rule, images(40, (28, 28, 1))):
        assert judge.reject(score) == judge.reject(score)
        judge.accept(score)


SCORES = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.contract.test_filter_contract import digest_of_scores
print(digest_of_scores(sys.argv[2]))
"""


def digest_of_scores(name: str) -> str:
    scores = [scores_of(FILTERS[name], images(9, shape)) for shape in SHAPES]
    return hashlib.sha256(json.dumps(scores).encode()).hexdigest()


@every_filter
def test_another_process_scores_the_same(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCORES, str(ROOT), name],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "77", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == digest_of_scores(name)
