"""Problem documents (RFC 9457) back to the errors that the service raised. Called by senders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datagen.errors import (
    AuthError,
    ConflictError,
    DatagenError,
    ForbiddenError,
    InputError,
    NotFoundError,
    QuotaError,
    RetryableError,
    RevokedError,
    StoreUnavailableError,
    VerifyError,
)
from datagen.faults import InvalidRecipe, Problem

PROBLEM_PREFIX = "urn:datagen:problem:"


class ServiceUnavailableError(RetryableError):
    """The service cannot be reached, or answers with a fault of its own."""


class RefusedError(InputError):
    """Fields that are no recipe's were refused; `problems` has one for each."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


_BY_STATUS: Mapping[int, type[DatagenError]] = {
    401: AuthError,
    402: QuotaError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: RevokedError,
    429: QuotaError,
}


QUOTA, DAMAGED = "quota", "damaged"


def kind_of(body: bytes) -> str:
    """The last word of a problem's type, or ""."""
    return str(_problem(body).get("type", "")).removeprefix(PROBLEM_PREFIX)


def error_of(status: int, body: bytes, *, url: str) -> DatagenError:
    """What an answer that is no success means."""
    content = _problem(body)
    said = str(content.get("detail") or content.get("title") or f"status {status}")
    problems = problems_of(content.get("errors"))
    if 300 <= status < 400:
        return InputError(f"{url} sends elsewhere (status {status}); correct DATAGEN_API_URL")
    if not content:
        said = f"{url} answered with status {status} and no problem document"
        if status in (404, 405):
            return InputError(f"{said}: it is no datagen service; correct DATAGEN_API_URL")
    if kind_of(body) == DAMAGED:
        return VerifyError(said)
    if status >= 500:
        return ServiceUnavailableError(f"{said} (status {status}); try again")
    if problems and all(_is_of_recipe(problem.field) for problem in problems):
        return InvalidRecipe([_within_recipe(problem) for problem in problems])
    if problems:
        lines = [problem.describe(None) for problem in problems]
        return RefusedError("\n".join(lines), problems)
    return _BY_STATUS.get(status, InputError)(said)


def unreachable(url: str, error: Exception) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        f"{url} does not answer ({type(error).__name__}: {error}); check DATAGEN_API_URL, and try "
        "again"
    )


def object_error(status: int, body: bytes, path: str, url: str) -> DatagenError:
    """Of a download. A store's refusal is passing: an address of its own expires."""
    if kind_of(body) == DAMAGED or (_problem(body) and status < 500):
        return error_of(status, body, url=url)
    return StoreUnavailableError(f"{path}: answered with status {status}; pull again")


def problems_of(entries: Any) -> list[Problem]:
    """entries: the `errors` of a problem document or of a validation; others give nothing."""
    if not isinstance(entries, list):
        return []
    return [_fault(entry) for entry in entries if isinstance(entry, dict)]


def _fault(entry: Mapping[str, Any]) -> Problem:
    """The service sends a value as it is to be shown."""
    line, value = entry.get("line"), entry.get("value")
    return Problem(
        field=str(entry.get("field") or ""),
        value=value,
        expected=str(entry.get("expected") or entry.get("message") or "another value"),
        line=line if isinstance(line, int) else None,
        text=value if isinstance(value, str) else None,
    )


def _is_of_recipe(field: str) -> bool:
    return field == "recipe" or field.startswith(("recipe.", "recipe["))


def _within_recipe(problem: Problem) -> Problem:
    """recipe.classes[1].count => classes[1].count, as a recipe's own faults are named."""
    return replace(problem, field=problem.field.removeprefix("recipe").removeprefix("."))


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) and "type" in content else {}
