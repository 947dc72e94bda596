"""Trainings in a whole service: PostgreSQL, S3, Valkey, the API and workers that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.training.session import train_model
from tests.stack import ServiceStack
from tests.training.tiny_data import tiny_recipe, tiny_recipe_text, write_tiny_data

pytestmark = pytest.mark.slow

# Long enough to be killed in: 20 steps, a checkpoint after each second one.
SCHEDULE = {"num_images": 160, "evaluate_every_images": 80}
SLOW_STEPS = {"DATAGEN_FAILPOINTS": "training.step=sleep:0.1"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "tiny", 120)


@pytest.fixture
def address(service_stack: ServiceStack, data: Path) -> Path:
    """The same images in the tenant's part of the store."""
    store = service_stack.store()
    for path in data.iterdir():
        store.put_file(f"local/uploads/tiny/{path.name}", path)
    return Path(f"{service_stack.settings.store_url}/local/uploads/tiny")


def submit(stack: ServiceStack, address: Path, name: str) -> str:
    """The path of the training."""
    text = tiny_recipe_text("cgan", address, **SCHEDULE).replace("tiny-cgan", name)
    headers = {"Idempotency-Key": name, "Content-Type": "application/yaml"}
    with stack.client() as client:
        answer = client.post("/trainings", content=text, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"/trainings/{answer.json()['id']}"


def look(stack: ServiceStack, path: str) -> dict[str, Any]:
    with stack.client() as client:
        found: dict[str, Any] = client.get(path).json()
        return found


def wait_state(stack: ServiceStack, path: str, state: str) -> dict[str, Any]:
    stack.wait(lambda: look(stack, path)["state"] == state, f"{path} is {state}")
    return look(stack, path)


def test_a_killed_worker_costs_the_steps_since_its_checkpoint_and_no_bit(
    service_stack: ServiceStack, address: Path, data: Path, tmp_path: Path
) -> None:
    stack = service_stack
    path = submit(stack, address, "killed")
    name = stack.start_worker("train", env=SLOW_STEPS)
    stack.wait(lambda: (look(stack, path)["checkpoint_images_seen"] or 0) >= 32, "a checkpoint")
    assert stack.kill(name)
    stack.stop(name)
    left = look(stack, path)
    assert left["state"] == "RUNNING"
    other = stack.start_worker("train")
    done = wait_state(stack, path, "PUBLISHED")
    stack.stop(other)
    with stack.client() as client:
        events = client.get(f"{path}/events").text
    assert "training.requeued" in events
    resumed = [line for line in events.splitlines() if '"images_seen"' in line]
    assert f'"images_seen": {left["checkpoint_images_seen"]}' in " ".join(resumed)
    recipe = tiny_recipe("cgan", data, **SCHEDULE).model_copy(update={"name": "killed"})
    calm = train_model(recipe, out=tmp_path / "killed", work=tmp_path / "work")
    assert done["model_digest"] == calm.digest


def test_a_cancel_is_heard_and_a_worker_that_is_told_to_stop_gives_back(
    service_stack: ServiceStack, address: Path
) -> None:
    stack = service_stack
    path, following = submit(stack, address, "cancelled"), submit(stack, address, "following")
    name = stack.start_worker("train", env={"DATAGEN_FAILPOINTS": "training.step=sleep:0.2"})
    wait_state(stack, path, "RUNNING")
    assert look(stack, following)["state"] == "QUEUED", "one at a time"
    with stack.client() as client:
        assert client.post(f"{path}/cancel").json()["state"] == "CANCELLED"
    wait_state(stack, following, "RUNNING")
    stack.stop(name)
    given_back = look(stack, following)
    assert (given_back["state"], given_back["tries"]) == ("QUEUED", 0)
