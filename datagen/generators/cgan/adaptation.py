"""How strongly to augment, from how well the discriminator knows the real images.

Source: Karras et al. 2020 (arXiv 2006.06676), section 3. Deviation: under the pairing loss the sign
of a logit says nothing, for a constant added to all of them changes no loss. So it is the sign of a
real image's logit less its generated rival's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

MAX_PROBABILITY = 0.8  # above it, augmentations leak into the samples (section 2.2)
_EVERY_STEPS = 4


class AdaptiveProbability:
    """Rises while the mean sign is above the target, and falls while it is below."""

    def __init__(self, start: float, *, target: float, ramp_images: int) -> None:
        """ramp_images: real images in which it would go from 0 to 1."""
        self.target, self.ramp_images = target, ramp_images
        # Probability; sums over the steps since it last moved: of mean signs, images and steps.
        self._state = torch.tensor([start, 0.0, 0.0, 0.0], dtype=torch.float64)

    @property
    def value(self) -> float:
        return float(self._state[0])

    def observe(
        self,
        logits_real: torch.Tensor,
        logits_fake: torch.Tensor,
        average: Callable[[list[torch.Tensor]], None] | None = None,
        num_processes: int = 1,
    ) -> None:
        """Of one step, (N,) each, in pairs. average, num_processes: as in Update."""
        sign = (logits_real - logits_fake).detach().sign().mean()
        if average is not None:
            average([sign])
        self._state += torch.tensor(
            [0.0, sign.item(), num_processes * len(logits_real), 1.0], dtype=torch.float64
        )
        probability, signs, num_images, num_steps = self._state.tolist()
        if num_steps < _EVERY_STEPS:
            return
        move = num_images / self.ramp_images
        if signs / num_steps < self.target:
            move = -move
        probability = min(MAX_PROBABILITY, max(0.0, probability + move))
        self._state = torch.tensor([probability, 0.0, 0.0, 0.0], dtype=torch.float64)

    def state(self) -> torch.Tensor:
        return self._state.clone()

    def load_state(self, state: torch.Tensor) -> None:
        self._state = state.clone()
