"""Which originals a copy may come from: a wide look at all, a narrow look at the best of them.

Called by copy_detector.py. Exact search by matrix products: descriptors have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from datagen.references.copy_descriptor import (
    FEATURE_BLOCK,
    Change,
    Descriptor,
    extract_features,
    extract_moved,
    learn_descriptor,
    learn_from_changes,
)
from datagen.references.copy_views import (
    MOVES,
    SCALES,
    Strength,
    bank_of_views,
    disguise_known,
    from_query,
    see,
)

WIDE = Strength(rotation=16, crop=0.76, shift=0.08, blend=0.5, noise=0.09, blend_probability=0.1)
NARROW = Strength(rotation=16, crop=0.88, shift=0.11, blend=0.5, noise=0.09, blend_probability=0.1)
STILL = Strength(0, 1, 0, blend=0.5, noise=0.09, move_probability=0, blend_probability=0.7)
DIMS = (96, 96, 192)
NUM_WIDE, NUM_NARROW, NUM_STILL = 1500, 128, 16
WIDE_MOVES = (1, 3, 4, 5, 7)  # of the nine: none, and one to each side
UNMOVED = 4
EXCLUDED = -2.0


@dataclass(frozen=True)
class Look:
    """A descriptor and those of the originals: (N, dim)."""

    descriptor: Descriptor
    originals: torch.Tensor


@dataclass(frozen=True)
class Candidates:
    """rows: (B, K) of the originals. theta: (B, K, 2, 3), where registration starts.
    other_theta: the same in the other mirroring: what is nearly symmetric needs both. likeness:
    (B, K), cosine in the narrow look's best view. The last
    of them, after num_moved, were found by the look for copies that were not moved."""

    rows: torch.Tensor
    theta: torch.Tensor
    other_theta: torch.Tensor
    num_moved: int
    likeness: torch.Tensor


@dataclass(frozen=True)
class Looks:
    """wide, narrow: for copies that were moved. still: for blends and noise."""

    wide: Look
    narrow: Look
    still: Look

    @classmethod
    def learn(cls, thumbnails: torch.Tensor, generator: torch.Generator) -> Looks:
        features = _features_of(thumbnails)
        wide_dim, narrow_dim, still_dim = DIMS
        wide, still = (
            learn_descriptor(thumbnails, features, strength, dim=dim, generator=generator)
            for strength, dim in ((WIDE, wide_dim), (STILL, still_dim))
        )
        narrow = learn_from_changes(
            thumbnails, features, _as_seen_best(generator), dim=narrow_dim, generator=generator
        )
        looks = (Look(each, each.describe(features)) for each in (wide, narrow, still))
        return cls(*looks)

    @classmethod
    def rebuild(cls, thumbnails: torch.Tensor, descriptors: list[Descriptor]) -> Looks:
        features = _features_of(thumbnails)
        return cls(*(Look(each, each.describe(features)) for each in descriptors))

    def all(self) -> tuple[Look, Look, Look]:
        """In the order of `rebuild`."""
        return self.wide, self.narrow, self.still

    def find(self, queries: torch.Tensor, excluded: torch.Tensor | None = None) -> Candidates:
        """queries: (B, 1, S, S). excluded: (B,) one original each that may not be found."""
        step = round(MOVES[-1] * queries.shape[-1])
        seen = {
            (mirrored, scale): extract_moved(
                see(queries, mirrored=mirrored, scale=scale), (-step, 0, step)
            )
            for mirrored in (False, True)
            for scale in SCALES
        }
        near = self._wide_look(seen, excluded)
        described = self.narrow.descriptor.describe(torch.cat(list(seen.values()), 1))
        likeness, views = self._narrow_look(described, near)
        top = likeness.amax(2).topk(min(NUM_NARROW, near.shape[1]), 1)[1]
        rows = near.gather(1, top)
        each_side = top.unsqueeze(2).expand(*top.shape, 2)
        still_rows = self._still_look(seen, excluded)
        still_likeness, _ = self._narrow_look(described, still_rows)
        still_views = torch.tensor([UNMOVED, UNMOVED + described.shape[1] // 2])
        still_views = still_views.expand(*still_rows.shape, 2)
        likeness = torch.cat([likeness.gather(1, each_side), still_likeness], 1)
        views = torch.cat([views.gather(1, each_side), still_views], 1)
        best, side = likeness.max(2)
        side[:, rows.shape[1] :] = 0
        theta = torch.stack([from_query(view) for view in bank_of_views()])
        return Candidates(
            torch.cat([rows, still_rows], 1),
            theta[views.gather(2, side.unsqueeze(2)).squeeze(2)],
            theta[views.gather(2, 1 - side.unsqueeze(2)).squeeze(2)],
            rows.shape[1],
            best,
        )

    def _wide_look(
        self, seen: dict[tuple[bool, float], torch.Tensor], excluded: torch.Tensor | None
    ) -> torch.Tensor:
        best: torch.Tensor | None = None
        for mirrored in (False, True):
            described = self.wide.descriptor.describe(seen[mirrored, 1.0])
            for move in WIDE_MOVES:
                found = described[:, move] @ self.wide.originals.T
                best = found if best is None else torch.maximum(best, found, out=best)
        assert best is not None
        _exclude(best, excluded)
        return best.topk(min(NUM_WIDE, best.shape[1]), 1)[1]

    def _narrow_look(
        self, described: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """described: (B, views, dim). rows: (B, K). Returns likeness and view, (B, K, 2) each: the
        best of those that are not mirrored, and of those that are."""
        found = self.narrow.originals[rows] @ described.transpose(1, 2)
        likeness, view = found.unflatten(2, (2, -1)).max(3)
        view[..., 1] += found.shape[2] // 2
        return likeness, view

    def _still_look(
        self, seen: dict[tuple[bool, float], torch.Tensor], excluded: torch.Tensor | None
    ) -> torch.Tensor:
        """Returns rows, (B, NUM_STILL)."""
        plain, mirrored = (
            self.still.descriptor.describe(seen[side, 1.0][:, UNMOVED]) @ self.still.originals.T
            for side in (False, True)
        )
        best = torch.maximum(plain, mirrored)
        _exclude(best, excluded)
        return best.topk(min(NUM_STILL, best.shape[1]), 1)[1]


def _as_seen_best(generator: torch.Generator) -> Change:
    """For learn_from_changes: features of moved images in the view of the bank that undoes most of
    the move, so that what a view leaves or invents at its border counts as change."""

    def observe(images: torch.Tensor) -> torch.Tensor:
        step = round(MOVES[-1] * images.shape[-1])
        parts = []
        for scale, some in zip(SCALES, images.tensor_split(len(SCALES)), strict=True):
            strength = replace(NARROW, crop=scale - 0.05, zoom=scale + 0.05, move_probability=0.9)
            disguised, moved = disguise_known(some, strength, generator)
            features = extract_moved(see(disguised, mirrored=False, scale=scale), (-step, 0, step))
            places = (moved / (2 * MOVES[-1])).round().clamp(-1, 1).long() + 1
            rows = torch.arange(len(some))
            parts.append(features[rows, places[:, 1] * len(MOVES) + places[:, 0]])
        return torch.cat(parts)

    return observe


def _exclude(likeness: torch.Tensor, excluded: torch.Tensor | None) -> None:
    if excluded is not None:
        likeness.scatter_(1, excluded.view(-1, 1), EXCLUDED)


def _features_of(thumbnails: torch.Tensor) -> torch.Tensor:
    return torch.cat([extract_features(some.float()) for some in thumbnails.split(FEATURE_BLOCK)])
