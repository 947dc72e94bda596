"""What every family that draws conditions promises: the same arguments give the same condition, and
its labels are true of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from datagen.conditions import Condition, ConditionConfig, Conditioner, ConditionKind
from datagen.generators import GENERATORS
from datagen.generators.encoding import encode, num_channels
from datagen.generators.interface import ConditioningSpec, ModelConfig
from datagen.generators.model_directory import Model, load_model, save_model
from datagen.image_set import ImageSet
from datagen.label_checks import check_labels
from datagen.labels import Labels
from datagen.training.fitting import FittingSpec
from tests.generators.tiny_models import FACTS

SIZE = (24, 32)
NAMES = ("background", "organ", "lesion")
SPLITS = {"train": 0.8, "val": 0.2}
SEEDS = [0, 1, 77, 2**32 + 5, 2**63 - 1]
DEFORM = {"affine": {"rotate_deg": 10}, "elastic": {"alpha_px": 1, "sigma_px": 4}}
EDIT = {"add": "nodule", "size_px": [2, 3]}
MAPS = {"deform": DEFORM, "edits": [EDIT]}
HOLE = {"region": {"shape": "box", "size_px": [4, 8]}, "object": "lesion", "deform": DEFORM}

# generator, kind, options.
CASES: list[tuple[str, ConditionKind, dict[str, Any]]] = [
    ("condition_set", "mask", {}),
    ("condition_set", "mask", MAPS),
    ("condition_set", "layout", MAPS),
    ("condition_set", "image", {"derive": "edges", "deform": DEFORM}),
    ("condition_set", "inpaint", HOLE),
    ("layout", "mask", MAPS),
    ("layout", "layout", {}),
    ("procedural", "mask", MAPS),
    ("procedural", "layout", {}),
]


@dataclass(frozen=True)
class Case:
    model: Model
    kind: ConditionKind
    options: dict[str, Any]

    def conditioner(self) -> Conditioner:
        spec = cast(ConditioningSpec, self.model.spec)
        return spec.conditioner(
            self.model.config,
            self.model.weights,
            spec.condition_options.model_validate(self.options),
            kind=self.kind,
            image_size=SIZE,
            splits=SPLITS,
        )


def fitted(generator: str, folder: Path) -> Model:
    """To ten maps of an organ, and in it a lesion."""
    masks = np.zeros((10, *SIZE), np.uint8)
    for index, mask in enumerate(masks):
        mask[4:20, 4 : 20 + index] = 1
        mask[10:13, 8 + index : 11 + index] = 2
    images = ImageSet(
        masks[..., None] * np.uint8(100),
        np.zeros(10, np.int64),
        ("disc",),
        tuple(f"{index}.png" for index in range(10)),
        masks=masks,
        mask_names=NAMES,
        spacing_mm=np.full((10, 2), 1.5),
    )
    spec = cast(FittingSpec, GENERATORS[generator])
    kind: ConditionKind = "inpaint" if generator == "condition_set" else "mask"
    found = spec.fitted(images, spec.network_options(), kind=kind, seed=0)
    config = ModelConfig(generator, images.class_names, SIZE, 1, found.network)
    return save_model(folder, config, found.weights, FACTS, card="# a test\n")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    folder = tmp_path_factory.mktemp("drawing")
    blank = ModelConfig("procedural", (), (0, 0), 0, {})
    return {
        "condition_set": fitted("condition_set", folder / "set"),
        "layout": fitted("layout", folder / "layout"),
        "procedural": save_model(folder / "rules", blank, None, FACTS, card="# a test\n"),
    }


@pytest.fixture(params=CASES, ids=[f"{name}-{kind}-{len(o)}" for name, kind, o in CASES])
def case(request: pytest.FixtureRequest, models: Mapping[str, Model]) -> Case:
    generator, kind, options = request.param
    return Case(models[generator], kind, options)


def drawn(conditioner: Conditioner) -> list[Condition]:
    return [conditioner.draw(seed, "disc", "train") for seed in SEEDS]


def digest_of(condition: Condition) -> str:
    labels = condition.labels
    parts = (condition.mask, condition.image, condition.region, labels.mask, labels.instances)
    pixels = [None if part is None else part.tolist() for part in parts]
    return hashlib.sha256(json.dumps([labels.spatial_json(), pixels]).encode()).hexdigest()


def test_every_family_has_cases() -> None:
    drawing = {name for name, spec in GENERATORS.items() if hasattr(spec, "conditioner")}
    assert {name for name, _, _ in CASES} == drawing


def test_the_same_arguments_give_the_same_condition_in_any_order(case: Case) -> None:
    first = [digest_of(each) for each in drawn(case.conditioner())]
    other = case.conditioner()
    again = [digest_of(other.draw(seed, "disc", "train")) for seed in SEEDS[::-1]]
    assert again[::-1] == first
    assert len(set(first)) > 1, "the seed counts"


def test_a_condition_has_what_its_kind_needs_and_a_model_reads_it(case: Case) -> None:
    conditioner = case.conditioner()
    names = () if case.kind == "image" else conditioner.names
    channels = 1 if case.kind in ("image", "inpaint") else 0
    taken = ConditionConfig(case.kind, names, channels)
    planes = encode(drawn(conditioner), taken, size=SIZE)
    assert planes.shape == (len(SEEDS), num_channels(taken), *SIZE)


def test_labels_are_sound_and_of_the_kinds_that_were_told(case: Case) -> None:
    conditioner = case.conditioner()
    assert conditioner.names[0] == "background"
    for condition in drawn(conditioner):
        labels = condition.labels
        check_labels(labels, SIZE, conditioner.names)
        assert kinds_of(labels) <= conditioner.label_kinds
        assert ("mask" in conditioner.label_kinds) == (labels.mask is not None)
        if case.kind in ("mask", "inpaint"):
            assert np.array_equal(condition.mask, labels.mask)


def kinds_of(labels: Labels) -> set[str]:
    kinds = {name for name in ("mask", "instances") if getattr(labels, name) is not None}
    objects = labels.objects or ()
    if objects and labels.instances is None:
        kinds.add("boxes")
    return kinds | ({"keypoints"} if any(each.keypoints for each in objects) else set())


def test_where_sets_are_shared_out_no_source_is_in_two_splits(case: Case) -> None:
    conditioner = case.conditioner()
    sources = {
        split: {conditioner.draw(seed, "other", split).labels.source for seed in range(40)}
        for split in SPLITS
    }
    if conditioner.has_pools:
        assert None not in sources["train"] | sources["val"]
        assert not sources["train"] & sources["val"]
    else:
        assert sources["train"] | sources["val"] == {None}


_PROGRAM = """
import json, sys
from pathlib import Path
from datagen.generators.model_directory import load_model
from tests.contract.test_conditioner_contract import Case, digest_of, drawn
for path, kind, options in json.loads(sys.argv[1]):
    case = Case(load_model(Path(path)), kind, options)
    print(" ".join(digest_of(each) for each in drawn(case.conditioner())))
"""


def test_another_process_draws_the_same(models: Mapping[str, Model]) -> None:
    asked = [(str(models[name].path), kind, options) for name, kind, options in CASES]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    for line, (path, kind, options) in zip(done.stdout.splitlines(), asked, strict=True):
        here = drawn(Case(load_model(Path(path)), kind, options).conditioner())
        assert line.split() == [digest_of(each) for each in here], (path, kind)
