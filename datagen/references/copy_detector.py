"""Finds training images that an image copies, whatever it was disguised by.

Called by evaluation/privacy (planted copies, rates), references/fit.py and the filter near_copy.
Candidates are looked up (copy_candidates.py), laid over the image (copy_registration.py), and the
best of them is judged (copy_verifier.py). The result of an image does not depend on its neighbours:
every step runs at one batch shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.references.copy_candidates import WIDE, Candidates, Looks
from datagen.references.copy_codes import LOOKS, Codes, checked_tensors, encode
from datagen.references.copy_descriptor import FEATURE_BLOCK, Descriptor, extract_features
from datagen.references.copy_registration import Fit, align, register, sample
from datagen.references.copy_score import agreement, threshold_at
from datagen.references.copy_verifier import Verifier, draw_pictures, learn_verifier
from datagen.references.copy_views import Strength, disguise, to_luminance, working_size
from datagen.references.threads import in_threads

BATCH = 32
MIN_ORIGINALS = 20
COARSE_STEPS, FINE_STEPS, LAST_STEPS = 2, 2, 3
NUM_FINALISTS = 12
NUM_LESSONS = 1536
BLENDED = Strength(0, 1, 0, blend=0.4, noise=0.09, move_probability=0, blend_probability=0.7)
NOISY = Strength(0, 1, 0, blend=0, noise=0.1, move_probability=0, blend_probability=0)
MIXED = Strength(12, 0.85, 0.08, blend=0.3, noise=0.06, move_probability=0.6, blend_probability=0.3)
SHIFTED = Strength(16, 0.9, 0.15, blend=0, noise=0.03, move_probability=0.6, blend_probability=0)
LESSONS_PER_IMAGE = 2
LESSONS = (WIDE, BLENDED, MIXED, NOISY, SHIFTED)


def quiet(_: str) -> None: ...


def never() -> None: ...


@dataclass(frozen=True)
class CopyMatches:
    """score: (N,) float64, log odds of being a copy, 4 decimals. original: (N,) rows of the
    training images. disguise: what registration found, in words."""

    score: NDArray[np.float64]
    original: NDArray[np.int64]
    disguise: tuple[str, ...]


@dataclass(frozen=True)
class CopyDetector:
    """thumbnails: (N, 1, S, S) float16 luminance in [0, 1]. threshold: scores above are copies;
    None until `calibrate` was called. codes: what `state` stores, see `fit`."""

    thumbnails: torch.Tensor
    looks: Looks
    verifier: Verifier | None
    threshold: float | None = None
    fpr: float | None = None
    codes: Codes | None = None

    @classmethod
    def fit(
        cls,
        train_images: NDArray[np.uint8],
        *,
        seed: int,
        num_lessons: int = NUM_LESSONS,
        is_compact: bool = False,
        on_progress: Callable[[str], None] = quiet,
        check_abort: Callable[[], None] = never,
    ) -> CopyDetector:
        """train_images: (N, H, W, C). num_lessons: disguised images that the verifier
        learns from. is_compact: originals are kept in about 100 bytes each, which `state` can
        store; it finds fewer copies."""
        if len(train_images) < MIN_ORIGINALS:
            raise InputError(
                f"{len(train_images)} training images: the search for copies needs at least"
                f" {MIN_ORIGINALS}"
            )
        size = working_size(*train_images.shape[1:3])
        parts = []
        for start in range(0, len(train_images), 1000):
            check_abort()
            parts.append(to_luminance(train_images[start : start + 1000], size).half())
        thumbnails = torch.cat(parts)
        generator = torch.Generator().manual_seed(seed)
        on_progress(f"copies: learning what disguises change, {len(thumbnails)} images")
        looks = Looks.learn(thumbnails, generator)
        check_abort()
        detector = cls(thumbnails, looks, None)
        if is_compact:
            detector = detector._compact()
        on_progress("copies: learning what tells a copy from a look-alike")
        copies, others = detector._lessons(thumbnails, num_lessons, generator, check_abort)
        verifier = learn_verifier(torch.cat(copies), torch.cat(others), generator)
        return replace(detector, verifier=verifier)

    def calibrate(
        self,
        held_out_images: NDArray[np.uint8],
        fpr: float,
        *,
        check_abort: Callable[[], None] = never,
    ) -> CopyDetector:
        """held_out_images: real ones that no model was trained on. fpr: share of them that may be
        called copies."""
        scores = self.search(held_out_images, check_abort=check_abort).score
        return self.with_threshold(scores, fpr)

    def with_threshold(self, held_out_scores: NDArray[np.float64], fpr: float) -> CopyDetector:
        return replace(self, threshold=threshold_at(held_out_scores, fpr), fpr=fpr)

    def _compact(self) -> CopyDetector:
        codes = encode(self.thumbnails)
        rounded = [each.descriptor.half() for each in self.looks.all()]
        thumbnails = codes.decode()
        looks = Looks.rebuild(thumbnails, [each.float() for each in rounded])
        return CopyDetector(thumbnails, looks, None, codes=codes)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Of one that was fitted with is_compact, for safetensors."""
        assert self.codes is not None
        assert self.verifier is not None
        tensors = {
            **self.codes.tensors(),
            **self.verifier.tensors(),
            "settings": torch.tensor(
                [math.nan if each is None else each for each in (self.threshold, self.fpr)],
                dtype=torch.float64,
            ),
        }
        for name, look in zip(LOOKS, self.looks.all(), strict=True):
            tensors[f"{name}.mean"] = look.descriptor.mean.half()
            tensors[f"{name}.projection"] = look.descriptor.projection.half()
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> CopyDetector:
        """Raises ModelError if an array is missing or has another shape, type or range."""
        tensors = checked_tensors(state)
        codes = Codes.from_tensors(tensors)
        thumbnails = codes.decode()
        descriptors = [
            Descriptor(tensors[f"{name}.mean"], tensors[f"{name}.projection"]).float()
            for name in LOOKS
        ]
        threshold, fpr = (
            None if math.isnan(each) else each for each in tensors["settings"].tolist()
        )
        return cls(
            thumbnails,
            Looks.rebuild(thumbnails, descriptors),
            Verifier.from_tensors(tensors),
            threshold,
            fpr,
            codes,
        )

    @property
    def num_originals(self) -> int:
        return len(self.thumbnails)

    @torch.inference_mode()
    def describe(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, C) => (N, dim) of length 1: alike if they would be blends of each other."""
        size = self.thumbnails.shape[-1]
        parts = [np.zeros((0, self.looks.still.originals.shape[1]), np.float32)]
        for start in range(0, len(images), FEATURE_BLOCK):
            some = to_luminance(images[start : start + FEATURE_BLOCK], size)
            parts.append(self.looks.still.descriptor.describe(extract_features(some)).numpy())
        return np.concatenate(parts)

    def search(
        self, images: NDArray[np.uint8], *, check_abort: Callable[[], None] = never
    ) -> CopyMatches:
        """images: (N, H, W, C) uint8, of any size."""
        assert self.verifier is not None
        size = self.thumbnails.shape[-1]

        def work(start: int) -> CopyMatches:
            found = self._inspect(to_luminance(images[start : start + BATCH], size))
            return CopyMatches(found.scores.round(4), found.originals, tuple(found.disguises))

        found = in_threads(work, range(0, len(images), BATCH), check_abort)
        return CopyMatches(
            np.concatenate([np.zeros(0), *(each.score for each in found)]),
            np.concatenate([np.zeros(0, np.int64), *(each.original for each in found)]),
            tuple(words for each in found for words in each.disguise),
        )

    @torch.inference_mode()
    def _inspect(self, images: torch.Tensor, excluded: torch.Tensor | None = None) -> _Finding:
        """At most BATCH images, filled up to BATCH."""
        num = len(images)
        queries = torch.cat([images, images.new_zeros(BATCH - num, *images.shape[1:])])
        if excluded is not None:
            excluded = torch.cat([excluded, excluded.new_zeros(BATCH - num)])
        candidates = self.looks.find(queries, excluded)
        first = self._first_pass(queries, candidates)
        promise = agreement(first) + candidates.likeness
        if excluded is not None:  # among few originals it still is a candidate
            promise = promise.masked_fill(candidates.rows == excluded.view(-1, 1), -math.inf)
        top = promise.topk(min(NUM_FINALISTS, promise.shape[1]), 1)[1]
        rows, early = candidates.rows.gather(1, top), _pick(first, top)
        originals = self._originals(rows)
        late = register(
            queries, originals, early.theta, fine_steps=FINE_STEPS, affine_steps=LAST_STEPS
        )
        other = register(
            queries,
            originals,
            candidates.other_theta.gather(1, top[..., None, None].expand(*top.shape, 2, 3)),
            coarse_steps=COARSE_STEPS,
            fine_steps=FINE_STEPS,
            affine_steps=LAST_STEPS,
        )
        fit = _better(_better(early, late), other)
        still = self._likeness_in_place(queries, rows, fit)
        order = (agreement(fit) + still).argsort(1, descending=True)
        rows, fit = rows.gather(1, order), _pick(fit, order)
        words = [
            name_disguise(theta, float(smooth))
            for theta, smooth in zip(fit.theta[:num, 0], fit.smooth[:num, 0], strict=True)
        ]
        pictures = self._pictures(queries, rows, fit)
        scores = np.zeros(BATCH) if self.verifier is None else self.verifier.score(pictures)
        return _Finding(pictures[:num], rows[:num, 0].numpy(), words, scores[:num])

    def _pictures(self, queries: torch.Tensor, rows: torch.Tensor, fit: Fit) -> torch.Tensor:
        """Of the best candidate and the next that is another original."""
        other = (rows != rows[:, :1]).int().argmax(1, keepdim=True)
        two = torch.cat([torch.zeros_like(other), other], 1)
        theta = _pick(fit, two).theta
        seen, inside = sample(
            self._originals(rows.gather(1, two)).flatten(0, 1), theta.flatten(0, 1)
        )
        shape = (len(rows), 2, *queries.shape[2:])
        return draw_pictures(queries, seen.view(shape), inside.view(shape))

    def _likeness_in_place(
        self, queries: torch.Tensor, rows: torch.Tensor, fit: Fit
    ) -> torch.Tensor:
        """(B, K): cosine of the look for copies that were not moved, after registration."""
        describe = self.looks.still.descriptor.describe
        aligned = align(queries, self._originals(rows), fit.theta)
        theirs = describe(extract_features(aligned)).view(*rows.shape, -1)
        return (theirs @ describe(extract_features(queries)).unsqueeze(2)).squeeze(2)

    def _first_pass(self, queries: torch.Tensor, candidates: Candidates) -> Fit:
        """Moved candidates are registered; the others are compared where they are."""
        num = candidates.num_moved
        moved = register(
            queries,
            self._originals(candidates.rows[:, :num]),
            candidates.theta[:, :num],
            coarse_steps=COARSE_STEPS,
            fine_steps=FINE_STEPS,
        )
        still = self._originals(candidates.rows[:, num:])
        plain, mirrored = (
            register(queries, still, theta[:, num:])
            for theta in (candidates.theta, candidates.other_theta)
        )
        parts = (moved, _better(plain, mirrored))
        return Fit(
            torch.cat([each.theta for each in parts], 1),
            torch.cat([each.smooth for each in parts], 1),
            torch.cat([each.detail for each in parts], 1),
        )

    def _originals(self, rows: torch.Tensor) -> torch.Tensor:
        return self.thumbnails[rows].float()

    def _lessons(
        self,
        thumbnails: torch.Tensor,
        num: int,
        generator: torch.Generator,
        check_abort: Callable[[], None],
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Pictures. thumbnails: of the originals as they are, not as they are kept. Disguised ones
        are copies; those whose original is hidden from the search are not."""
        order = torch.randperm(self.num_originals, generator=generator)
        tasks = []
        for number, rows in enumerate(order.repeat(LESSONS_PER_IMAGE)[:num].split(BATCH)):
            plain, kind = thumbnails[rows].float(), number % len(LESSONS)
            disguised = disguise(plain, LESSONS[kind], generator)
            tasks += [(disguised, rows, True), (plain, rows, False)]
            if kind == number // len(LESSONS) % len(LESSONS):
                # Else a disguise alone would pass for a copy, and its absence for innocence.
                tasks += [(disguised, rows, False), (plain, rows, True)]

        def work(task: tuple[torch.Tensor, torch.Tensor, bool]) -> torch.Tensor:
            images, rows, is_copy = task
            found = self._inspect(images, None if is_copy else rows)
            is_named = torch.from_numpy(found.originals) == rows
            return found.pictures[is_named] if is_copy else found.pictures

        pictures = in_threads(work, tasks, check_abort)
        copies = [each for each, task in zip(pictures, tasks, strict=True) if task[2]]
        return copies, [each for each, task in zip(pictures, tasks, strict=True) if not task[2]]


