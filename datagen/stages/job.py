"""What the stages of one job share: the pinned job, its recipe and plan, and caches.

One JobWork per worker process and job. Called by engine.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast

import numpy as np

from datagen.augment import Augmenter
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import Job, StoredAttempt
from datagen.conditions import Condition, Mix, condition_digest
from datagen.detectors import labels_from
from datagen.errors import DamagedAttemptsError, JobError, RetryableError, StoreError
from datagen.filters import FILTERS
from datagen.filters.interface import scores_of
from datagen.generators.interface import ConditionedSampler, Sampler
from datagen.images import Pixels, dtype_of, to_8_bits
from datagen.labels import Attribute, Labels
from datagen.plan import Plan
from datagen.recipe import ClassRequest, canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.stages.read_ahead import ReadAhead
from datagen.store import Store
from datagen.versions import version_prefix

# Beside the scores of an attempt: the digest of its condition. No filter has a space in its name.
CONDITION_KEY = "condition drawn"
_GAP_BYTES = 2**17
_PIECE_BYTES = 2**23
_MAX_READS = 16
# Of the images that follow those asked for, this many times as many are read with them.
_AHEAD, _AHEAD_BYTES = 8, 2**21


class Place(NamedTuple):
    """Which image of a recipe."""

    class_name: str
    ordinal: int
    split: str


@dataclass
class JobWork:
    """Everything is loaded on first use: a worker that only packs never imports torch."""

    job: Job
    resolved: ResolvedRecipe
    plan: Plan
    catalog: Catalog
    store: Store
    settings: Settings
    load_sampler: Callable[[], Sampler]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.resolved.config.image_size, self.resolved.config.channels)

    @property
    def image_bytes(self) -> int:
        return math.prod(self.image_shape) * self.pixel_dtype.itemsize

    @property
    def pixel_dtype(self) -> np.dtype[Any]:
        """Of raw images, in memory and in attempt objects."""
        return dtype_of(self.resolved.config.bits)

    @property
    def prefix(self) -> str:
        return version_prefix(self.settings.tenant, self.job.name, self.job.version)

    @cached_property
    def attributes_json(self) -> tuple[str, ...]:
        """Canonical JSON of each class's attributes."""
        classes = self.resolved.recipe.classes
        return tuple(canonical_json(c.attributes).decode() for c in classes)

    def attributes_of(self, class_index: int, *, seed: int, ordinal: int) -> str:
        """Canonical JSON of the attributes of one image."""
        resolved = self.resolved
        if resolved.prompts is None and resolved.recipe.conditioning.mix is None:
            return self.attributes_json[class_index]
        request = resolved.recipe.classes[class_index]
        return canonical_json(
            dict(attributes_of(resolved, request, seed=seed, ordinal=ordinal))
        ).decode()

    @property
    def sampler(self) -> Sampler:
        """Kept by who loads it, within its memory."""
        return self.load_sampler()

    @cached_property
    def augmenter(self) -> Augmenter:
        return augmenter_of(self.resolved)

    @cached_property
    def raw_images(self) -> RawImages:
        return RawImages(self.store, self.image_shape, self.pixel_dtype)

    def score(self, images: Pixels, class_names: Sequence[str]) -> list[str]:
        """Every filter of the recipe scores every attempt, and its detector looks at it; JSON per
        image."""
        scores = score_images(images, class_names, self.resolved)
        key, detector = self.resolved.detector_key, self.resolved.detector
        if key is None or detector is None or len(images) == 0:
            return scores
        found = detector.detect(to_8_bits(images), class_names)
        return [
            json.dumps(json.loads(each) | {key: text})
            for each, text in zip(scores, found, strict=True)
        ]


def augmenter_of(resolved: ResolvedRecipe) -> Augmenter:
    return Augmenter(
        resolved.recipe.augmentations,
        image_size=resolved.config.image_size,
        channels=resolved.config.channels,
        bits=resolved.config.bits,
        min_visibility=resolved.recipe.labels.min_visibility,
    )


def draw_images(
    sampler: Sampler,
    resolved: ResolvedRecipe,
    seeds: Sequence[int],
    places: Sequence[Place],
) -> tuple[Pixels, list[str]]:
    """Raw images, (N, H, W, C), of at most one batch, and the digest of what each one's conditioner
    drew; none if there is no conditioner."""
    ids = {c.name: i for c, i in zip(resolved.recipe.classes, resolved.class_ids, strict=True)}
    class_ids = [ids[place.class_name] for place in places]
    if not resolved.takes_conditions:
        return sampler.sample(seeds, class_ids), []
    drawn = [_draw(resolved, seed, place) for seed, place in zip(seeds, places, strict=True)]
    told = [
        replace(_as_taken(condition, resolved), **_beside(resolved, seed, place))
        for condition, seed, place in zip(drawn, seeds, places, strict=True)
    ]
    images = cast(ConditionedSampler, sampler).sample_conditioned(seeds, class_ids, told)
    if resolved.conditioner_model is None:
        return images, []
    return images, [condition_digest(condition) for condition in drawn]


