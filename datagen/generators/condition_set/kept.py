"""Items in memory, shared by the jobs of a process; and what is known of them before they are read.

Called by conditioner.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from datagen.errors import ModelError
from datagen.generators.condition_set.items import TABLE, Items, load_items
from datagen.generators.interface import ModelConfig
from datagen.safetensors_header import read_tensor

_MAX_SETS = 2  # of up to 1 GiB each
_MAX_TABLE_BYTES = 1 << 26  # read by every check of a recipe; some 600,000 items


@dataclass(frozen=True)
class SetFile:
    """A weights file as it was when a job opened it. told: of its config."""

    path: Path
    changed_ns: int
    size_bytes: int
    told: str
    config: ModelConfig = field(compare=False)

    @classmethod
    def of(cls, path: Path, config: ModelConfig) -> SetFile:
        """One that cannot be read is told of where it is read."""
        try:
            found = path.stat()
        except OSError:
            return cls(path, 0, 0, str(config), config)
        return cls(path, found.st_mtime_ns, found.st_size, str(config), config)


@lru_cache(maxsize=_MAX_SETS)
def kept_items(file: SetFile) -> Items:
    """The sets last drawn from stay in memory, whatever number of jobs draws from them. Raises
    ModelError as load_items does."""
    return load_items(file.path, file.config)


def told_groups(path: Path, config: ModelConfig) -> tuple[tuple[str, str], ...] | None:
    """Of each item, as it was fitted: its group, joined with those that share an equal item, and
    its class. Reads the table alone; None where it does not say, or cannot be read: what is drawn
    is joined anew, and told of then."""
    try:
        data = read_tensor(path, TABLE, types=("U8",), max_bytes=_MAX_TABLE_BYTES)
        content = json.loads(data.tobytes())
        joined = [str(group) for group in content["joined"]]
        class_names = [config.class_names[int(each)] for each in content["class_ids"]]
        return tuple(zip(joined, class_names, strict=True))
    except (OSError, ModelError, ValueError, TypeError, LookupError, RecursionError):
        return None
