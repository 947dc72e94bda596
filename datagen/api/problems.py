"""Errors as RFC 9457 problems. Every error that leaves the service is made here.

Called by app.py, which installs the handlers, by limits.py and auth.py, which answer before any
route is found, and by the routers (RequestError, problem_responses).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from datagen.errors import (
    AuthError,
    ConflictError,
    DatagenError,
    ForbiddenError,
    InputError,
    JobError,
    NotFoundError,
    ObjectMissingError,
    QuotaError,
    RetryableError,
    RevokedError,
    VerifyError,
)
from datagen.faults import MAX_PROBLEMS, InvalidRecipe, join, show
from datagen.faults import Problem as Fault

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_MAX_DETAIL = 4_000  # characters
_JSON = re.compile(r"application/([^;]+\+)?json\s*(;|$)", re.IGNORECASE)

_log = logging.getLogger("datagen.api")


class FieldError(BaseModel):
    """One fault of the request. value: as it was understood, shortened."""

    field: str = Field(description='Where, such as "recipe.classes[1].count" or "header.X"')
    value: str
    expected: str
    message: str


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(description="A stable name, such as urn:datagen:problem:not-found")
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[FieldError] = []


class RequestError(DatagenError):
    """What is wrong with a request itself; slug is the last word of the problem's type."""

    def __init__(
        self, status: int, slug: str, detail: str, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.errors = tuple(errors)


def field_problem(field: str, value: Any, expected: str, *, status: int = 422) -> RequestError:
    """One field at fault. field: as the client spells it, with its place: header.Idempotency-Key,
    query.limit, recipe.name."""
    error = field_error(field, value, expected)
    slug = "invalid" if status == 422 else "bad-request"
    return RequestError(status, slug, error.message, [error])


def field_error(field: str, value: Any, expected: str) -> FieldError:
    message = Fault(field, value, expected).describe(None)
    return FieldError(field=field, value=show(value), expected=expected, message=message)


class DamagedError(VerifyError):
    """An object of a version is not what was published; path: within the version."""

    def __init__(self, version: str, path: str) -> None:
        super().__init__(
            f"{version}: {path} is not what was published: it is missing, or was changed since; "
            "an operator can restore it from a backup"
        )


class CutOff(Exception):
    """Raised by limits.py into the app, which waits for a body that it will not get; limits.py
    answers, or nobody does, since the client has gone."""


class _Kind(NamedTuple):
    error: type[DatagenError]
    status: int
    slug: str


# The first that fits counts: subclasses stand before their bases.
_KINDS = (
    _Kind(RevokedError, 410, "revoked"),
    _Kind(NotFoundError, 404, "not-found"),
    _Kind(ObjectMissingError, 404, "not-found"),
    _Kind(ForbiddenError, 403, "forbidden"),
    _Kind(AuthError, 401, "unauthorized"),
    _Kind(QuotaError, 429, "quota"),
    _Kind(ConflictError, 409, "conflict"),
    _Kind(JobError, 409, "conflict"),
    _Kind(InputError, 422, "invalid"),
    _Kind(RetryableError, 503, "unavailable"),
    _Kind(DamagedError, 502, "damaged"),
)

_DESCRIPTIONS = {
    400: "The request cannot be read",
    401: "No key, or one that is unknown, expired or revoked",
    403: "The key's scopes do not allow this",
    404: "There is no such thing, or it is another tenant's",
    405: "The resource does not know this method",
    408: "The body did not arrive in time",
    409: "The state that the thing is in forbids it",
    410: "It was revoked",
    413: "The body is too large",
    415: "The content type is another one",
    416: "The range lies outside the object",
    422: "A field is not valid",
    429: "A quota of the tenant is used up",
    502: "A stored object is not what was published",
    503: "A server behind this one does not answer",
}
_EVERYWHERE = (400, 401, 403, 404, 408, 413, 422, 503)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: the problems that any route may answer with, and these."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in sorted({*_EVERYWHERE, *statuses})
    }


def error_response(error: DatagenError, *, request_id: str | None) -> Response:
    status, slug, errors = 500, "internal", tuple[FieldError, ...]()
    detail = "the service failed; its log has the reason under this request id"
    kind = next((kind for kind in _KINDS if isinstance(error, kind.error)), None)
    if isinstance(error, RequestError):
        status, slug, detail, errors = error.status, error.slug, str(error), error.errors
    elif isinstance(error, InvalidRecipe):
        status, slug, errors = 422, "invalid", tuple(recipe_errors(error))
        detail = f"{error.num_problems} fault(s) in the recipe; errors lists them"
    elif kind is not None:
        status, slug, detail = kind.status, kind.slug, str(error)
    if status >= 500:
        _log.error("request %s: %s", request_id, error, exc_info=error)
    wait_s = error.retry_after_s if isinstance(error, ConflictError | QuotaError) else None
    headers = None if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}
    return problem_response(
        status, slug, detail, errors=errors, request_id=request_id, headers=headers
    )


