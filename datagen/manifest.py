"""The manifest: what a dataset version consists of. Its existence is the version's existence.

Holds nothing that a replay would write differently: no times, no worker names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from datagen.errors import VerifyError
from datagen.recipe import canonical_json

MANIFEST_FORMAT = 1
TRAIN_SPLIT = "train"


@dataclass(frozen=True)
class ObjectEntry:
    """One immutable object. path: relative to the version's prefix."""

    path: str
    sha256: str
    size_bytes: int
    num_samples: int = 0
    split: str | None = None


@dataclass(frozen=True)
class SourceEntry:
    """Real images that the model was trained on, and what they may be used for: so may what the
    model makes. depth: of generation, 0 for real images."""

    name: str
    version: int
    licence: str
    permitted_use: str
    depth: int = 0


@dataclass(frozen=True)
class Manifest:
    """digest: of the dataset (see engine.finish). counts: class name -> split -> images.

    shortfall: class name -> images missing, empty unless the recipe publishes short.
    performance_claims: what may be said of models by these images, see claims_of; empty in
    manifests of before it was stated. sources: of the model's training; empty if its facts name
    none.
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
    performance_claims: str = ""
    sources: list[SourceEntry] = field(default_factory=list)
    format: int = MANIFEST_FORMAT

    @property
    def num_samples(self) -> int:
        return sum(n for splits in self.counts.values() for n in splits.values())

    @property
    def bits(self) -> int:
        """Of a pixel's channel, 8 or 16."""
        return int(self.recipe.get("output", {}).get("bits", 8))

    @property
    def label_names(self) -> tuple[str, ...]:
        """Of the values of label maps and the classes of objects, the first "background"; empty if
        the images have a class alone."""
        return tuple(str(name) for name in self.recipe.get("conditioning", {}).get("names", ()))

    @property
    def has_labels(self) -> bool:
        """Whether its images have labels beside their class."""
        further = (c.get("also") or c.get("caption") for c in self.recipe["classes"])
        return bool(self.recipe.get("conditioning")) or any(further)

    @property
    def label_kinds(self) -> frozenset[str]:
        """Of mask, instances, boxes (of objects without instances) and keypoints."""
        return frozenset(self.recipe.get("conditioning", {}).get("label_kinds", ()))

    @property
    def has_label_maps(self) -> bool:
        return bool(self.label_kinds & {"mask", "instances"})

    @property
    def label_tasks(self) -> list[str]:
        """What can be learned from them beside classes."""
        tasks = []
        if self.label_kinds & {"instances", "boxes"}:
            tasks.append("object detection")
        if "mask" in self.label_kinds:
            tasks.append("image segmentation")
        return tasks

    @property
    def has_real_parts(self) -> bool:
        """Whether its images are real ones outside the part that the model painted."""
        return bool(self.recipe.get("conditioning", {}).get("kind") == "inpaint")

    @property
    def splits_not_for_claims(self) -> list[str]:
        return _not_for_claims(self.counts)

    def to_bytes(self) -> bytes:
        content = asdict(self)
        for name in ("performance_claims", "sources"):
            if not content[name]:  # so that what was read is written as it was
                del content[name]
        return canonical_json(content) + b"\n"

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
            content["sources"] = [SourceEntry(**entry) for entry in content.get("sources", ())]
            content["image_size"] = tuple(content["image_size"])
            known = {each.name for each in fields(cls)}
            content = {name: content[name] for name in content if name in known}
            return cls(**content)
        except (ValueError, KeyError, TypeError) as error:
            raise VerifyError(
                f"manifest.json is damaged or of another format ({error}); restore it from a backup"
            ) from None


def claims_of(counts: Mapping[str, Mapping[str, int]]) -> str:
    """counts: class name -> split -> images. Any synthetic split but the training one is marked:
    performance is claimed on real images."""
    splits = _not_for_claims(counts)
    return f"not for performance claims: {', '.join(splits)}" if splits else "train split only"


def _not_for_claims(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    filled = {split for by_split in counts.values() for split, num in by_split.items() if num}
    return sorted(filled - {TRAIN_SPLIT})
