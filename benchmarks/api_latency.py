"""The API on a catalogue of 1,000,000 sample rows in PostgreSQL: mixed reads at 100 requests/s,
page N against page 1, and the submit of a recipe of 1,000,000 images.

    PYTHONPATH=. python benchmarks/api_latency.py [--rows 1000000] [--seconds 30] [--rate 100]

Requests are sent when they are due, whether or not others were answered, and their latency counts
from then. Targets: p99 under 100 ms; page N costs what page 1 costs; submit under 300 ms at the
median, and the memory of the API flat.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from benchmarks.large_catalog import machine, noise_recipe, publish_rows
from benchmarks.service import started_stack, submit
from tests.stack import ServiceStack

_VERSIONS = 4
_PAGE = 50
_DEEP_PAGES = 400
_TIMED_PAGES = 60
_SUBMITS = 15


def fill(stack: ServiceStack, num_rows: int) -> list[str]:
    """Returns the names of the data sets."""
    names = [f"large-{i}" for i in range(_VERSIONS)]
    started = time.monotonic()
    with stack.catalog() as catalog:
        for name in names:
            publish_rows(catalog, stack.settings, name=name, num_rows=num_rows // _VERSIONS)
    print(f"{num_rows:,} rows filled in {time.monotonic() - started:.0f} s", flush=True)
    return names


def paths(client: httpx.Client, names: Sequence[str]) -> list[str]:
    """One of each kind of read, for each data set."""
    jobs = [job["id"] for job in client.get("/jobs").raise_for_status().json()["items"]]
    found = ["/jobs", "/jobs?state=PUBLISHED&limit=20", "/datasets", "/models"]
    found += [f"/jobs/{job_id}" for job_id in jobs]
    for name in names:
        at = f"/datasets/{name}/versions"
        found += [at, f"{at}/1", f"{at}/latest/samples"]
        found += [f"{at}/1/samples?class_name=class-{c}&split=val" for c in (0, 9)]
        found += [f"{at}/1/samples?min_score=blank:0.4&limit=20"]
        found += [f"/lineage/samples/{name}/1/class-3-00001234"]
    for path in found:
        client.get(path).raise_for_status()
    return found


async def load(stack: ServiceStack, found: Sequence[str], *, rate: float, seconds: float) -> None:
    latencies: dict[str, list[float]] = {}
    draw = random.Random(1)
    headers = {"Authorization": f"Bearer {stack.api_key}"}
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(
        base_url=f"{stack.api_url}/v1", headers=headers, limits=limits, timeout=30
    ) as client:

        async def ask(path: str, due: float) -> None:
            (await client.get(path)).raise_for_status()
            latencies.setdefault(_kind(path), []).append(time.perf_counter() - due)

        started = time.perf_counter()
        tasks = []
        for number in range(round(rate * seconds)):
            due = started + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(draw.choice(found), due)))
        await asyncio.gather(*tasks)
    everything = sorted(each for kind in latencies.values() for each in kind)
    for kind, values in sorted(latencies.items()):
        print(f"  {kind:32} {_percentiles(values)}")
    print(f"mixed reads at {rate:g}/s: {_percentiles(everything)} (target p99 100 ms)", flush=True)


def _kind(path: str) -> str:
    path, _, query = path.partition("?")
    parts = ["*" if any(c.isdigit() for c in part) else part for part in path.split("/")]
    names = ",".join(each.partition("=")[0] for each in query.split("&") if each)
    return "/".join(parts) + (f"?{names}" if names else "")


def _percentiles(values: Sequence[float]) -> str:
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(q * len(ordered)))] for q in (0.5, 0.99))
    return f"p50 {p50 * 1000:6.1f} ms, p99 {p99 * 1000:6.1f} ms of {len(ordered):,}"


def compare_pages(client: httpx.Client, name: str) -> None:
    """Page 1 and a page far behind, in turn."""
    path = f"/datasets/{name}/versions/1/samples"
    cursor = None
    for _ in range(_DEEP_PAGES):
        query = {"limit": 200} | ({"cursor": cursor} if cursor else {})
        cursor = client.get(path, params=query).raise_for_status().json()["next_cursor"]
    first: list[float] = []
    deep: list[float] = []
    for _ in range(_TIMED_PAGES):
        for query, times in (({}, first), ({"cursor": cursor}, deep)):
            started = time.perf_counter()
            client.get(path, params={"limit": _PAGE, **query}).raise_for_status()
            times.append(time.perf_counter() - started)
    a, b = statistics.median(first), statistics.median(deep)
    print(
        f"page 1 {a * 1000:.1f} ms, page {_DEEP_PAGES * 200 // _PAGE:,} {b * 1000:.1f} ms, "
        f"ratio {b / a:.2f}",
        flush=True,
    )


def submit_large(stack: ServiceStack, client: httpx.Client) -> None:
    """Recipes of a million images; the first, which loads what is loaded once, is not counted."""
    seconds, memory = [], 0
    for number in range(1 + _SUBMITS):
        recipe = noise_recipe(f"million-{number}", 1_000_000).to_json()
        started = time.perf_counter()
        submit(client, recipe)
        seconds.append(time.perf_counter() - started)
        memory = memory or resident_kib(stack)
    print(
        f"submit of 1,000,000 images: median {statistics.median(seconds[1:]) * 1000:.0f} ms "
        f"(target 300 ms), memory of the API {memory / 1024:.0f} MiB after the first, "
        f"{resident_kib(stack) / 1024:.0f} MiB after {_SUBMITS} more"
    )


def resident_kib(stack: ServiceStack) -> int:
    status = Path(f"/proc/{stack.pid('api')}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=100.0)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    with started_stack() as stack, stack.client() as client:
        names = fill(stack, arguments.rows)
        found = paths(client, names)
        asyncio.run(load(stack, found, rate=arguments.rate, seconds=arguments.seconds))
        compare_pages(client, names[0])
        submit_large(stack, client)


if __name__ == "__main__":
    main()
