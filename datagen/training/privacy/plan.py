"""From `privacy:` in a model recipe to a private training. Called by training/session.py.

The mechanism is the generator's: noised gradients for edm, noised sums made once for cgan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.generators import GENERATORS
from datagen.generators.cgan.options import CganObjectiveOptions
from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.interface import ModelConfig, Objective
from datagen.generators.model_facts import NoisedSteps, PrivacyFacts
from datagen.training.dataset import RealImages
from datagen.training.model_recipe import ModelRecipe, Privacy, model_recipe_digest
from datagen.training.privacy.accountant import (
    ACCOUNTANT,
    GaussianSteps,
    epsilon_spent,
    noise_for,
    require_opacus,
)
from datagen.training.privacy.audit import CONFIDENCE, Audit
from datagen.training.privacy.secure import poisson_mask

RELEASE_FILE = "release.safetensors"
UNIT = "one image added or removed"


@dataclass(frozen=True)
class PrivateTraining:
    """draw: rows of the training part for one step, drawn anew and unpredictably.
    facts: what was spent after so many steps, and the audit."""

    objective: Objective
    draw: Callable[[], NDArray[np.int64]]
    facts: Callable[[int], PrivacyFacts]


def prepare_private(
    recipe: ModelRecipe, config: ModelConfig, train_part: RealImages, *, folder: Path
) -> PrivateTraining:
    """Raises TrainingError if Opacus is missing, InputError if the budget makes no sense."""
    assert recipe.privacy is not None
    require_opacus()
    if recipe.privacy.delta * len(train_part) >= 1:
        raise InputError(
            f"privacy.delta: {recipe.privacy.delta:g} for {len(train_part)} images would allow to "
            f"publish one of them whole; expected below {1 / len(train_part):.1g}, 1 over the "
            "number of training images"
        )
    return MECHANISMS[recipe.generator](recipe, recipe.privacy, config, train_part, folder)


def _noised_gradients(
    recipe: ModelRecipe, privacy: Privacy, config: ModelConfig, train_part: RealImages, folder: Path
) -> PrivateTraining:
    from datagen.generators.edm.train import EdmObjective
    from datagen.training.privacy.dp_sgd import DpSgdObjective

    GENERATORS["edm"].check(config)
    schedule = recipe.schedule
    rate = min(1.0, schedule.batch_size / len(train_part))
    num_steps = math.ceil(schedule.num_images / schedule.batch_size)
    noise = noise_for(
        lambda scale: [GaussianSteps(scale, rate, num_steps)],
        epsilon=privacy.epsilon,
        delta=privacy.delta,
    )
    options = EdmObjectiveOptions.model_validate(recipe.objective)
    objective = DpSgdObjective(
        EdmObjective(config, options, seed=recipe.seed),
        noise_multiplier=noise,
        max_grad_norm=privacy.max_grad_norm,
        noise_multiplicity=privacy.noise_multiplicity,
        sample_rate=rate,
        expected_batch_size=schedule.batch_size,
        num_canaries=privacy.num_canaries,
    )
    objective.check_gradients((config.channels, *config.image_size))

    def facts(num_steps_taken: int) -> PrivacyFacts:
        taken = [GaussianSteps(noise, rate, num_steps_taken)]
        audit = objective.audit(delta=privacy.delta)
        return _facts(privacy, "DP-SGD", taken, privacy.max_grad_norm, audit)

    def draw() -> NDArray[np.int64]:
        return np.flatnonzero(poisson_mask(len(train_part), rate=rate))

    return PrivateTraining(objective, draw, facts)


def _noised_sums(
    recipe: ModelRecipe, privacy: Privacy, config: ModelConfig, train_part: RealImages, folder: Path
) -> PrivateTraining:
    from datagen.training.privacy.features import BoundedFeatures
    from datagen.training.privacy.matching import MatchingObjective
    from datagen.training.privacy.release import (
        classifier_rate,
        load_release,
        make_release,
        release_steps,
        save_release,
    )

    GENERATORS["cgan"].check(config)
    features = BoundedFeatures(channels=config.channels, image_size=config.image_size)
    scale = noise_for(release_steps, epsilon=privacy.epsilon, delta=privacy.delta)
    path, digest = folder / RELEASE_FILE, model_recipe_digest(recipe)
    stored = load_release(path, recipe_digest=digest)
    if stored is None:
        release, canaries = make_release(
            train_part,
            features,
            num_classes=len(config.class_names),
            scale=scale,
            rate=classifier_rate(privacy.epsilon),
            num_canaries=privacy.num_canaries,
        )
        stored = release, canaries.audit(delta=privacy.delta)
        save_release(path, *stored, recipe_digest=digest)
    release, audit = stored
    objective = MatchingObjective(
        config,
        CganObjectiveOptions.model_validate(recipe.objective),
        release=release,
        features=features,
        batch_size=recipe.schedule.batch_size,
        seed=recipe.seed,
    )

    def facts(num_steps_taken: int) -> PrivacyFacts:
        """Of the release: the steps that follow read no real image."""
        return _facts(privacy, "noised sums", list(release_steps(scale)), 1.0, audit)

    return PrivateTraining(objective, lambda: np.empty(0, np.int64), facts)


def _facts(
    privacy: Privacy, mechanism: str, taken: list[GaussianSteps], norm: float, audit: Audit
) -> PrivacyFacts:
    return PrivacyFacts(
        epsilon=epsilon_spent(taken, delta=privacy.delta),
        epsilon_asked=privacy.epsilon,
        delta=privacy.delta,
        accountant=ACCOUNTANT,
        mechanism=mechanism,
        unit=UNIT,
        max_norm=norm,
        steps=tuple(NoisedSteps(**asdict(step)) for step in taken),
        audited_epsilon=audit.epsilon_low,
        audit_confidence=CONFIDENCE,
        audit_canaries=audit.num_canaries,
        audit_ceiling=audit.ceiling,
    )


MECHANISMS = {"edm": _noised_gradients, "cgan": _noised_sums}
