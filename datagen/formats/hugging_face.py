"""What Hugging Face's `datasets` wants to be told: split names, features, README front matter.

Used by the card and by the imagefolder and parquet exporters.
Source: https://huggingface.co/docs/hub/datasets-cards and .../datasets-manual-configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datagen.errors import InputError


def front_matter(content: Mapping[str, Any]) -> str:
    """The YAML block that opens a README.md."""
    import yaml

    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{text}---\n"


def split_names(splits: Sequence[str]) -> dict[str, str]:
    """Our split name -> theirs, which knows no dash.

    Raises InputError if two splits would get one name.
    """
    names = {split: split.replace("-", "_") for split in splits}
    if len(set(names.values())) < len(names):
        raise InputError(
            f"splits {', '.join(splits)}: Hugging Face split names have no dash, and two would be "
            "the same with '_' in its place; pull as webdataset, or rename a split in the recipe"
        )
    return names


def split_configs(patterns: Mapping[str, str]) -> list[dict[str, Any]]:
    """patterns: their split name -> glob. Needed for any split that is not train, val or test."""
    data_files = [{"split": split, "path": path} for split, path in patterns.items()]
    return [{"config_name": "default", "data_files": data_files}]
