from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence

import pytest
from scipy.stats import norm

from datagen.errors import TrainingError
from datagen.training.privacy.accountant import (
    GaussianSteps,
    epsilon_spent,
    noise_for,
    require_opacus,
)


def gaussian_delta(epsilon: float, noise: float) -> float:
    """Exact, of one Gaussian mechanism. Source: Balle & Wang 2018 (arXiv 1805.06530), theorem 8."""
    a, b = 1 / (2 * noise), epsilon * noise
    return float(norm.cdf(a - b) - 2.718281828459045**epsilon * norm.cdf(-a - b))


@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_one_step_over_all_examples_costs_what_the_exact_formula_says(epsilon: float) -> None:
    noise = noise_for(lambda scale: [GaussianSteps(scale, 1.0, 1)], epsilon=epsilon, delta=1e-5)
    spent = epsilon_spent([GaussianSteps(noise, 1.0, 1)], delta=1e-5)
    assert 0.99 * epsilon < spent <= epsilon
    assert gaussian_delta(spent, noise) <= 1e-5
    assert gaussian_delta(0.97 * spent, noise) > 1e-5


def test_many_steps_over_all_examples_cost_as_much_as_one_of_the_same_precision() -> None:
    one = epsilon_spent([GaussianSteps(2.0, 1.0, 1)], delta=1e-5)
    many = epsilon_spent([GaussianSteps(20.0, 1.0, 50), GaussianSteps(20.0, 1.0, 50)], delta=1e-5)
    assert many == pytest.approx(one, abs=0.03)


def test_sampling_makes_steps_cheaper_and_more_steps_cost_more() -> None:
    sampled = epsilon_spent([GaussianSteps(1.0, 0.01, 100)], delta=1e-5)
    assert sampled < epsilon_spent([GaussianSteps(1.0, 0.01, 1000)], delta=1e-5)
    assert sampled < epsilon_spent([GaussianSteps(1.0, 0.05, 100)], delta=1e-5)
    assert epsilon_spent([GaussianSteps(1.0, 0.01, 0)], delta=1e-5) == 0


def test_a_missing_opacus_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(
        name: str,
        scope: Mapping[str, object] | None = None,
        local: Mapping[str, object] | None = None,
        names: Sequence[str] = (),
        level: int = 0,
    ) -> object:
        if name.startswith("opacus"):
            raise ModuleNotFoundError(name)
        return real(name, scope, local, names, level)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(TrainingError, match=r"pip install 'datagen\[dp\]'"):
        require_opacus()
