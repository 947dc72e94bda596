"""A reference travels with its model: registered, stored, fetched to another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from datagen.client.model_files import open_model_files
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import REFERENCE_FILE, load_model
from datagen.references.reference import load_reference, make_reference, save_reference
from datagen.registry import materialize, register_model
from datagen.settings import Settings
from datagen.store import open_store
from tests.generators.tiny_models import save_random_model
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, tiny_reference

NETWORK = {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig("cgan", CLASS_NAMES, (SIDE_PX, SIDE_PX), 1, NETWORK)
    return save_random_model(tmp_path / "upload" / "tiny", config).path


def test_a_registered_reference_is_fetched_with_its_model(settings: Settings, folder: Path) -> None:
    save_reference(tiny_reference(), folder / REFERENCE_FILE)
    with open_model_files(folder) as files:
        assert files["reference"][0] == REFERENCE_FILE
    catalog, store = Catalog(settings.database_url), open_store(settings.store_url)
    migrate(catalog)
    row = register_model(catalog, store, settings, folder, created_by=None)
    fetched = load_model(materialize(row, store, settings) / "tiny")
    catalog.close()
    assert fetched.reference is not None
    assert load_reference(fetched.reference).digest == tiny_reference().digest


WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "a part of another shape": ("outliers.means", lambda means: means[1:]),
    "limits of 0": ("outliers.scales", lambda scales: scales * 0),
    "limits below 0": ("outliers.scales", lambda scales: -scales),
    "features of another length": ("outliers.bank", lambda bank: bank[:, 1:]),
    "a mean of another length": ("duplicates.mean", lambda mean: mean[:3]),
    "a class without images": ("outliers.bank_classes", lambda classes: classes * 0),
}


@pytest.mark.parametrize("kind", ["other classes", *WRONG])
def test_a_reference_that_no_worker_could_use_is_refused(
    kind: str, settings: Settings, folder: Path
) -> None:
    reference = tiny_reference()
    facts, tensors = reference.facts, dict(reference.tensors)
    if kind == "other classes":
        facts = facts.model_copy(update={"class_names": ("disc", "ring", "cube")})
    else:
        name, change = WRONG[kind]
        tensors[name] = change(tensors[name])
    save_reference(make_reference(facts, tensors), folder / REFERENCE_FILE)
    catalog, store = Catalog(settings.database_url), open_store(settings.store_url)
    migrate(catalog)
    with pytest.raises(ModelError, match=r"fit (the reference|it) again"):
        register_model(catalog, store, settings, folder, created_by=None)
    catalog.close()
    assert list(store.list("")) == []
