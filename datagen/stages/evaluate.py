"""Evaluate: what a recipe wants measured before its version is published, and the gates.

Called by finish, when all shards are packed and before the manifest is put. What is found is
attached to the job either way: who is refused by a gate reads why in the report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from datagen.attachments import EVALUATION, REPORT, Kind, attach
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.rows import Unit
from datagen.catalog.units import renew_lease
from datagen.errors import JobError, LeaseLostError
from datagen.evaluation.named_data import find_named
from datagen.formats.version import VersionReader
from datagen.gates import shortcomings
from datagen.manifest import Manifest
from datagen.recipe import EvaluationRequest
from datagen.stages.job import JobWork

EVALUATION_FILE, REPORT_FILE = "evaluation.json", "report.html"


def evaluate_packed(
    work: JobWork, unit: Unit, manifest: Manifest, check_abort: Callable[[], None]
) -> Mapping[str, str] | None:
    """The main figures in words, for the card; None if the recipe asks for no evaluation.

    manifest: of what is packed, without documents. Raises JobError if a gate is not passed.
    """
    request = work.resolved.recipe.evaluation
    if request is None:
        return None
    # Imported here: torch and scipy, which packing alone does without.
    from datagen.evaluation.assess import assess
    from datagen.evaluation.evaluate import Options
    from datagen.evaluation.published import about_version, load_published

    started = time.monotonic()
    options = Options(quick=request.quick)
    reader = VersionReader(work.store, work.prefix, manifest)
    images = load_published(reader, max_images=options.max_images, check_abort=check_abort)
    assessment = assess(
        images,
        find_named(request.reference, work.settings),
        about_version(work.catalog, work.job.id, manifest),
        options,
        check_abort=check_abort,
    )
    found = assessment.to_bytes()
    if not renew_lease(work.catalog, unit, lease_s=work.settings.lease_s):
        raise LeaseLostError(f"unit {unit.id} was claimed by someone else")
    seconds, summary = time.monotonic() - started, assessment.summary()
    _attach(work, EVALUATION, EVALUATION_FILE, found, summary, seconds)
    report = _attach(work, REPORT, REPORT_FILE, assessment.report.encode(), summary, seconds)
    _check_gates(work, request, json.loads(found), report=work.store.url(report.key))
    return assessment.figures()


def _attach(
    work: JobWork,
    kind: Kind,
    file_name: str,
    data: bytes,
    summary: Mapping[str, Any],
    seconds: float,
) -> AttachmentRow:
    return attach(
        work.catalog,
        work.store,
        work.job,
        kind=kind,
        file_name=file_name,
        data=data,
        summary=summary,
        seconds=seconds,
    )


def _check_gates(
    work: JobWork, request: EvaluationRequest, found: Mapping[str, Any], *, report: str
) -> None:
    missed = shortcomings(request.gates, found)
    if missed:
        name = f"{work.job.name}@{work.job.version}"
        raise JobError(
            f"evaluation.require: {'; '.join(missed)}; {name} is not published: change the recipe "
            f"(filters, model), or its gates; what was measured is in {report}, "
            f"as `datagen report {work.job.uid}` shows it"
        )
