"""What is known of a version beyond its data: attachments, report, evaluation, sign-offs.

Looking at them needs no sign-off, whatever the policy: whoever is to sign must see them.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from datagen.api.datasets import Name, Number, open_row
from datagen.api.dependencies import Context, Reader, Submitter, audit
from datagen.api.jobs import JobId, job_of
from datagen.api.problems import DamagedError, field_problem, problem_responses
from datagen.api.recipe_body import Body
from datagen.approval import (
    MAX_NOTE,
    MAX_USE,
    history_json,
    sign_off,
    signed_json,
)
from datagen.attachments import (
    EVALUATION,
    REPORT,
    Kind,
    attachment_json,
    attachments_of,
    need_attachment,
    path_of,
    read_attachment,
)
from datagen.catalog.keys import find_key
from datagen.catalog.rows import PUBLISHED, Job, VersionRow
from datagen.errors import ForbiddenError, ObjectMissingError, VerifyError

_AT = "/{name}/versions/{version}"
_A_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/html": {}}, "description": "The page"},
    **problem_responses(410, 502),
}
_FIGURES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}},
    **problem_responses(410, 502),
}


class AttachmentView(BaseModel):
    """object: its path, for .../objects/{path}. summary: the main figures."""

    kind: str
    file_name: str
    object: str
    sha256: str
    size_bytes: int
    summary: dict[str, Any]
    seconds: float | None
    created_by: str | None
    created_at: str


class SignOffView(BaseModel):
    """holds: nothing newer for this use, and no end, has undone it."""

    name: str
    version: int
    state: str
    use: str
    by: str
    until: str | None
    note: str
    signed_at: str
    holds: bool


class SignOffRequest(Body):
    """until: the last day on which it holds, in UTC. draft takes back what was signed."""

    state: Literal["draft", "reviewed", "approved"]
    use: Annotated[str, Field(min_length=1, max_length=MAX_USE)]
    until: Annotated[
        str | None, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description="Such as 2027-06-30")
    ] = None
    note: Annotated[str, Field(max_length=MAX_NOTE)] = ""


def router() -> APIRouter:
    of_versions = APIRouter(prefix="/datasets", tags=["datasets"])
    _add_attachments(of_versions)
    _add_sign_offs(of_versions)
    of_jobs = APIRouter(prefix="/jobs", tags=["jobs"])
    _add_of_jobs(of_jobs)
    routes = APIRouter()
    routes.include_router(of_versions)
    routes.include_router(of_jobs)
    return routes


def _add_attachments(routes: APIRouter) -> None:
    @routes.get(_AT + "/attachments", responses=problem_responses(410))
    def list_attachments(context: Reader, name: Name, version: Number) -> list[AttachmentView]:
        """The newest first."""
        found = attachments_of(context.catalog, open_row(context, name, version))
        return [AttachmentView(**attachment_json(each)) for each in found]

    @routes.get(_AT + "/report", response_class=Response, responses=_A_PAGE)
    def read_report(context: Reader, name: Name, version: Number) -> Response:
        """The newest report, as one page that needs nothing else."""
        return _page(context, open_row(context, name, version))

    @routes.get(_AT + "/evaluation", response_class=Response, responses=_FIGURES)
    def read_evaluation(context: Reader, name: Name, version: Number) -> Response:
        """The newest evaluation, byte for byte."""
        return _figures(context, open_row(context, name, version))


def _add_of_jobs(routes: APIRouter) -> None:
    @routes.get("/{job_id}/report", response_class=Response, responses=_A_PAGE)
    def read_job_report(context: Reader, job_id: JobId) -> Response:
        """The newest report of what the job made, also where its gates refused to publish it."""
        return _page(context, _readable_job(context, job_id))

    @routes.get("/{job_id}/evaluation", response_class=Response, responses=_FIGURES)
    def read_job_evaluation(context: Reader, job_id: JobId) -> Response:
        """The newest evaluation of what the job made, byte for byte."""
        return _figures(context, _readable_job(context, job_id))


def _add_sign_offs(routes: APIRouter) -> None:
    @routes.get(_AT + "/approvals", responses=problem_responses(410))
    def list_approvals(context: Reader, name: Name, version: Number) -> list[SignOffView]:
        """Every sign-off, the newest first."""
        row = open_row(context, name, version)
        return [SignOffView(**each) for each in history_json(context.catalog, [row])]

    @routes.post(_AT + "/approvals", status_code=201, responses=problem_responses(410))
    def approve(
        context: Submitter, name: Name, version: Number, body: SignOffRequest
    ) -> SignOffView:
        """For a named use. To approve, and to change what is approved, needs an admin key."""
        row = open_row(context, name, version)
        with _refusal_audited(context, f"{name}@{row.version}"):
            signed = sign_off(
                context.catalog,
                row,
                state=body.state,
                use=body.use,
                signed_by=_signer(context),
                until=_day(body.until),
                note=body.note,
                may_approve=context.principal.may("admin"),
            )
        content = signed_json(row, signed, holds=True)
        detail = {"digest": row.digest, **content}
        audit(context, f"dataset.{body.state}", f"{name}@{row.version}", detail)
        return SignOffView(**content)


def _readable_job(context: Context, uid: str) -> Job:
    """Raises NotFoundError, RevokedError if its version was revoked."""
    job = job_of(context, uid)
    if job.state == PUBLISHED:
        open_row(context, job.name, str(job.version))
    return job


def _page(context: Context, of: VersionRow | Job) -> Response:
    data, sha256 = _newest(context, of, REPORT)
    headers = {"ETag": f'"{sha256}"', "Content-Security-Policy": _policy()}
    return Response(data, media_type="text/html", headers=headers)


def _figures(context: Context, of: VersionRow | Job) -> Response:
    data, sha256 = _newest(context, of, EVALUATION)
    return Response(data, media_type="application/json", headers={"ETag": f'"{sha256}"'})


def _newest(context: Context, row: VersionRow | Job, kind: Kind) -> tuple[bytes, str]:
    """And its sha256. Raises NotFoundError or DamagedError."""
    found = need_attachment(context.catalog, row, kind=kind)
    try:
        return read_attachment(context.store, found), found.sha256
    except (VerifyError, ObjectMissingError) as error:
        raise DamagedError(f"{row.name}@{row.version}", path_of(found)) from error


@cache
def _policy() -> str:
    """The page may run our own script of this release, by its hash, and reach nothing: no server,
    no frame, no origin of ours. In this sandbox the page keeps no marks, which it says."""
    script = files("datagen").joinpath("evaluation", "report", "script.js").read_bytes()
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "sandbox allow-scripts allow-downloads allow-modals"
    )


@contextmanager
def _refusal_audited(context: Context, target: str) -> Iterator[None]:
    try:
        yield
    except ForbiddenError:
        audit(context, "auth.forbidden", target, {"needs": "admin"})
        raise


def _signer(context: Context) -> str:
    """The name of the key; of a token, its subject."""
    key = find_key(context.catalog, context.principal.actor)
    return context.principal.actor if key is None else key.name


def _day(text: str | None) -> datetime.date | None:
    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError:
        raise field_problem("until", text, "a day such as 2027-06-30") from None
