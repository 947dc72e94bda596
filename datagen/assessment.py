"""Evaluates a published version, or any folder of images by class, against real images.

A version's evaluation, report and card are attached to it. Called by `datagen evaluate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from datagen.attachments import EVALUATION, REPORT, attach
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.catalog import Catalog
from datagen.evaluation.assess import Assessment, assess
from datagen.evaluation.evaluate import About, Options
from datagen.evaluation.named_data import NamedData
from datagen.evaluation.published import about_version, load_published
from datagen.figures import attach_card
from datagen.real_images import load_image_set
from datagen.stages.evaluate import EVALUATION_FILE, REPORT_FILE
from datagen.store import Store
from datagen.versions import OpenVersion

Progress = Callable[[str], None]


def assess_version(
    catalog: Catalog,
    store: Store,
    opened: OpenVersion,
    data: NamedData,
    options: Options,
    *,
    held_out: Path | None = None,
    baseline: Path | None = None,
    on_progress: Progress = lambda text: None,
) -> tuple[Assessment, AttachmentRow]:
    """Returns the attached report too. Raises InputError if the real images do not fit."""
    started = time.monotonic()
    on_progress("reading the data set")
    assessment = assess(
        load_published(opened.reader, max_images=options.max_images),
        data,
        about_version(catalog, opened.row.job_id, opened.manifest),
        options,
        held_out=held_out,
        baseline=baseline,
        on_progress=on_progress,
    )
    seconds, summary = time.monotonic() - started, assessment.summary()
    attach(
        catalog,
        store,
        opened.row,
        kind=EVALUATION,
        file_name=EVALUATION_FILE,
        data=assessment.to_bytes(),
        summary=summary,
        seconds=seconds,
    )
    report = attach(
        catalog,
        store,
        opened.row,
        kind=REPORT,
        file_name=REPORT_FILE,
        data=assessment.report.encode(),
        summary=summary,
        seconds=seconds,
    )
    attach_card(catalog, store, opened, assessment.figures())
    return assessment, report


def assess_folder(
    folder: Path,
    data: NamedData,
    options: Options,
    *,
    held_out: Path | None = None,
    baseline: Path | None = None,
    on_progress: Progress = lambda text: None,
) -> Assessment:
    """Raises InputError as assess_version does, and for a folder that holds no images by class."""
    on_progress("reading the images")
    images = load_image_set(folder, max_images=options.max_images, seed=options.seed)
    counts = dict(zip(images.class_names, images.counts().tolist(), strict=True))
    about = About(folder.resolve().name, None, images.digest(), counts)
    return assess(
        images,
        data,
        about,
        options,
        held_out=held_out,
        baseline=baseline,
        on_progress=on_progress,
    )