def _draw(resolved: ResolvedRecipe, seed: int, place: Place) -> Condition:
    """What its conditioner draws; the class alone where there is none."""
    if resolved.conditioner_model is None:
        return Condition(Labels(place.class_name))
    assert resolved.conditioner is not None
    return resolved.conditioner.draw(seed, place.class_name, place.split)


def _beside(resolved: ResolvedRecipe, seed: int, place: Place) -> dict[str, Any]:
    """The parts of a condition that no conditioner draws."""
    parts: dict[str, Any] = {}
    if resolved.prompts is not None:
        parts["prompt"] = resolved.prompts.of(place.class_name, place.ordinal)
    if resolved.takes_pool:
        parts["pool"] = resolved.pool_of(place.split)
    mix = mix_of(resolved, seed, place.class_name)
    if mix is not None and mix.kind == "images":
        mix = replace(mix, image=_draw(resolved, mix.seed, place).image)
    if mix is not None and mix.kind == "classes" and resolved.prompts is not None:
        counts = {c.name: c.count for c in resolved.recipe.classes}
        ordinal = place.ordinal % counts[mix.class_name]
        mix = replace(mix, prompt=resolved.prompts.of(mix.class_name, ordinal))
    return parts | ({"mix": mix} if mix is not None else {})


def mix_of(resolved: ResolvedRecipe, seed: int, class_name: str) -> Mix | None:
    """Where between two ends the image of an attempt's seed lies, without the other picture."""
    request = resolved.recipe.conditioning.mix
    if request is None:
        return None
    from datagen.mixing import draw_mix

    class_names = [c.name for c in resolved.recipe.classes]
    return draw_mix(request, seed, class_name, class_names, resolved.class_ids)


def _as_taken(condition: Condition, resolved: ResolvedRecipe) -> Condition:
    """With the values that the model was trained on: who draws label maps may number them another
    way. What is told of the image, `labels`, keeps its own."""
    taken, drawn = resolved.config.condition, resolved.names
    if condition.mask is None or taken is None or taken.kind == "image" or not taken.names:
        return condition  # who is told no names is told of regions by their numbers
    if taken.names[: len(drawn)] == drawn:
        return condition
    values = np.array([taken.names.index(name) for name in drawn], np.uint8)
    return replace(condition, mask=values[condition.mask])


def has_more_labels(resolved: ResolvedRecipe) -> bool:
    """Whether images have labels beside their class."""
    drawn = (resolved.conditioner, resolved.prompts, resolved.recipe.labels.detector)
    if any(each is not None for each in drawn):
        return True
    return any(c.also or c.caption is not None for c in resolved.recipe.classes)


def labels_of(
    resolved: ResolvedRecipe,
    request: ClassRequest,
    *,
    seed: int,
    ordinal: int,
    split: str,
    kept: Mapping[str, Any] | None = None,
) -> Labels | None:
    """What is true of a raw image, by its attempt's seed; None where it has a class alone.

    kept: with the attempt, beside its scores: the digest of what the image was made to fit, and
    what a detector found in it. Raises JobError if another condition is drawn here: the labels
    would be false.
    """
    kept = kept or {}
    condition = kept.get(CONDITION_KEY)
    if not has_more_labels(resolved):
        return None
    labels = Labels(request.name)
    if resolved.conditioner is not None:
        drawn = resolved.conditioner.draw(seed, request.name, split)
        if condition is not None and condition_digest(drawn) != condition:
            raise JobError(
                f"class {request.name}, seed {seed}: another condition is drawn here than its "
                "image was made to fit; the workers differ in their code or libraries (numpy, "
                "OpenCV, SciPy): bring them to one release, and run the recipe anew"
            )
        labels = drawn.labels
    found = kept.get(resolved.detector_key or "")
    if found is not None and resolved.detector is not None:
        labels = replace(labels, **labels_from(found, resolved.names)._asdict())
    caption = request.caption
    if caption is None and resolved.prompts is not None:
        caption = resolved.prompts.of(request.name, ordinal).text
    return replace(
        labels,
        class_name=request.name,
        attributes=attributes_of(resolved, request, seed=seed, ordinal=ordinal),
        also=request.also,
        caption=labels.caption if caption is None else caption,
    )


def attributes_of(
    resolved: ResolvedRecipe, request: ClassRequest, *, seed: int, ordinal: int
) -> Mapping[str, Attribute]:
    """Those of the class, those that its prompt names, and the other end of its mix."""
    attributes = dict(request.attributes)
    if resolved.prompts is not None:
        attributes |= resolved.prompts.of(request.name, ordinal).attributes
    mix = mix_of(resolved, seed, request.name)
    if mix is not None:
        attributes |= {"mix_weight": round(mix.weight, 6), "mix_with": _other_end(mix)}
    return attributes


