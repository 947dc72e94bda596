"""Samples with their pixels, for layouts that store these in another way. Used by nifti, dicom."""

from __future__ import annotations

from collections.abc import Iterator

from datagen.errors import InputError, VerifyError
from datagen.formats.version import StoredSample, VersionReader
from datagen.images import Image, decode_png


def iter_decoded(reader: VersionReader, split: str) -> Iterator[tuple[StoredSample, Image]]:
    """Raises as VersionReader.iter_samples does, VerifyError also for pixels that are damaged: a
    shard's digest is known only at its end."""
    for entry in reader.shards(split):
        for sample in reader.iter_shard(entry):
            try:
                pixels = decode_png(sample.png)
            except InputError as error:
                raise VerifyError(f"{entry.path}: {sample.key}: {error}") from None
            yield sample, pixels