def recipe_errors(error: InvalidRecipe, *, within: str = "recipe") -> list[FieldError]:
    """within: the field of the request that holds the recipe."""
    found = []
    for problem in error.problems:
        separator = "" if not problem.field or problem.field.startswith("[") else "."
        field = f"{within}{separator}{problem.field}"
        found.append(field_error(field, problem.value, problem.expected))
    return found


def problem_response(
    status: int,
    slug: str,
    detail: str,
    *,
    request_id: str | None,
    errors: Iterable[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    more = dict(headers or {})
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    if status in (429, 503):
        more.setdefault("Retry-After", str(RETRY_AFTER_S))
    content = Problem(
        type=f"urn:datagen:problem:{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=printable(detail[:_MAX_DETAIL]),
        request_id=request_id,
        errors=list(errors),
    )
    return JSONResponse(content.model_dump(), status, more, media_type=MEDIA_TYPE)


def printable(text: str) -> str:
    """Without lone surrogates, which no UTF-8 answer can hold."""
    return text.encode(errors="backslashreplace").decode()


def install(app: FastAPI) -> None:
    app.add_exception_handler(DatagenError, _on_datagen_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(CutOff, _on_cut_off)
    app.add_exception_handler(Exception, _on_surprise)


def request_id_of(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _on_datagen_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, DatagenError)
    return error_response(error, request_id=request_id_of(request))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """What FastAPI found: the body is no JSON, or a field is not as declared."""
    assert isinstance(error, RequestValidationError)
    found = [_declared_fault(detail) for detail in error.errors()[:MAX_PROBLEMS]]
    media_type = request.headers.get("content-type", "")
    if isinstance(error.body, bytes) and error.body and not _JSON.match(media_type):
        expected = "application/json, and a body of that type"
        found = [field_error("header.Content-Type", media_type, expected)]
    unreadable = any(detail["type"] == "json_invalid" for detail in error.errors())
    status, slug = (400, "bad-request") if unreadable else (422, "invalid")
    missing_header = any(
        detail["loc"][0] == "header" and detail["type"] == "missing" for detail in error.errors()
    )
    if missing_header:
        status, slug = 400, "bad-request"
    detail = "; ".join(fault.message for fault in found[:3])
    return problem_response(status, slug, detail, errors=found, request_id=request_id_of(request))


def _declared_fault(detail: Mapping[str, Any]) -> FieldError:
    where, *path = detail["loc"]
    field = join(tuple(path)) if where == "body" else join((where, *path))
    if detail["type"] == "json_invalid":
        return field_error("body", detail["ctx"]["error"], "valid JSON")
    expected = detail["msg"].removeprefix("Input should be ")
    expected = expected.removeprefix("Value error, ").removeprefix("expected ")
    if detail["type"] == "missing":
        return field_error(field or "body", None, "a value: it is required")
    if detail["type"] == "extra_forbidden":
        expected = "no such field"
    return field_error(field or "body", detail.get("input"), expected)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: no route, another method, a body it cannot read."""
    assert isinstance(error, HTTPException)
    slugs = {404: "not-found", 405: "method-not-allowed", 415: "media-type"}
    slug = slugs.get(error.status_code, "bad-request")
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = f"there is no {printable(show(request.url.path))}"
    if error.status_code == 405:
        methods = _methods_of(request)
        headers["Allow"] = ", ".join(methods)
        detail = f"{request.method} is not possible here; {' and '.join(methods)} are"
    return problem_response(
        error.status_code, slug, detail, headers=headers, request_id=request_id_of(request)
    )


def _methods_of(request: Request) -> list[str]:
    """Of all routes of the path, not of the first alone."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path is not None and compile_path(route.path)[0].match(request.url.path):
            found |= route.methods or set()
    return sorted(found)


async def _on_cut_off(request: Request, error: Exception) -> Response:
    """Never sent."""
    return problem_response(400, "bad-request", str(error), request_id=request_id_of(request))


async def _on_surprise(request: Request, error: Exception) -> Response:
    _log.error("request %s failed", request_id_of(request), exc_info=error)
    detail = "the service failed; its log has the reason under this request id"
    return problem_response(500, "internal", detail, request_id=request_id_of(request))
