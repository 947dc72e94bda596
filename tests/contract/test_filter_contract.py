"""Every filter through the same cases: what the judge stage and the attempt cache rely on."""

from __future__ import annotations

import atexit
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from datagen.filters import FILTERS
from datagen.filters.interface import (
    FilterOptions,
    FilterRule,
    NetworkRule,
    Score,
    check_options,
    score_key,
)
from datagen.filters.interface import (
    scores_of as scores_by_rule,
)
from datagen.references.reference import Reference, load_reference, save_reference
from tests.pretrained.tiny_networks import onnx_mean_of_channels, save_clip
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, drawn, tiny_reference

ROOT = Path(__file__).resolve().parent.parent.parent
SHAPES = [(8, 8, 1), (28, 28, 1), (28, 28, 3), (32, 32, 3), (33, 70, 1), (200, 31, 3)]
REFERENCE_SHAPE = (SIDE_PX, SIDE_PX, 1)
# Each filter with its defaults, and one that works in another way with other options.
CASES: dict[str, FilterRule] = dict(sorted(FILTERS.items()))
CASES["duplicate-features"] = FILTERS["duplicate"]
SLOW = ("near_copy", "prompt_agreement")  # in milliseconds an image
# Of those that name a network: what is refused beside it. The networks: see network_folder.
NEEDED: dict[str, dict[str, Any]] = {
    "moderation": {"labels": ["r", "g", "b"], "refuse": ["r", "b"], "activation": "softmax"},
    "prompt_agreement": {"others": ["nothing"]},
}
NETWORKS = {"moderation": ("classifier", "mean.onnx"), "prompt_agreement": ("directory", "clip")}


@cache
def network_folder() -> Path:
    """Kept for the process: every case asks the same files."""
    folder = Path(tempfile.mkdtemp(prefix="filter-contract-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "mean.onnx").write_bytes(onnx_mean_of_channels())
    return folder


def needed(name: str) -> dict[str, Any]:
    """The options without which there is no filter."""
    if name not in NEEDED:
        return {}
    field, file = NETWORKS[name]
    path = network_folder() / file
    if file == "clip" and not path.exists():
        save_clip(path)
    return {field: str(path), **NEEDED[name]}


@cache
def options_of(case: str) -> FilterOptions:
    rule = CASES[case]
    given = {"features": True} if case == "duplicate-features" else needed(rule.name)
    return check_options(rule, rule.options.model_validate(given), CLASS_NAMES)


every_case = pytest.mark.parametrize("case", CASES)
every_filter = pytest.mark.parametrize("name", sorted(FILTERS))


def needs_reference(case: str) -> bool:
    return not isinstance(CASES[case], NetworkRule) and CASES[case].needs_reference(
        options_of(case)
    )


# A reference is of one size.
each_shape = pytest.mark.parametrize(
    ("case", "shape"),
    [
        (case, shape)
        for case, rule in CASES.items()
        for shape in ([REFERENCE_SHAPE] if needs_reference(case) else SHAPES)
    ],
)


def reference_of(case: str) -> Reference | None:
    return tiny_reference() if needs_reference(case) else None


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
    names: Sequence[str] = [CLASS_NAMES[0]] * len(batch)
    known = reference or reference_of(case)
    return scores_by_rule(CASES[case], options_of(case), batch, names, known)


@every_filter
def test_the_filter_knows_its_name(name: str) -> None:
    assert FILTERS[name].name == name


@each_shape
def test_an_image_alone_scores_as_in_any_batch(case: str, shape: tuple[int, int, int]) -> None:
    batch = images(5 if case in SLOW else 37, shape)
    scores = scores_of(case, batch)
    assert len(scores) == len(batch)
    assert scores_of(case, batch[::-1]) == scores[::-1]
    assert [scores_of(case, image[None])[0] for image in batch] == scores


@every_case
def test_a_large_batch_scores_as_its_parts(case: str) -> None:
    """Large enough for the filter to work through it in pieces."""
    reference = reference_of(case)
    num = 40 if case in SLOW else 600
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
    rule, options, reference = CASES[case], options_of(case), reference_of(case)
    suffix = "" if reference is None else f"@{reference.digest[:12]}"
    if isinstance(rule, NetworkRule):
        suffix = f"@{rule.scorer_digest(options)[:12]}"
    assert score_key(rule, options, tiny_reference()) == rule.name + suffix


@every_filter
def test_options_have_defaults_and_are_closed(name: str) -> None:
    """None stands for a default that the reference knows."""
    options, least = FILTERS[name].options, needed(name)
    assert options(**least) == options.model_validate(json.loads(json.dumps(least)))
    assert tuple(options(**least).named_classes()) == ()
    with pytest.raises(ValidationError):
        options.model_validate(least | {"no_such_option": 1})
    for field, info in options.model_fields.items():
        assert info.description
        text = "" if info.annotation is str else "1"
        bad = [text, float("nan"), float("inf"), -1000, 10**12, [[1]]]
        bad += [] if info.default is None else [None]
        bad += [] if "bool" in str(info.annotation) else [True]
        for value in bad:
            with pytest.raises(ValidationError):
                options.model_validate(least | {field: value})
        with pytest.raises(ValidationError):
            setattr(options(**least), field, info.default)


@every_case
def test_options_come_back_from_a_pinned_recipe(case: str) -> None:
    rule, options = CASES[case], options_of(case)
    stored = json.loads(json.dumps(options.model_dump(mode="json")))
    assert rule.options.model_validate(stored) == options


@every_case
def test_judges_are_fresh_for_each_class(case: str) -> None:
    """What one class accepted does not count in another; scores come back from JSON."""
    rule, options, reference = CASES[case], options_of(case), reference_of(case)
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
    rule, options, reference = CASES[case], options_of(case), reference_of(case)
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
    for case in CASES.keys() - {"prompt_agreement"}:  # seconds of imports, once more
        known = reference if needs_reference(case) else None
        shapes = [REFERENCE_SHAPE] if known else SHAPES
        scores = [scores_of(case, images(9, shape), known) for shape in shapes]
        found[case] = hashlib.sha256(json.dumps(scores).encode()).hexdigest()
    return dict(sorted(found.items()))


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
