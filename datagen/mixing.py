"""Images between two ends: what is drawn for each, and the way between two latents.

Called by the stages (draw_mix) and by the samplers of models that mix (slerp).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from datagen.conditions import Mix
from datagen.prompt_schema import MixRequest

_DECIMALS = 6  # of a weight: what a label says is what was drawn
_PARALLEL = 1 - 1e-6


def draw_mix(
    request: MixRequest,
    seed: int,
    class_name: str,
    class_names: Sequence[str],
    class_ids: Sequence[int],
) -> Mix:
    """The same arguments give the same mix. seed: of the attempt. class_names, class_ids: of the
    recipe's classes. weight: uniform in the range. The other class: uniform over those allowed.

    Without an image, which its caller draws with the mix's seed.
    """
    low, high = request.weight
    weight = round(low + (high - low) * _uniform(f"mix/{seed}/weight"), _DECIMALS)
    name = class_name
    if request.between == "classes":
        others = request.classes.get(class_name) or [c for c in class_names if c != class_name]
        name = others[int(_uniform(f"mix/{seed}/class") * len(others))]
    return Mix(
        kind=request.between,
        weight=min(max(weight, low), high),
        seed=_bits(f"mix/{seed}/seed") >> 1,
        class_id=class_ids[class_names.index(name)],
        class_name=name,
    )


def slerp(a: NDArray[np.floating], b: NDArray[np.floating], weight: float) -> NDArray[np.float32]:
    """(...) float32 on the arc from a, at weight 0, to b, at weight 1; both of one shape.

    Of two drafts of Gaussian noise it has the norm of noise all the way, where the straight line's
    falls to 0.71. Straight where they are all but parallel, or one is zero.
    Source: Shoemake 1985, SIGGRAPH, Animating rotation with quaternion curves, section 3.3. Over
    vectors of any length: of their directions' angle, the lengths as they are.
    """
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape:
        raise ValueError(f"slerp of shapes {first.shape} and {second.shape}")
    if weight in (0, 1):
        return np.array(second if weight else first, np.float32)
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(np.vdot(first, second)) / lengths if lengths > 0 else 1.0
    if abs(cosine) > _PARALLEL:
        return np.asarray((1 - weight) * first + weight * second, np.float32)
    angle = np.arccos(cosine)
    parts = np.sin((1 - weight) * angle) * first + np.sin(weight * angle) * second
    return np.asarray(parts / np.sin(angle), np.float32)


def _bits(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def _uniform(text: str) -> float:
    """In [0, 1), by 53 bits."""
    return (_bits(text) >> 11) / (1 << 53)
