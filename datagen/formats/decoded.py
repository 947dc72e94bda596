"""Samples with their pixels, for layouts that store these in another way. Used by nifti, dicom."""

from __future__ import annotations

from collections.abc import Iterator

from datagen.errors import InputError, VerifyError
from datagen.formats.version import StoredSample, VersionReader
from datagen.images import Pixels, decode_png
from datagen.labels import Labels
from datagen.recipe import canonical_json


def iter_decoded(reader: VersionReader, split: str) -> Iterator[tuple[StoredSample, Pixels]]:
    """Raises as VersionReader.iter_samples does, VerifyError also for pixels that are damaged: a
    shard's digest is known only at its end."""
    for entry in reader.shards(split):
        for sample in reader.iter_shard(entry):
            try:
                pixels = decode_png(sample.png)
            except InputError as error:
                raise VerifyError(f"{entry.path}: {sample.key}: {error}") from None
            yield sample, pixels


def line_of(sample: StoredSample, labels: Labels) -> bytes:
    """Of labels/{split}.jsonl: all that is true of an image but its pixels and maps."""
    content = {"key": sample.key, **labels.to_json(), **labels.spatial_json()}
    return canonical_json(content) + b"\n"
