"""The manifest: what a dataset version consists of. Its existence is the version's existence.

Holds nothing that a replay would write differently: no times, no worker names.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from datagen.errors import VerifyError
from datagen.recipe import canonical_json

MANIFEST_FORMAT = 1


@dataclass(frozen=True)
class ObjectEntry:
    """One immutable object. path: relative to the version's prefix."""

    path: str
    sha256: str
    size_bytes: int
    num_samples: int = 0
    split: str | None = None


@dataclass(frozen=True)
class Manifest:
    """digest: of the dataset (see engine.finish). counts: class name -> split -> images.

    shortfall: class name -> images missing, empty unless the recipe publishes short.
    """

    name: str
    version: int
    digest: str
    recipe_digest: str
    recipe: dict[str, Any]
    model: dict[str, str]
    image_size: tuple[int, int]
    channels: int
    counts: dict[str, dict[str, int]]
    fingerprint: dict[str, Any]
    code_version: str
    shards: list[ObjectEntry]
    index: list[ObjectEntry]
    documents: list[ObjectEntry]
    shortfall: dict[str, int] = field(default_factory=dict)
    format: int = MANIFEST_FORMAT

    @property
    def num_samples(self) -> int:
        return sum(n for splits in self.counts.values() for n in splits.values())

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self)) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Raises VerifyError if the bytes are not a manifest of this format."""
        import json

        try:
            content = json.loads(data)
            if content["format"] != MANIFEST_FORMAT:
                raise ValueError(f"format {content['format']}")
            for part in ("shards", "index", "documents"):
                content[part] = [ObjectEntry(**entry) for entry in content[part]]
            content["image_size"] = tuple(content["image_size"])
            return cls(**content)
        except (ValueError, KeyError, TypeError) as error:
            raise VerifyError(
                f"manifest.json is damaged or of another format ({error}); restore it from a backup"
            ) from None
