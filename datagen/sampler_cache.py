"""The models that a worker keeps loaded, by digest, within its memory. Called by engine.py."""

from __future__ import annotations

import gc
import math
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from datagen.errors import ModelError
from datagen.generators.interface import Sampler
from datagen.resolve import ResolvedRecipe
from datagen.safetensors_header import WEIGHT_TYPES, check_safetensors

# Where nobody says how much memory there is.
MAX_MODELS = 2
# Weights that ship in half precision are held in single.
_BYTES_HELD = 4

_Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class _Held:
    sampler: Sampler
    num_bytes: int


class SamplerCache:
    """The samplers last used, by model and by what a recipe fits it to: jobs share the weights.

    What was used longest ago goes before another is loaded, so that the models held and the one
    that is loaded never take more than the budget together.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        """budget_bytes: of weights; None for the MAX_MODELS last used, whatever their size."""
        self.budget_bytes = budget_bytes
        self._held: OrderedDict[_Key, _Held] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """Of the weights that are held now."""
        return sum(each.num_bytes for each in self._held.values())

    def get(
        self, resolved: ResolvedRecipe, batch_size: int, load: Callable[[], Sampler]
    ) -> Sampler:
        """The sampler of a recipe; load: makes it. Raises ModelError if it needs more memory than
        all that there is."""
        options = resolved.options.model_dump_json()
        key = (resolved.model.digest, str(resolved.config), options, batch_size)
        if key not in self._held:
            expected = expected_bytes(resolved)
            self._make_room(resolved, expected)
            sampler = load()
            held = held_bytes(sampler, expected)
            self._make_room(resolved, held)
            self._held[key] = _Held(sampler, held)
        self._held.move_to_end(key)
        return self._held[key].sampler

    def _make_room(self, resolved: ResolvedRecipe, num_bytes: int) -> None:
        budget = self.budget_bytes
        if budget is not None and num_bytes > budget:
            raise ModelError(
                f"model {resolved.model.name} holds {num_bytes / 1e9:.3g} GB of weights; "
                f"DATAGEN_MODEL_MEMORY_GB allows {budget / 1e9:.3g}: raise it, or load the model "
                "in a smaller dtype"
            )
        freed = False
        while self._held and self._is_full(num_bytes):
            self._held.popitem(last=False)
            freed = True
        if freed:
            _release()

    def _is_full(self, num_bytes: int) -> bool:
        if self.budget_bytes is None:
            return len(self._held) >= MAX_MODELS
        return self.num_bytes + num_bytes > self.budget_bytes


def expected_bytes(resolved: ResolvedRecipe) -> int:
    """Of a model's weights in memory, read off its files before it is loaded."""
    estimate = getattr(resolved.spec, "memory_bytes", None)
    if estimate is not None:
        return int(estimate(resolved.config, resolved.options))
    model = resolved.model
    if model.weights is None:
        return 0
    types = getattr(model.spec, "weight_types", WEIGHT_TYPES)
    entries = check_safetensors(model.weights, types=types)
    return sum(_BYTES_HELD * math.prod(entry.shape) for entry in entries)


def held_bytes(sampler: Sampler, expected: int) -> int:
    """What it says, or its networks' parameters and buffers; expected: where it has neither."""
    told = getattr(sampler, "memory_bytes", None)
    if told is not None:
        return int(told)
    torch = sys.modules.get("torch")
    if torch is None:
        return expected
    networks = [each for each in vars(sampler).values() if isinstance(each, torch.nn.Module)]
    tensors = [t for each in networks for t in (*each.parameters(), *each.buffers())]
    return sum(t.nbytes for t in tensors) if tensors else expected


def _release() -> None:
    """Pipelines refer to themselves: without a collection their weights would stay."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
