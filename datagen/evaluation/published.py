"""The images of a published version, or of one about to be published, as an ImageSet.

Called by assessment.py and stages/evaluate.py.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.catalog.attempts import rejections_by_reason
from datagen.catalog.catalog import Catalog
from datagen.errors import InputError
from datagen.evaluation.evaluate import About
from datagen.evaluation.results import Funnel
from datagen.formats.version import VersionReader
from datagen.image_set import ImageSet
from datagen.images import Image, decode_png, to_8_bits
from datagen.manifest import Manifest
from datagen.real_images.listing import NOT_GIVEN

MAX_BYTES = 2**30


def load_published(
    reader: VersionReader, *, max_images: int, check_abort: Callable[[], None] = lambda: None
) -> ImageSet:
    """Names are sample keys. More than max_images, or than memory allows: as many of each class as
    its share, by a fixed draw; the notes say so. Images of 16 bits are seen with 8. Raises
    InputError if nothing is in it, VerifyError if it was changed."""
    manifest = reader.manifest
    image_bytes = manifest.image_size[0] * manifest.image_size[1] * manifest.channels
    chosen = _drawn(manifest, min(max_images, max(1, MAX_BYTES // image_bytes)))
    class_ids = {name: index for index, name in enumerate(reader.class_names)}
    seen = Counter[str]()
    images: list[Image] = []
    ids: list[int] = []
    names: list[str] = []
    attributes: list[Mapping[str, Any]] = []
    for sample in reader.iter_samples():
        class_name = sample.record["class_name"]
        place, seen[class_name] = seen[class_name], seen[class_name] + 1
        if seen.total() % 256 == 0:
            check_abort()
        if place not in chosen[class_name]:
            continue
        images.append(to_8_bits(decode_png(sample.png)))
        ids.append(class_ids[class_name])
        names.append(sample.key)
        attributes.append(sample.record["attributes"])
    if not images:
        raise InputError(f"data set {manifest.name}@{manifest.version} holds no image to evaluate")
    return ImageSet(
        images=np.stack(images),
        class_ids=np.array(ids, dtype=np.int64),
        class_names=reader.class_names,
        names=tuple(names),
        attributes=_columns(attributes),
        notes=_notes(manifest.num_samples, len(images)),
    )


def funnel_of(catalog: Catalog, job_id: int, manifest: Manifest) -> Funnel:
    """How many attempts were made of each class, and what became of them."""
    rejected = rejections_by_reason(catalog, job_id)
    classes = {}
    for name, by_split in manifest.counts.items():
        reasons, kept = rejected.get(name, {}), sum(by_split.values())
        attempts = kept + sum(reasons.values())
        classes[name] = {"attempts": attempts, **reasons, "kept": kept}
    return Funnel(classes)


def about_version(catalog: Catalog, job_id: int, manifest: Manifest) -> About:
    return About(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        counts={name: sum(by_split.values()) for name, by_split in manifest.counts.items()},
        performance_claims=manifest.performance_claims or "",
        provenance={
            "data set": f"{manifest.name}@{manifest.version}, digest {manifest.digest}",
            "recipe": manifest.recipe_digest,
            "model": f"{manifest.model['name']} ({manifest.model['digest'][:12]})",
            "made by": f"datagen {manifest.code_version}",
        },
        funnel=funnel_of(catalog, job_id, manifest),
    )


def _drawn(manifest: Manifest, max_images: int) -> dict[str, set[int]]:
    """class name -> places, in the order of the shards, of the images to take."""
    rng = np.random.default_rng(0)
    share = min(1.0, max_images / max(1, manifest.num_samples))
    drawn = {}
    for name, by_split in manifest.counts.items():
        count = sum(by_split.values())
        places: NDArray[np.int64] = rng.permutation(count)[: max(min(count, 2), int(count * share))]
        drawn[name] = set(places.tolist())
    return drawn


def _columns(attributes: list[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Attribute name -> a value for each image."""
    values: dict[str, list[str]] = defaultdict(list)
    for name in sorted({name for each in attributes for name in each}):
        values[name] = [str(each.get(name, NOT_GIVEN)) for each in attributes]
    return {name: tuple(column) for name, column in values.items()}


def _notes(num_samples: int, num_taken: int) -> tuple[str, ...]:
    if num_taken == num_samples:
        return ()
    return (f"{num_taken:,} of {num_samples:,} images were evaluated, drawn class by class",)
