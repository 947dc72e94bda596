"""Images/s end to end: through API, Celery, PostgreSQL and S3 against embedded (SQLite and a
directory), on this machine, in turn.

    PYTHONPATH=. python benchmarks/service_throughput.py [--rounds 3] [--models noise ...]

The service has one worker that generates and one for the rest, embedded has one process: each
stage is one process on both sides, and both are warm. Times are those of the jobs, from creation to
publication. Targets of service over embedded: noise 0.6, a real model 0.9.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from benchmarks.forecast import CGAN, EDM, recipe
from benchmarks.large_catalog import machine
from benchmarks.service import started_stack, submit, wait
from datagen.catalog.catalog import Catalog
from datagen.commands.opening import pin_threads
from datagen.embedded import run_recipe
from datagen.recipe import Recipe
from datagen.resolve import resolve_recipe
from datagen.settings import Settings, load_settings
from datagen.versions import find_version

RECIPES = {
    "noise": recipe("noise", 32, 20_000),
    "cgan": recipe(CGAN, 28, 6_000, filters=[{"filter": "blank"}, {"filter": "duplicate"}]),
    "edm": recipe(EDM, 28, 640, options={"num_inference_steps": 9}),
}
TARGETS = {"noise": 0.6, "cgan": 0.9, "edm": 0.9}


def embedded_seconds(content: Mapping[str, Any], settings: Settings) -> float:
    resolved = resolve_recipe(Recipe.model_validate(content), [settings.models_dir])
    made = run_recipe(resolved, settings)
    catalog = Catalog(settings.database_url)
    try:
        return find_version(catalog, f"{made.name}@{made.version}").seconds
    finally:
        catalog.close()


def service_seconds(content: Mapping[str, Any], client: httpx.Client) -> float:
    return wait(client, submit(client, content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        started_stack() as stack,
        stack.client() as client,
    ):
        settings = load_settings({}, home=Path(folder, "home"))
        pin_threads(settings)
        stack.start_worker("generate")
        stack.start_worker("cpu")
        stack.start_worker("beat")
        for name in arguments.models:
            content = RECIPES[name]
            num_images = sum(each["count"] for each in content["classes"])
            few = [{**each, "count": 20} for each in content["classes"]]
            warm_up = {**content, "name": f"{name}-warm-up", "classes": few}
            embedded_seconds(warm_up, settings)
            service_seconds(warm_up, client)
            here: list[float] = []
            there: list[float] = []
            for turn in range(arguments.rounds):
                turned = {**content, "name": f"{name}-{turn}", "seed": 10 + turn}
                here.append(embedded_seconds(turned, settings))
                there.append(service_seconds(turned, client))
                print(f"  {name}: embedded {here[-1]:.2f} s, service {there[-1]:.2f} s", flush=True)
            ratio = statistics.median(a / b for a, b in zip(here, there, strict=True))
            print(
                f"{name}: {num_images:,} images: embedded "
                f"{num_images / statistics.median(here):,.0f} images/s, service "
                f"{num_images / statistics.median(there):,.0f} images/s, ratio {ratio:.2f} "
                f"(target {TARGETS[name]})",
                flush=True,
            )


if __name__ == "__main__":
    main()
