"""A recipe of the service that names two models: the one that draws images, and the one that draws
what they are made to fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.image_set import ImageSet
from tests.api.conftest import Api, recipe
from tests.api.test_models import contents, problem, upload
from tests.generators.tiny_models import FACTS, TINY_CONDITIONED, save_random_model

CONFIG = TINY_CONDITIONED["edm"]
NAME = CONFIG.class_names[0]


def label_maps(folder: Path) -> Model:
    """Eight maps of eight patients, of the model's names."""
    assert CONFIG.condition is not None
    height, width = CONFIG.image_size
    masks = np.zeros((8, height, width), np.uint8)
    for index, mask in enumerate(masks):
        mask[1:6, 1 : 3 + index] = 1
    images = ImageSet(
        images=np.zeros((8, height, width, 1), np.uint8),
        class_ids=np.zeros(8, np.int64),
        class_names=(NAME,),
        names=tuple(f"slice-{i}" for i in range(8)),
        groups=tuple(f"patient-{i}" for i in range(8)),
        masks=masks,
        mask_names=CONFIG.condition.names,
    )
    spec = ConditionSetSpec()
    found = spec.fitted(images, spec.network_options(), kind="mask", seed=0)
    config = ModelConfig("condition_set", (NAME,), CONFIG.image_size, 1, found.network)
    return save_model(folder, config, found.weights, FACTS, card="# label maps\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {
        "painter": save_random_model(home / "painter", CONFIG).path,
        "maps": label_maps(home / "maps").path,
    }


def fitted_recipe() -> dict[str, Any]:
    return {
        "name": "fitted",
        "image_size": list(CONFIG.image_size),
        "classes": [{"name": NAME, "count": 8}],
        "generator": {"model": "painter", "num_inference_steps": 2},
        "conditioning": {"mask": {"model": "maps", "deform": {"affine": {"scale": [0.9, 1.1]}}}},
        "splits": {"ratios": {"train": 0.5, "val": 0.5}},
    }


def test_both_models_of_a_job_are_found_kept_and_revoked(
    any_api: Api, folders: dict[str, Path]
) -> None:
    api = any_api
    for name, folder in folders.items():
        answer = upload(api.acme, contents(folder), name=name)
        assert answer.status_code == 201, answer.text

    job = api.publish(fitted_recipe())

    assert job["counts"][NAME] == {"train": 4, "val": 4}
    rows = api.acme.get("/datasets/fitted/versions/1/samples").json()["items"]
    sources = {split: {r["labels"]["source"] for r in rows if r["split"] == split}
               for split in ("train", "val")}  # fmt: skip
    assert sources["train"]
    assert sources["val"]
    assert not sources["train"] & sources["val"]
    assert all(row["labels"]["mask_sha256"] for row in rows)

    refused = api.acme.delete("/models/maps")
    assert problem(refused) == (409, "conflict")
    assert "fitted@1" in refused.json()["detail"]

    revoked = api.acme.post("/models/maps/revoke", json={"reason": "a patient withdrew"})
    assert revoked.status_code == 200, revoked.text
    gone = api.acme.get("/datasets/fitted/versions/1")
    assert gone.status_code == 410
    assert "a patient withdrew" in gone.text
    again = api.acme.post(
        "/jobs",
        json={"recipe": recipe(fitted_recipe() | {"name": "later"})},
        headers={"Idempotency-Key": "later"},
    )
    assert again.status_code in (409, 410, 422), again.text
    assert "revoked" in again.text
