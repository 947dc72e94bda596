"""Which originals a copy may come from: a wide look at all, a narrow look at the best of them.

Called by copy_detector.py. Exact search by matrix products: descriptors have length 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datagen.references.copy_descriptor import (
    FEATURE_BLOCK,
    Descriptor,
    extract_features,
    extract_moved,
    learn_descriptor,
)
from datagen.references.copy_views import (
    MOVES,
    SCALES,
    Strength,
    bank_of_views,
    from_query,
    see,
)

WIDE = Strength(rotation=16, crop=0.76, shift=0.08, blend=0.5, noise=0.09, blend_probability=0.1)
NARROW = Strength(rotation=16, crop=0.88, shift=0.03, blend=0.5, noise=0.09, blend_probability=0.1)
STILL = Strength(0, 1, 0, blend=0.5, noise=0.09, move_probability=0, blend_probability=0.7)
DIMS = (96, 96, 192)
NUM_WIDE, NUM_NARROW, NUM_STILL = 1000, 64, 16
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
    """rows: (B, K) of the originals. theta: (B, K, 2, 3), where registration starts. The last
    of them, after num_moved, were found by the look for copies that were not moved."""

    rows: torch.Tensor
    theta: torch.Tensor
    num_moved: int


@dataclass(frozen=True)
class Looks:
    """wide, narrow: for copies that were moved. still: for blends and noise."""

    wide: Look
    narrow: Look
    still: Look

    @classmethod
    def learn(cls, thumbnails: torch.Tensor, generator: torch.Generator) -> Looks:
        features = _features_of(thumbnails)
        looks = []
        for strength, dim in zip((WIDE, NARROW, STILL), DIMS, strict=True):
            descriptor = learn_descriptor(
                thumbnails, features, strength, dim=dim, generator=generator
            )
            looks.append(Look(descriptor, descriptor.describe(features)))
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
        rows, views = self._narrow_look(torch.cat(list(seen.values()), 1), near)
        still = (
            self.still.descriptor.describe(seen[False, 1.0][:, UNMOVED]),
            self.still.descriptor.describe(seen[True, 1.0][:, UNMOVED]),
        )
        still_rows, mirrored = self._still_look(still, excluded)
        still_views = UNMOVED + mirrored * len(SCALES) * len(MOVES) ** 2
        theta = torch.stack([from_query(view) for view in bank_of_views()])
        return Candidates(
            torch.cat([rows, still_rows], 1),
            theta[torch.cat([views, still_views], 1)],
            rows.shape[1],
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
        self, features: torch.Tensor, near: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        described = self.narrow.descriptor.describe(features)
        found = self.narrow.originals[near] @ described.transpose(1, 2)
        likeness, view = found.max(2)
        top = likeness.topk(min(NUM_NARROW, near.shape[1]), 1)[1]
        return near.gather(1, top), view.gather(1, top)

    def _still_look(
        self, described: tuple[torch.Tensor, torch.Tensor], excluded: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns rows and 1 where the mirror image is the more alike, (B, NUM_STILL) each."""
        plain, mirrored = (each @ self.still.originals.T for each in described)
        best = torch.maximum(plain, mirrored)
        _exclude(best, excluded)
        top = best.topk(min(NUM_STILL, best.shape[1]), 1)[1]
        return top, (mirrored.gather(1, top) > plain.gather(1, top)).long()


def _exclude(likeness: torch.Tensor, excluded: torch.Tensor | None) -> None:
    if excluded is not None:
        likeness.scatter_(1, excluded.view(-1, 1), EXCLUDED)


def _features_of(thumbnails: torch.Tensor) -> torch.Tensor:
    return torch.cat([extract_features(some.float()) for some in thumbnails.split(FEATURE_BLOCK)])