def _other_end(mix: Mix) -> str:
    return mix.class_name if mix.kind == "classes" else f"{mix.kind} {mix.seed}"


def score_images(images: Pixels, class_names: Sequence[str], resolved: ResolvedRecipe) -> list[str]:
    """images: (N, H, W, C); filters see them with 8 bits. class_names: of each. Returns N JSON
    objects, score key -> score."""
    if not resolved.filters or len(images) == 0:
        return ["{}"] * len(images)
    seen = to_8_bits(images)
    keys = [resolved.score_keys[name] for name in resolved.filters]
    columns = [
        scores_of(FILTERS[name], options, seen, class_names, resolved.reference_of(name))
        for name, options in resolved.filters.items()
    ]
    return [json.dumps(dict(zip(keys, row, strict=True))) for row in zip(*columns, strict=True)]


class RawImages:
    """Raw images out of attempt objects: (N, H, W, C) in C order, without a header."""

    def __init__(
        self,
        store: Store,
        image_shape: tuple[int, int, int],
        dtype: np.dtype[Any],
    ) -> None:
        self._read_ahead = ReadAhead(store)
        self._shape = image_shape
        self._dtype = dtype
        self._bytes = math.prod(image_shape) * dtype.itemsize

    def load(self, attempts: Iterable[StoredAttempt]) -> dict[StoredAttempt, Pixels]:
        """(H, W, C) of each. Raises DamagedAttemptsError if an object is missing, or an image is
        not the one that was scored.

        The images that a shard takes from one object lie side by side, or nearly: they are read in
        one piece, together with those that the next shards will want.
        """
        by_object: dict[str, list[StoredAttempt]] = {}
        for attempt in attempts:
            by_object.setdefault(attempt.object_key, []).append(attempt)
        images: dict[StoredAttempt, Pixels] = {}
        for object_key, wanted in by_object.items():
            wanted.sort(key=lambda attempt: attempt.position)
            for piece in self._pieces(wanted):
                images |= self._load_piece(object_key, piece)
        return images

    def _pieces(self, wanted: Sequence[StoredAttempt]) -> Iterator[list[StoredAttempt]]:
        """Cuts where a gap costs more to read than another request, or the piece grows large."""
        piece: list[StoredAttempt] = []
        for attempt in wanted:
            if piece:
                gap = (attempt.position - piece[-1].position) * self._bytes
                length = (attempt.position - piece[0].position) * self._bytes
                if gap > _GAP_BYTES or length > _PIECE_BYTES:
                    yield piece
                    piece = []
            piece.append(attempt)
        if piece:
            yield piece

    def _load_piece(
        self, object_key: str, piece: Sequence[StoredAttempt]
    ) -> dict[StoredAttempt, Pixels]:
        first, last = piece[0].position, piece[-1].position
        changed = first

        def is_sound(data: bytes) -> bool:
            nonlocal changed
            images = memoryview(data)
            for attempt in piece:
                start = (attempt.position - first) * self._bytes
                image = images[start : start + self._bytes]
                if hashlib.sha256(image).hexdigest() != attempt.raw_sha256:
                    changed = attempt.position
                    return False
            return True

        def read() -> bytes:
            return self._read(object_key, first, last - first + 1, piece[0].object_images)

        data = read_sound(read, is_sound, forget=lambda: self._read_ahead.forget(object_key))
        if data is None:
            reason = f"image {changed} was changed after it was made"
            raise DamagedAttemptsError(object_key, reason)
        span = np.frombuffer(data, self._dtype).reshape(-1, *self._shape)
        return {attempt: span[attempt.position - first] for attempt in piece}

    def _read(self, object_key: str, first: int, count: int, object_images: int) -> bytes:
        start, length = first * self._bytes, count * self._bytes
        ahead, size = min(_AHEAD * length, _AHEAD_BYTES), object_images * self._bytes
        try:
            return self._read_ahead.get_range(object_key, start, length, ahead=ahead, size=size)
        except RetryableError:
            raise
        except StoreError as error:
            raise DamagedAttemptsError(object_key, str(error)) from error


def read_sound(
    read: Callable[[], bytes], is_sound: Callable[[bytes], bool], *, forget: Callable[[], None]
) -> bytes | None:
    """None if what is stored is wrong: the same wrong bytes came twice. A reply that is wrong in
    another way each time was changed on its way, and is asked for again. forget: drops what was
    kept of a wrong reply."""
    seen: set[bytes] = set()
    while len(seen) < _MAX_READS:
        data = read()
        if is_sound(data):
            return data
        forget()
        digest = hashlib.sha256(data).digest()
        if digest in seen:
            break
        seen.add(digest)
    return None
