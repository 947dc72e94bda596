"""Every family of pipelines through the whole service: a recipe to the API, images made by a Celery
worker, a version in S3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from datagen.formats.version import VersionReader
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import save_model
from datagen.image_set import ImageSet
from datagen.verify import verify_version
from datagen.versions import find_version, read_manifest, version_prefix
from tests.generators.tiny_models import FACTS
from tests.generators.tiny_pipelines import SIDE, save_tiny
from tests.stack import ServiceStack
from tests.workers.test_fleet import submit, wait_published

pytestmark = pytest.mark.slow

SIZE = SIDE  # the least that each takes
PROMPT = {"template": "{shade} {class}", "attributes": {"shade": {"counts": {"a": 1, "b": 1}}}}


@dataclass(frozen=True)
class Case:
    """pipeline: of tiny_pipelines.PIPELINES. kind: of the condition; None for none."""

    pipeline: str
    task: str
    kind: str | None = None
    controlnet: str | None = None
    has_prompt: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    size: int = SIZE

    @property
    def name(self) -> str:
        return f"{self.pipeline}-{self.task}".replace(" ", "-")


CASES = [
    *(Case(p, "text-to-image") for p in ("sd", "sd2", "xl", "sd3", "flux")),
    *(Case(p, "image-to-image", "image") for p in ("sd", "xl", "sd3", "flux")),
    *(Case(p, "inpainting", "inpaint") for p in ("sd", "xl", "sd3", "flux")),
    *(
        Case(p, "controlnet", "image", controlnet=f"controlnet of {p}")
        for p in ("sd", "xl", "sd3", "flux")
    ),
    Case("upscale", "upscaling", "image"),
    Case("latent upscale", "upscaling", "image"),
    Case("super resolution", "upscaling", "image", has_prompt=False),
    Case("ddpm", "unconditional", has_prompt=False),
    Case("ddim", "unconditional", has_prompt=False),
    Case("dit", "class-conditional", has_prompt=False, options={"class_labels": {"nevus": 1}}),
    *(
        Case(p, "text-to-image")
        for p in ("pixart alpha", "pixart sigma", "deepfloyd", "kandinsky", "unclip")
    ),
    Case("sana", "text-to-image", size=32),
]


def pictures(folder: Path) -> None:
    """Eight pictures of eight patients, as a condition set."""
    drawn = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    images = ImageSet(
        images=np.zeros((8, SIZE, SIZE, 3), np.uint8),
        class_ids=np.zeros(8, np.int64),
        class_names=("nevus",),
        names=tuple(f"picture-{i}" for i in range(8)),
        groups=tuple(f"patient-{i}" for i in range(8)),
        conditions=drawn,
    )
    spec = ConditionSetSpec()
    found = spec.fitted(images, spec.network_options(), kind="image", seed=0)
    config = ModelConfig("condition_set", ("nevus",), (SIZE, SIZE), 3, found.network)
    save_model(folder, config, found.weights, FACTS, card="# pictures\n")


def recipe_of(case: Case, folder: Path) -> dict[str, Any]:
    options = {"num_inference_steps": 4, "batch_size": 2, **case.options}
    if case.controlnet:
        options["controlnet"] = str(folder / case.controlnet.replace(" ", "-"))
    conditioning: dict[str, Any] = {}
    if case.kind == "image":
        conditioning["image"] = {"model": "pictures"}
    if case.kind == "inpaint":
        region = {"shape": "ellipse", "size_px": [4, 6]}
        conditioning["inpaint"] = {"model": "pictures", "region": region}
    if case.has_prompt:
        conditioning["prompt"] = PROMPT
    return {
        "version": 1,
        "name": case.name,
        "image_size": [case.size, case.size],
        "classes": [{"name": "nevus", "count": 2}],
        "generator": {
            "model": "pipeline",
            "source": str(folder / case.pipeline.replace(" ", "-")),
            "task": case.task,
            **options,
        },
        "conditioning": conditioning,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipelines")
    wanted = {c.pipeline for c in CASES} | {c.controlnet for c in CASES if c.controlnet}
    for kind in sorted(wanted):
        path = save_tiny(kind, root / kind.replace(" ", "-"))
        (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return root


@pytest.fixture(scope="module")
def client(service_stack: ServiceStack, folder: Path) -> Iterator[httpx.Client]:
    """Of a service that takes pipelines of one folder, with workers of both kinds."""
    allowed = {"DATAGEN_PIPELINE_SOURCES": str(folder)}
    pictures(service_stack.settings.models_dir / "pictures")
    service_stack.stop("api")
    service_stack.start_api(allowed)
    names = [service_stack.start_worker(role, env=allowed) for role in ("generate", "cpu", "beat")]
    with service_stack.client() as client:
        yield client
    service_stack.stop(*names)


def test_every_family_from_recipe_to_s3(
    service_stack: ServiceStack, client: httpx.Client, folder: Path
) -> None:
    uids = {case.name: submit(client, recipe_of(case, folder)) for case in CASES}
    wait_published(service_stack, client, *uids.values())
    store, tenant = service_stack.store(), service_stack.settings.tenant
    with service_stack.catalog() as catalog:
        for case in CASES:
            row = find_version(catalog, case.name)
            manifest = read_manifest(
                store, version_prefix(tenant, row.name, row.version), sha256=row.manifest_sha256
            )
            assert manifest.counts == {"nevus": {"train": 2}}
            reader = VersionReader(store, version_prefix(tenant, row.name, row.version), manifest)
            samples = list(reader.iter_samples())
            assert len({sample.record["image_sha256"] for sample in samples}) == 2, case.name
            if case.has_prompt:
                told = {(s.labels.caption, s.record["attributes"]["shade"]) for s in samples}
                assert told == {("a nevus", "a"), ("b nevus", "b")}, case.name
            found = verify_version(catalog, store, row, tenant=tenant)
            assert found.findings == []


def test_a_pipeline_of_another_folder_is_refused(
    client: httpx.Client, folder: Path, tmp_path: Path
) -> None:
    """Before anything there is opened: whether it exists is not told."""
    content = recipe_of(CASES[0], folder)
    content["generator"]["source"] = str(tmp_path / "elsewhere")
    answer = client.post(
        "/jobs", json={"recipe": content | {"name": "other"}}, headers={"Idempotency-Key": "other"}
    )
    assert answer.status_code == 422
    assert "not among those that this deployment allows" in answer.text
    assert "generator.source" in answer.text


def test_a_prompt_that_is_too_long_is_refused_by_name(client: httpx.Client, folder: Path) -> None:
    content = recipe_of(CASES[0], folder)
    content["conditioning"]["prompt"] = {"template": "a {class} " + "with a spot " * 60}
    answer = client.post(
        "/jobs", json={"recipe": content | {"name": "long"}}, headers={"Idempotency-Key": "long"}
    )
    assert answer.status_code == 422
    assert "conditioning.prompt" in answer.text
    assert "at most 24" in answer.text
