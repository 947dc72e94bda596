"""The configuration files of a checked pipeline. Torch-free; called by what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.files import PipelineFolder

_MAX_BYTES = 16 << 20


def part_config(folder: PipelineFolder, part: str) -> dict[str, Any]:
    """Of a component; of the pipeline itself for "". Empty if it has none. Raises ModelError."""
    if not part:
        return _read(folder.folder / "model_index.json")
    if part not in folder.components:
        return {}
    for name in ("config.json", "scheduler_config.json"):
        path = folder.folder / part / name
        if path.is_file():
            return _read(path)
    return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"pipeline file {path}: cannot be read ({error}); save it again") from None
    return content if isinstance(content, dict) else {}


def levels_factor(config: dict[str, Any], *names: str) -> int:
    """2 for each level of a network but the first. names: the keys that may hold its widths."""
    for name in names or ("block_out_channels",):
        widths = config.get(name)
        if isinstance(widths, list) and 0 < len(widths) <= 16:
            return int(2 ** (len(widths) - 1))
    return 1
