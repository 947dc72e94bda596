"""A raw data set folder of nnU-Net v2, of 2D PNG images. Called by `datagen pull`.

Source: MIC-DKFZ/nnUNet, documentation/dataset_format.md and documentation/manual_data_splits.md;
its reader for PNG is NaturalImage2DIO, which takes an RGB image as one file of three channels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, TextIO

from datagen.errors import InputError
from datagen.formats.labelled import MASK, labels_with, require
from datagen.formats.staging import staged_folder
from datagen.formats.version import VersionReader
from datagen.manifest import TRAIN_SPLIT, Manifest

NEEDS = frozenset({MASK})
PROGRESS_SAMPLES = 256
TEST_SPLIT = "test"
SPLITS_FILE = "splits_final.json"

_FOLDER_NAME = re.compile(r"Dataset\d{3}_.+")
_CHANNELS = {1: ("grey",), 3: ("R", "G", "B")}
_IGNORE = "ignore"


def export(reader: VersionReader, folder: Path) -> Iterator[int]:
    """Writes Dataset{NNN}_{name}/ in `folder`, or into `folder` itself if that is its name's form:
    imagesTr/{key}_0000.png, labelsTr/{key}.png, dataset.json; the split `test` in imagesTs and
    labelsTs; splits_final.json, if beside train and test there are other splits.

    Yields the number of samples done so far. Raises as webdataset.export does, and InputError
    without masks, or with names that nnU-Net has another meaning for.
    """
    require(reader, NEEDS, layout="nnunet")
    if found := fault(reader.splits, reader.names, NEEDS):
        raise InputError(found)
    num_training = done = 0
    with staged_folder(folder) as partial:
        root = partial
        if not _FOLDER_NAME.fullmatch(folder.absolute().name):
            root = partial / default_folder_name(reader.manifest)
        for split in reader.splits:
            suffix = "Ts" if split == TEST_SPLIT else "Tr"
            images, maps = root / f"images{suffix}", root / f"labels{suffix}"
            images.mkdir(parents=True, exist_ok=True)
            maps.mkdir(exist_ok=True)
            with (root / f"{split}.partial").open("w") as cases:
                for sample in reader.iter_samples(split):
                    labels_with(sample, NEEDS)
                    (images / f"{sample.key}_0000.png").write_bytes(sample.png)
                    (maps / f"{sample.key}.png").write_bytes(sample.mask)
                    cases.write(f"{sample.key}\n")
                    num_training += suffix == "Tr"
                    done += 1
                    if done % PROGRESS_SAMPLES == 0:
                        yield done
        _write_splits(root, reader.splits)
        text = json.dumps(_dataset_json(reader, num_training), indent=2)
        (root / "dataset.json").write_text(text + "\n")
    yield done


def default_folder_name(manifest: Manifest) -> str:
    """The number, 500 to 999, follows from the version's digest: nnU-Net leaves the choice to us,
    and its own are below. Another one: rename the folder."""
    number = 500 + int(manifest.digest[:8], 16) % 500
    return f"Dataset{number:03d}_{manifest.name}"


def fault(splits: Sequence[str], names: Sequence[str], kinds: Set[str]) -> str | None:
    """See FAULTS of formats. nnU-Net takes `ignore` for pixels without a label, and wants its value
    to be the highest."""
    if _IGNORE in names[:-1]:
        return (
            f"class {_IGNORE!r} has value {names.index(_IGNORE)}: nnU-Net takes that name for "
            "pixels without a label and wants it last; rename the class, or use the format masks"
        )
    return None


def _dataset_json(reader: VersionReader, num_training: int) -> dict[str, Any]:
    """Channels are z-scored by nnU-Net, each by itself, under these names."""
    channels = _CHANNELS[reader.manifest.channels]
    return {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {name: value for value, name in enumerate(reader.names)},
        "numTraining": num_training,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        "name": reader.manifest.name,
        "description": f"{reader.manifest.name}@{reader.manifest.version}, synthetic",
    }


def _write_splits(root: Path, splits: tuple[str, ...]) -> None:
    """One fold: trained on `train`, validated on what is neither that nor `test`. nnU-Net looks for
    the file in its folder of preprocessed data: copy it there. Removes the lists of cases."""
    others = [split for split in splits if split not in (TRAIN_SPLIT, TEST_SPLIT)]
    if TRAIN_SPLIT in splits and others:
        with (root / SPLITS_FILE).open("w") as target:
            target.write('[{"train": [')
            _write_cases(root, [TRAIN_SPLIT], target)
            target.write('], "val": [')
            _write_cases(root, others, target)
            target.write("]}]\n")
    for split in splits:
        (root / f"{split}.partial").unlink()


def _write_cases(root: Path, splits: list[str], target: TextIO) -> None:
    separator = ""
    for split in splits:
        with (root / f"{split}.partial").open() as cases:
            for case in cases:
                target.write(f'{separator}"{case.rstrip()}"')
                separator = ", "
