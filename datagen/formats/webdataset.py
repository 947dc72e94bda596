"""WebDataset: the shards as they are stored, named by split. Called by `datagen pull`.

Read by webdataset.WebDataset("{split}-{00000..00009}.tar") and Hugging Face's `webdataset` builder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datagen.formats.staging import staged_folder
from datagen.formats.version import CHUNK_BYTES, VersionReader


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes {split}-{index}.tar and manifest.json. Yields the number of samples done so far.

    Raises VerifyError if a stored shard was changed; then, and on any other error, no folder is
    left.
    """
    done = 0
    with staged_folder(folder) as partial:
        for split in reader.splits:
            for index, entry in enumerate(reader.shards(split)):
                with (
                    reader.open_object(entry) as source,
                    (partial / f"{split}-{index:05d}.tar").open("wb") as target,
                ):
                    while chunk := source.read(CHUNK_BYTES):
                        target.write(chunk)
                done += entry.num_samples
                yield done
        (partial / "manifest.json").write_bytes(reader.manifest.to_bytes())