@dataclass(frozen=True)
class _Finding:
    """pictures: (N, NUM_LAYERS, S, S), of the best candidate. originals: (N,) its rows. scores:
    (N,), 0 before a verifier was learned."""

    pictures: torch.Tensor
    originals: NDArray[np.int64]
    disguises: list[str]
    scores: NDArray[np.float64]


def _pick(fit: Fit, order: torch.Tensor) -> Fit:
    theta = fit.theta.gather(1, order[..., None, None].expand(*order.shape, 2, 3))
    return Fit(theta, fit.smooth.gather(1, order), fit.detail.gather(1, order))


def _better(a: Fit, b: Fit) -> Fit:
    """Of each pair, whichever agrees more: a blend may lead registration astray."""
    first = agreement(a) >= agreement(b)
    return Fit(
        torch.where(first[..., None, None], a.theta, b.theta),
        torch.where(first, a.smooth, b.smooth),
        torch.where(first, a.detail, b.detail),
    )


def name_disguise(theta: torch.Tensor, smooth: float) -> str:
    """In words, from the move that was found. theta: (2, 3)."""
    linear, shift = theta[:, :2].double().numpy(), theta[:, 2].double().numpy()
    words = []
    if np.linalg.det(linear) < 0:
        words.append("mirrored")
        linear = linear * np.array([-1.0, 1.0])
    angle = np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    scale = np.sqrt(abs(np.linalg.det(linear)))
    if abs(angle) > 3:
        words.append(f"rotated by {abs(angle):.0f} degrees")
    if scale < 0.96:
        words.append(f"cropped to {scale:.0%}")
    if np.abs(shift).max() > max(0.05, 1.2 * (1 - scale)):
        words.append(f"shifted by {np.abs(shift).max() / 2:.0%}")
    if smooth < 0.95:
        words.append("blended or retouched")
    return ", ".join(words) or "as it is"
