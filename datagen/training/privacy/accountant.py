"""How much privacy Gaussian steps cost, and how much noise a budget needs.

Called by plan.py. The accountant is Opacus's PRV accountant (Gopi, Lee & Wutschitz 2021,
arXiv 2106.02848): an upper bound of epsilon for neighbours that differ in one added or removed
example. opacus is imported here and in dp_sgd.py alone, when a private training starts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from datagen.errors import TrainingError

ACCOUNTANT = "PRV (Opacus)"
_RELATIVE_TOLERANCE = 1e-3
_MIN_NOISE, _MAX_NOISE = 0.05, 1e6


@dataclass(frozen=True)
class GaussianSteps:
    """num_steps noised sums, each over a Poisson sample (rate 1: over all) of the examples.

    noise_multiplier: standard deviation of the noise over the largest norm of one example's part.
    """

    noise_multiplier: float
    sample_rate: float
    num_steps: int


def require_opacus() -> None:
    """Raises TrainingError, naming the remedy, if it is not installed."""
    try:
        import opacus  # noqa: F401
    except ImportError:
        raise TrainingError(
            "privacy: training with differential privacy needs Opacus, which is not installed; "
            "`pip install 'datagen[dp]'`, or remove privacy from the model recipe"
        ) from None


def epsilon_spent(steps: Sequence[GaussianSteps], *, delta: float) -> float:
    """Upper bound of epsilon at `delta` for all the steps together."""
    from opacus.accountants import PRVAccountant

    taken = [step for step in steps if step.num_steps]
    if not taken:
        return 0.0
    accountant = PRVAccountant()
    accountant.history = [(s.noise_multiplier, s.sample_rate, s.num_steps) for s in taken]
    # At rate 1 it takes log(0) = -inf, as it should, and NumPy warns; it also warns of the rough
    # bound that only sets the range of its integrals.
    with np.errstate(divide="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is the")
        return float(accountant.get_epsilon(delta=delta))


def noise_for(
    steps_at: Callable[[float], Sequence[GaussianSteps]], *, epsilon: float, delta: float
) -> float:
    """The least scale s, to a part in a thousand, at which steps_at(s) cost at most epsilon.

    steps_at: the steps at a scale of the noise; more noise, less cost.
    Raises TrainingError if no reasonable noise is enough.
    """
    high = 1.0
    while epsilon_spent(steps_at(high), delta=delta) > epsilon:
        high *= 2
        if high > _MAX_NOISE:
            raise TrainingError(
                f"privacy.epsilon: {epsilon:g} at delta {delta:g} cannot be reached with any "
                "noise; raise it, or train for fewer images"
            )
    low = high / 2
    while low > _MIN_NOISE and epsilon_spent(steps_at(low), delta=delta) <= epsilon:
        low, high = low / 2, low
    while high / low > 1 + _RELATIVE_TOLERANCE:
        middle = (low * high) ** 0.5
        if epsilon_spent(steps_at(middle), delta=delta) > epsilon:
            low = middle
        else:
            high = middle
    return high
