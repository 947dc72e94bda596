"""Shares dealt over an endless row of places, each found alone: no walk, no table, no state.

Called by prompts.py. plan.SplitPattern deals splits over the same ordinals, by a period: what is
dealt here is shuffled within windows, so that no split gets one value only.
"""

from __future__ import annotations

import heapq
import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from hashlib import shake_256

MAX_WINDOW = 256


class QuotaTree:
    """Which share each place belongs to: every prefix holds each share to within two places, and a
    prefix of the shares' sum holds it exactly.

    A tree of two-way splits, the smallest shares deepest (Huffman 1952, A method for the
    construction of minimum-redundancy codes). Of the first n places of a node, round(n * left /
    both) are its left side's. That is at most 1/2 off, and what the node is off itself counts by
    the side's part of it. With children of its own, a side has at most 2/3: below 3/2 then, and
    below 2 for a share.
    """

    def __init__(self, shares: Sequence[int]) -> None:
        """shares: 0 or more each, one or more of them above 0."""
        heap: list[tuple[int, int, _Node]] = [
            (share, index, index) for index, share in enumerate(shares) if share > 0
        ]
        heapq.heapify(heap)
        order = len(shares)
        while len(heap) > 1:
            small, large = heapq.heappop(heap), heapq.heappop(heap)
            both = small[0] + large[0]
            heapq.heappush(heap, (both, order, (large[0], both, large[2], small[2])))
            order += 1
        self._root = heap[0][2]

    def locate(self, place: int) -> tuple[int, int]:
        """The index of the share at the place, and how many places before it are that share's."""
        node = self._root
        while not isinstance(node, int):
            left, both, first, second = node
            before, after = ((2 * n * left + both) // (2 * both) for n in (place, place + 1))
            node, place = (first, before) if after > before else (second, place - before)
        return node, place


_Node = int | tuple[int, int, "_Node", "_Node"]


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Whole numbers in the proportion of the weights, read as they are written: 0.1 is 1/10."""
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(share.denominator for share in exact))
    return [int(share * scale) for share in exact]


def window_of(num_values: int, smallest: Fraction) -> int:
    """How many places are shuffled together: about two or more of the rarest value, that has the
    share `smallest`. Of fewer, a rare value keeps its rhythm, and may fall in with a split's."""
    return min(MAX_WINDOW, max(4, num_values, math.ceil(2 / smallest)))


def dealt_place(ordinal: int, *, window: int, key: str, total: int | None = None) -> int:
    """The place that an ordinal takes: those of each window, shuffled by the key.

    total: of the ordinals, where they must take exactly the first places; without it an ordinal's
    place is the same however many follow.
    """
    index, inside = divmod(ordinal, window)
    size = window if total is None else min(window, total - index * window)
    return index * window + shuffled(f"{key}/{index}", size)[inside]


@lru_cache(maxsize=4096)
def shuffled(key: str, size: int) -> tuple[int, ...]:
    """0 to size - 1 in an order that is the key's: the shuffle of Fisher and Yates (Knuth, The Art
    of Computer Programming, volume 2, algorithm 3.4.2P) by 32 bits of SHAKE256 a step."""
    bits = struct.unpack(f"<{size}I", shake_256(key.encode()).digest(4 * size))
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        other = bits[last] * (last + 1) >> 32
        order[last], order[other] = order[other], order[last]
    return tuple(order)


def spread_over(size: int) -> Callable[[int], int]:
    """Places to entries of a list: all of them once in `size` places, near ones far apart in it."""
    stride = next(
        step for step in range(max(1, round(size * 0.618)), size + 2) if math.gcd(step, size) == 1
    )
    return lambda place: place * stride % size
