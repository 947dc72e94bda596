"""datagen trainings, and the clients below it, over a real service."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from datagen.catalog.training_claims import claim_training, fail_training
from datagen.cli import main
from datagen.client import AsyncClient
from datagen.client.results import Training
from datagen.settings import Settings
from datagen.trainer import Trainer
from tests.api.conftest import Api
from tests.api.conftest import api as api
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

Run = Callable[..., Result]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, training_data_dir=tmp_path / "images")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of images that the service's workers may read."""
    data = write_tiny_data(tmp_path / "images" / "tiny", 120)
    path = tmp_path / "toy.yaml"
    path.write_text(tiny_recipe_text("cgan", data, num_images=16))
    return path


@pytest.fixture
def key(api: Api) -> str:
    return api.key()


@pytest.fixture
def run(api: Api, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """datagen trainings, with the service in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATAGEN_API_URL", api.url)
    monkeypatch.setenv("DATAGEN_API_KEY", key)
    return lambda *words: CliRunner().invoke(main, ["trainings", *map(str, words)])


def one_object(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def fail(api: Api, error: str) -> None:
    claim = claim_training(api.catalog, owner="one", lease_s=60, max_tries=3)
    assert claim is not None
    fail_training(api.catalog, claim, error=error)


def test_from_a_recipe_to_a_model(api: Api, run: Run, recipe: Path) -> None:
    assert "no trainings" in run("ls").stderr
    made = one_object(run("submit", recipe, "--json"))
    assert (made["name"], made["state"]) == ("tiny-cgan", "QUEUED")
    assert one_object(run("submit", recipe, "--json"))["id"] == made["id"]
    assert "waiting for" in run("show", made["id"]).stdout
    assert Trainer(
        api.catalog, api.store, replace(api.settings, heartbeat_s=1e-3), owner="1"
    ).step()
    done = one_object(run("watch", made["id"], "--json"))
    assert (done["state"], done["progress"]["images_seen"]) == ("PUBLISHED", 16)
    text = run("show", made["id"]).stdout
    for told in ("is PUBLISHED", "16 of 16", done["model_digest"], "model: tiny-cgan"):
        assert told in text
    assert one_object(run("submit", recipe, "--json"))["id"] == made["id"]
    [listed] = one_object(run("ls", "--name", "tiny-cgan", "--json"))["trainings"]
    assert listed["id"] == made["id"]
    assert "16 of 16" in run("ls").stdout


def test_a_failed_one_is_watched_retried_and_cancelled(api: Api, run: Run, recipe: Path) -> None:
    made = one_object(run("submit", recipe, "--json"))
    fail(api, "the images are gone")
    watched = run("watch", made["id"])
    assert watched.exit_code == 4
    assert "is FAILED: the images are gone" in watched.stderr
    assert f"datagen trainings retry {made['id']}" in run("show", made["id"]).stdout
    assert one_object(run("retry", made["id"], "--json"))["state"] == "QUEUED"
    assert one_object(run("cancel", made["id"], "--json"))["state"] == "CANCELLED"
    assert run("retry", made["id"]).exit_code == 4
    anew = one_object(run("submit", recipe, "--json"))
    assert (anew["state"], anew["id"] == made["id"]) == ("QUEUED", False)


def test_what_the_service_refuses_has_the_name_of_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(tiny_recipe_text("cgan", Path("/etc")))
    refused = run("submit", path)
    assert refused.exit_code == 2
    assert f"{path}: data.path: '/etc': expected images at s3://" in refused.stderr
    path.write_text("name: toy\n")
    assert f"{path}:" in run("submit", path).stderr
    assert run("show", "toy").exit_code == 2


def test_the_same_to_be_awaited(api: Api, key: str, recipe: Path) -> None:
    async def train() -> tuple[Training, list[Training]]:
        async with AsyncClient(api.url, key) as client:
            made = await client.submit_training(recipe)
            await anyio.to_thread.run_sync(
                Trainer(api.catalog, api.store, api.settings, owner="1").step
            )
            done = await client.wait_training(made.id)
            return done, [each async for each in client.trainings(state="PUBLISHED")]

    done, found = anyio.run(train)
    assert done.state == "PUBLISHED"
    assert [each.id for each in found] == [done.id]
