"""How more workers shorten a job whose model sleeps 1 s a batch: two over one, eight over one.

    PYTHONPATH=. python benchmarks/scaling.py [--batches 64]

Generate workers of the real service; the sleep is a failpoint before each batch of the noise
generator, so that the machine's cores are not what is shared. The time is that of the generate
stage: from the job's creation to the event that opens the next stage. Targets: 1.9 and 7.
"""

from __future__ import annotations

import argparse

import httpx

from benchmarks.large_catalog import machine
from benchmarks.service import started_stack, submit, wait
from datagen.catalog.events import list_events
from datagen.catalog.jobs import get_job_by_uid
from tests.stack import ServiceStack

BATCH = 256  # of the noise generator
SLEEPING = {"DATAGEN_FAILPOINTS": "generate.batch=sleep:1"}


def recipe(name: str, num_batches: int) -> dict[str, object]:
    return {
        "version": 1,
        "name": name,
        "image_size": [8, 8],
        "classes": [{"name": "noise", "count": num_batches * BATCH}],
        "generator": {"model": "noise", "channels": 1},
        "splits": {"ratios": {"train": 1.0}},
    }


def generate_seconds(stack: ServiceStack, client: httpx.Client, name: str, batches: int) -> float:
    uid = submit(client, recipe(name, batches))
    wait(client, uid)
    with stack.catalog() as catalog:
        job = get_job_by_uid(catalog, uid)
        assert job is not None
        events = list_events(catalog, job.id, after_id=0, limit=100)
    opened = [each.created_at for each in events if each.type == "job.stage"]
    return min(opened) - job.created_at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=64)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    found: dict[int, float] = {}
    with started_stack() as stack, stack.client() as client:
        stack.start_worker("cpu")
        stack.start_worker("beat")
        for num_workers in (1, 2, 8):
            while len(stack.names("generate")) < num_workers:
                stack.start_worker("generate", env=SLEEPING, arguments=("--families", "noise"))
            # Every worker is there once each had a share of a first job.
            generate_seconds(stack, client, f"warm-up-{num_workers}", 4 * num_workers)
            found[num_workers] = generate_seconds(
                stack, client, f"timed-{num_workers}", arguments.batches
            )
            print(
                f"{num_workers} workers: {found[num_workers]:6.2f} s for {arguments.batches} "
                f"batches, {found[1] / found[num_workers]:.2f} times one worker",
                flush=True,
            )


if __name__ == "__main__":
    main()
