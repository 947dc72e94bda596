"""Exports: what a recipe's `output.formats` names beside the shards, attached before the manifest
is put. Called by finish, once the gates are passed."""

from __future__ import annotations

from collections.abc import Callable

from datagen.catalog.rows import Unit
from datagen.catalog.units import renew_lease
from datagen.errors import InputError, JobError, LeaseLostError
from datagen.exports import STORED, attach_export
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest
from datagen.stages.job import JobWork


def export_packed(
    work: JobWork, unit: Unit, manifest: Manifest, check_abort: Callable[[], None]
) -> None:
    """manifest: of what is packed, without documents. A replay attaches the same bytes again, which
    changes nothing. Raises JobError if the data do not fit a format."""
    is_preview = work.job.kind != "dataset"  # which is looked at and forgotten
    if is_preview or not manifest.num_samples:
        return
    reader = VersionReader(work.store, work.prefix, manifest)
    for layout in work.resolved.recipe.output.formats:
        if layout == STORED:
            continue
        if not renew_lease(work.catalog, unit, lease_s=work.settings.lease_s):
            raise LeaseLostError(f"unit {unit.id} was claimed by someone else")
        try:
            attach_export(
                work.catalog,
                work.store,
                work.job,
                reader,
                layout,
                work.settings,
                check_abort=check_abort,
            )
        except InputError as error:
            raise JobError(
                f"output.formats: {layout}: {error}; take the format out of the recipe and run it "
                "again: no image is made anew"
            ) from error
