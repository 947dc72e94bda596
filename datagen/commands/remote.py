"""What a command needs to speak to a service: the client, and the words ls, pull, plan and validate
as the service answers them. Called where DATAGEN_API_URL is set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.errors import InputError, NotFoundError, RecipeError

if TYPE_CHECKING:
    from datagen.client import Client
    from datagen.client.results import Plan, Validation
    from datagen.commands.progress import Report
    from datagen.settings import Settings

# A command answers soon, even if it is that nobody answers; who waits for a job waits longer.
_RETRIES, _WAITING_RETRIES = 3, 12


@contextmanager
def open_client(settings: Settings, *, waiting: bool = False) -> Iterator[Client]:
    """Raises InputError naming DATAGEN_API_URL or DATAGEN_API_KEY if one is missing."""
    from datagen.client import Client

    max_retries = _WAITING_RETRIES if waiting else _RETRIES
    with Client(settings.api_url, settings.api_key, max_retries=max_retries) as client:
        yield client


def refuse_remote(settings: Settings, what: str) -> None:
    """For what only works beside the store. Raises InputError where a service is meant."""
    if settings.api_url is not None:
        raise InputError(
            f"{what} works on a home or database of your own, and DATAGEN_API_URL is set: unset it"
        )


def validate_remote(recipe: Path, settings: Settings) -> dict[str, Any]:
    """As `validate --json` prints it. Raises InvalidRecipe with file and lines."""
    with open_client(settings) as client:
        found = client.validate(recipe)
    if not found.valid or found.resolved is None:
        raise _fault_of(found, str(recipe))
    asked: Mapping[str, Any] = found.resolved
    return {
        "valid": True,
        "name": asked["name"],
        "num_images": sum(request["count"] for request in asked["classes"]),
        "num_classes": len(asked["classes"]),
        "seed": asked["seed"],
        "model": asked["generator"]["model"],
        "model_digest": asked["generator"]["model_digest"],
        "recipe_digest": found.digest,
    }


def _fault_of(found: Validation, source: str) -> RecipeError:
    from datagen.faults import InvalidRecipe, Problem

    problems = [
        Problem(
            field=fault.field,
            value=fault.value,
            expected=fault.expected,
            line=fault.line,
            text=fault.value if isinstance(fault.value, str) else None,
        )
        for fault in found.errors
        if fault.field
    ]
    if problems:
        return InvalidRecipe(problems, source=source)
    said = "; ".join(fault.message for fault in found.errors) or "refused without a reason"
    return RecipeError(f"{source}: {said}")


def plan_remote(recipe: Path, settings: Settings) -> tuple[dict[str, Any], Plan]:
    """The recipe's facts as validate_remote gives them, and what the service forecasts."""
    facts = validate_remote(recipe, settings)
    with open_client(settings) as client:
        return facts, client.plan(recipe)


def list_remote(name: str | None, settings: Settings) -> list[dict[str, Any]]:
    """As `ls --json` lists them, by name and version. Raises NotFoundError."""
    with open_client(settings) as client:
        names = [name] if name else sorted(dataset.name for dataset in client.datasets())
        rows = []
        for each in names:
            versions = [asdict(version) for version in client.versions(each)]
            rows += sorted(versions, key=lambda row: int(row["version"]))
    if name and not rows:
        raise NotFoundError(f"data set {name!r} does not exist; `datagen ls` lists all")
    return rows


def pull_remote(
    version: str,
    out: Path,
    layout: str | None,
    use: str | None,
    settings: Settings,
    report: Report,
) -> dict[str, Any]:
    """As `pull --json` prints it."""
    with open_client(settings, waiting=True) as client:
        pulled = client.pull(
            version,
            out,
            layout=layout,
            use=use,
            on_progress=lambda done, total: report("pull", done, total),
        )
    return asdict(pulled)


def check_job_id(text: str) -> str:
    """Raises InputError before anything is asked."""
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise InputError(f"job {text!r}: expected the 32 hex digits that `datagen jobs` lists")
    return text
