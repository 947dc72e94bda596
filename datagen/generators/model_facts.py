"""What a model says of itself beyond what decides its images: licence, origin, training, speed.

Kept in config.json (model_directory.py); the digest does not cover it. Torch-free.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceFact(BaseModel):
    """A registered source of training images, as it was when the model was trained on it.

    sha256: the source's digest; None in a private model, which publishes none. depth: generations
    between its images and real ones: 0 for real images.
    """

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    version: int = Field(ge=1)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(max_length=200)
    permitted_use: str = Field(default="", max_length=500)
    permitted_uses: tuple[Annotated[str, Field(max_length=63)], ...] = Field(
        default=(), max_length=32
    )
    depth: int = Field(default=0, ge=0, le=1000)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def use_text(self) -> str:
        """The permitted use in one line; empty if nobody stated it."""
        uses = ", ".join(self.permitted_uses)
        return ": ".join(part for part in (uses, self.permitted_use) if part)


class TrainingFacts(BaseModel):
    """How the weights came to be.

    kid_held_out: of the weights as shipped, lower is better; kid_real: the same between two halves
    of the held-out images. See training/judge.py. None after private training: no figure and no
    digest of private images is published. fit: how images were brought to the model's size, None
    if they were of it. figures, warnings: of the last judgement. stopped: why before its time.
    held_out_by_group: in whole groups, such as patients. generation_depth: 0
    after real images alone, else 1 + the depth of the models that made images it was trained on.
    """

    model_config = _STRICT

    images_seen: int = Field(ge=0)
    best_images_seen: int = Field(ge=0)
    seconds: float = Field(ge=0)
    device: str = Field(max_length=200)
    kid_held_out: float | None = None
    kid_real: float | None = None
    num_train: int = Field(ge=0)
    num_held_out: int = Field(ge=0)
    fit: Literal["crop", "pad", "stretch"] | None = None
    held_out_by_group: bool = False
    data_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    recipe_digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    seed: int = Field(ge=0, lt=2**63)
    figures: dict[Annotated[str, Field(max_length=63)], float] = Field(
        default_factory=dict, max_length=32
    )
    warnings: tuple[Annotated[str, Field(max_length=500)], ...] = Field(default=(), max_length=32)
    stopped: str = Field(default="", max_length=500)
    sources: tuple[SourceFact, ...] = Field(default=(), max_length=64)
    generation_depth: int = Field(default=0, ge=0, le=1000)


class NoisedSteps(BaseModel):
    """Noised sums over Poisson samples. noise_multiplier: the noise over one example's largest
    part."""

    model_config = _STRICT

    noise_multiplier: float = Field(gt=0)
    sample_rate: float = Field(gt=0, le=1)
    num_steps: int = Field(ge=0)


class PrivacyFacts(BaseModel):
    """The differential privacy of the weights. epsilon: the accountant's upper bound for what was
    spent. audited_epsilon: lower bound measured with canaries; audit_ceiling: the most it could
    have shown. See training/privacy/ and docs/differential-privacy.md."""

    model_config = _STRICT

    epsilon: float = Field(ge=0)
    epsilon_asked: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    accountant: str = Field(max_length=100)
    mechanism: str = Field(max_length=100)
    unit: str = Field(max_length=100)
    max_norm: float = Field(gt=0)
    steps: tuple[NoisedSteps, ...] = Field(max_length=16)
    audited_epsilon: float = Field(ge=0)
    audit_confidence: float = Field(gt=0, lt=1)
    audit_canaries: int = Field(ge=0)
    audit_ceiling: float = Field(ge=0)


class Throughput(BaseModel):
    """Of the sampler alone, on one thread, at the family's batch size and default options."""

    model_config = _STRICT

    seconds_per_image: float = Field(gt=0)
    num_network_calls: int = Field(ge=0)
    device: str = Field(max_length=200)


class HalfPrecision(BaseModel):
    """What storing the weights in half precision changed: num_images of equal seeds, drawn with
    the weights of digest `parent` and with these. Differences are in grey levels of 0 to 255."""

    model_config = _STRICT

    num_images: int = Field(ge=1)
    mean_difference: float = Field(ge=0)
    max_difference: int = Field(ge=0, le=255)
    share_of_pixels: float = Field(ge=0, le=1)


class ModelFacts(BaseModel):
    """What config.json says beyond the config: licence, origin, training, speed.

    parent: digest of the model that its weights began from. code_version: of datagen, when it was
    made. deprecated: why it should not be used any more.
    """

    model_config = _STRICT

    licence: str = Field(min_length=1, max_length=200)
    source: str = Field(min_length=1, max_length=1000)
    description: str = Field(default="", max_length=1000)
    training: TrainingFacts | None = None
    throughput: Throughput | None = None
    privacy: PrivacyFacts | None = None
    parent: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    code_version: str | None = Field(default=None, max_length=64)
    half_precision: HalfPrecision | None = None
    deprecated: str | None = Field(default=None, min_length=1, max_length=1000)
