"""The figures of a report as JSON in the page, for machines. Called by render.py.

They are the evaluation's own to_json, but bounded: what is too much for a page is cut off, and
`shortened` names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datagen.evaluation.report.markup import Markup, ready, tag
from datagen.evaluation.results import Evaluation

_MAX_TEXT = 4000
# Tried in turn until the JSON is small enough: how long lists may be, and mappings.
_LIMITS = ((10**9, 10**9), (200, 10**9), (200, 200), (20, 50), (5, 10), (0, 0))


def evaluation_script(evaluation: Evaluation, *, max_bytes: int) -> Markup:
    content = evaluation.to_json()
    for max_list, max_mapping in _LIMITS:
        shortened = list[str]()
        bounded = _bounded(content, "", max_list, max_mapping, shortened)
        if shortened:
            bounded["shortened"] = shortened[:50]
        script = json_script("evaluation", bounded)
        if len(script) <= max_bytes:
            return script
    return json_script("evaluation", {"shortened": ["everything"]})


def json_script(id_: str, content: object) -> Markup:
    """ASCII, and without <, > and &: nothing in it can end the script or start a comment."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return tag("script", {"type": "application/json", "id": id_}, ready(text))


def _bounded(value: Any, path: str, max_list: int, max_mapping: int, shortened: list[str]) -> Any:
    """Without numbers that JSON does not have. shortened: gets the paths of what was cut."""

    def inside(key: object, child: Any) -> Any:
        return _bounded(child, f"{path}.{key}", max_list, max_mapping, shortened)

    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _cut(value, _MAX_TEXT, path, shortened, lambda text, n: text[:n])
    if isinstance(value, Mapping):
        # The top level, and every mapping whose keys we choose, are small.
        limit = max(max_mapping, 40)
        kept = _cut(value, limit, path, shortened, lambda m, n: dict(list(m.items())[:n]))
        return {str(key)[:_MAX_TEXT]: inside(key, child) for key, child in kept.items()}
    if isinstance(value, Sequence):
        kept = _cut(value, max_list, path, shortened, lambda s, n: s[:n])
        return [inside(i, child) for i, child in enumerate(kept)]
    return value


def _cut(
    value: Any, limit: int, path: str, shortened: list[str], cut: Callable[[Any, int], Any]
) -> Any:
    if len(value) <= limit:
        return value
    shortened.append(f"{path[1:201]}: {limit} of {len(value)}")
    return cut(value, limit)
