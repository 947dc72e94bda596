"""The sampling algorithms that a recipe may name, as diffusers' schedulers. Called by loading.py.

Source of each: the paper that the docstring of its class in diffusers names.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.options import Scheduler

# Name -> class, and what is changed of the pipeline's own settings.
_CLASSES: Mapping[Scheduler, tuple[str, Mapping[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "flow_match_euler": ("FlowMatchEulerDiscreteScheduler", {}),
}


def scheduler_of(name: Scheduler, own: Any) -> Any:
    """The named one, with the noise that the pipeline's own was trained with. own: a scheduler.

    Raises ModelError if diffusers does not count it among those that fit.
    """
    import diffusers

    class_name, changes = _CLASSES[name]
    kind = getattr(diffusers, class_name)
    # diffusers counts lcm among none's, and tells users to build it from any noise of betas.
    is_lcm = name == "lcm" and "beta_schedule" in own.config
    if not isinstance(own, kind) and kind not in own.compatibles and not is_lcm:
        raise ModelError(
            f"options.scheduler {name}: does not fit {type(own).__name__}, which the pipeline was "
            "made for; leave it out"
        )
    with warnings.catch_warnings():
        # Settings that the other has not, and numpy's new rule for copies: diffusers' own affair.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return kind.from_config(own.config, **changes)
