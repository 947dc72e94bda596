"""What a model's card says of its differential privacy. Called by training/card.py. Torch-free."""

from __future__ import annotations

from datagen.generators.model_facts import NoisedSteps, PrivacyFacts

_TEMPLATE = """\
## Privacy

The weights are ({epsilon:.3g}, {delta:.1g})-differentially private: whether any one image was among
those trained on changes the odds of anything that follows from them by a factor of at most
e^{epsilon:.3g}, but for a probability of {delta:.1g}.

| | |
|---|---|
| epsilon, upper bound | {epsilon:.4g} by the accountant ({accountant}); {epsilon_asked:g} asked |
| epsilon, lower bound | {audited:.3g}, audited, {confidence:.0%} confidence |
| delta | {delta:g} |
| protected | {unit}; a person with several images is protected less, by as many times |
| mechanism | {mechanism}, each image's part clipped to norm {max_norm:g} |
{steps}
The lower bound was measured in this training: {canaries:,} canaries went in or not by a coin, each
with the largest part that an image may have, through the same noise and samples, and were guessed
from what came out. It can only contradict the accountant, not confirm it: {verdict} It could have
shown {ceiling:.3g} at most. Not private: the number of images, the class names, and this recipe,
whose defaults were chosen on Fashion-MNIST. Nothing was measured on the real images and no digest
of them is published: either would tell of them.
"""


def privacy_section(privacy: PrivacyFacts) -> str:
    holds = privacy.audited_epsilon <= privacy.epsilon
    return _TEMPLATE.format(
        epsilon=privacy.epsilon,
        epsilon_asked=privacy.epsilon_asked,
        delta=privacy.delta,
        accountant=privacy.accountant,
        audited=privacy.audited_epsilon,
        confidence=privacy.audit_confidence,
        unit=privacy.unit,
        mechanism=privacy.mechanism,
        max_norm=privacy.max_norm,
        steps="".join(_row(number, step) for number, step in enumerate(privacy.steps, start=1)),
        canaries=privacy.audit_canaries,
        ceiling=privacy.audit_ceiling,
        verdict="it does not."
        if holds
        else "IT DOES. The noise is not what it should be: do not rely on this model's privacy.",
    )


def _row(number: int, step: NoisedSteps) -> str:
    over = "all images" if step.sample_rate == 1 else f"Poisson samples of {step.sample_rate:.4g}"
    return (
        f"| noised sums {number} | {step.num_steps:,} over {over}, noise multiplier "
        f"{step.noise_multiplier:.4g} |\n"
    )
