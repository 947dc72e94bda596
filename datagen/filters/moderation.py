"""moderation: an image that a classifier takes for what must not be shown. Listed in
datagen.filters.FILTERS."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from pydantic import BaseModel, Field, StringConstraints

from datagen.errors import ModelError
from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score
from datagen.pretrained.classifiers import (
    SAFETY_LABEL,
    Activation,
    ClassifierFile,
    OnnxInput,
    find_classifier,
    open_classifier,
)
from datagen.pretrained.folder import check_unchanged

if TYPE_CHECKING:
    from datagen.references.reference import Reference

DEFAULT_THRESHOLD = 0.5
SAFETY_THRESHOLD = 0.0  # the checker's own decision
_DECIMALS = 4

_Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
_Threshold = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
_Triple = Annotated[
    tuple[Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)], ...],
    Field(min_length=1, max_length=3, strict=False),
]


class ModerationOptions(FilterOptions):
    classifier: str = Field(
        min_length=1,
        max_length=1000,
        description="the folder of an image classifier as transformers saves it, an ONNX file, or "
        "the folder of a Stable Diffusion pipeline with its safety_checker",
    )
    refuse: tuple[_Label, ...] = Field(
        default=(),
        max_length=32,
        strict=False,  # JSON and YAML hold lists
        description="a list of at most 32 of the classifier's labels; left out for the safety "
        "checker, which has one",
    )
    thresholds: Mapping[_Label, _Threshold] = Field(
        default_factory=dict,
        max_length=32,
        description="a mapping like {porn: 0.2} of refused labels; else 0.5, and 0 for the safety "
        "checker",
    )
    labels: tuple[_Label, ...] = Field(
        default=(),
        max_length=10_000,
        strict=False,
        description="of an ONNX file's outputs, in order; else the lines of labels.txt beside it",
    )
    mean: _Triple | None = Field(
        default=None, description="of an ONNX file: 1 to 3 numbers from -10 to 10; 0 if left out"
    )
    std: _Triple | None = Field(
        default=None, description="of an ONNX file: 1 to 3 numbers up to 10; 1 if left out"
    )
    activation: Activation | None = Field(
        default=None,
        description="of an ONNX file: softmax, sigmoid, or none where it gives probabilities",
    )

    @cached_property
    def pinned_digest(self) -> str:
        """Of the files as these options first saw them; scores are kept under it."""
        return _find(self).digest

    @property
    def onnx_input(self) -> OnnxInput:
        return OnnxInput(_three(self.mean, 0.0), _three(self.std, 1.0), self.activation)


@dataclass(frozen=True)
class ModerationJudge:
    """limits: of each refused label, the score above which an image is refused."""

    limits: Mapping[str, float]

    def reject(self, score: Score) -> str | None:
        found = json.loads(str(score))
        is_above = any(found[label] > limit for label, limit in self.limits.items())
        return "moderation" if is_above else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class ModerationFilter:
    """The score is a JSON object, refused label -> its score to 4 decimals, by label."""

    name = "moderation"
    options: type[FilterOptions] = ModerationOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return False

    def check(self, options: BaseModel) -> None:
        """Raises ModelError if the classifier cannot be used, or has no such label."""
        assert isinstance(options, ModerationOptions)
        found = _find(options)
        known = ", ".join(found.labels[:40])
        for label in (*options.refuse, *options.thresholds):
            if label not in found.labels:
                raise ModelError(f"{found.path}: it has no label {label!r}; it has {known}")
        if found.kind != "safety-checker" and not options.refuse:
            raise ModelError(f"{found.path}: refuse: name what is refused, of its labels {known}")
        for label, threshold in options.thresholds.items():
            if label not in _refused(options, found):
                raise ModelError(f"thresholds: {label!r} is not in refuse: [...]; add it there")
            if threshold < 0 and found.kind != "safety-checker":
                raise ModelError(f"thresholds: {label}: {threshold}; expected a probability")
        _check_onnx(options, found)
        assert options.onnx_input

    def scorer_digest(self, options: BaseModel) -> str:
        """Over all that decides a score: the classifier's files, how it is fed, what is asked."""
        assert isinstance(options, ModerationOptions)
        found = _find(options)
        asked = [
            found.kind,
            options.pinned_digest,
            sorted(_refused(options, found)),
            list(found.labels),
        ]
        content = json.dumps([*asked, repr(options.onnx_input)])
        return hashlib.sha256(content.encode()).hexdigest()

    def score_by(
        self, options: BaseModel, images: Images, class_names: Sequence[str]
    ) -> list[Score]:
        """One at a time. Raises ModelError for a classifier that gives what is no number: an image
        without a score is not let through; or for other files than when its digest was asked."""
        assert isinstance(options, ModerationOptions)
        if len(images) == 0:
            return []
        found = _find(options)
        check_unchanged(found.path, found.digest, options.pinned_digest)
        network = open_classifier(found, options.onnx_input)
        wanted = [(label, found.labels.index(label)) for label in sorted(_refused(options, found))]
        scores: list[Score] = []
        for image in images:
            row = network.scores(image)
            told = {label: round(float(row[index]), _DECIMALS) for label, index in wanted}
            scores.append(json.dumps(told, separators=(",", ":"), ensure_ascii=False))
        return scores

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> NoReturn:
        raise AssertionError("moderation: its options decide the score; call score_by")

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        """Of options and scores alone: judging needs none of the classifier's files."""
        assert isinstance(options, ModerationOptions)
        limits = dict.fromkeys(options.refuse, DEFAULT_THRESHOLD)
        if not set(options.refuse) - {SAFETY_LABEL}:
            limits = {SAFETY_LABEL: SAFETY_THRESHOLD}
        return ModerationJudge(limits | dict(options.thresholds))


def _find(options: ModerationOptions) -> ClassifierFile:
    return find_classifier(Path(options.classifier).expanduser(), labels=options.labels)


def _refused(options: ModerationOptions, found: ClassifierFile) -> tuple[str, ...]:
    return found.labels if found.kind == "safety-checker" else options.refuse


def _check_onnx(options: ModerationOptions, found: ClassifierFile) -> None:
    given = [name for name in ("mean", "std", "activation") if getattr(options, name) is not None]
    if found.kind != "onnx" and given:
        raise ModelError(f"{given[0]}: of ONNX files alone; {found.path} says how it is fed itself")
    if found.kind == "onnx" and options.activation is None:
        raise ModelError(
            f"activation: {found.path} does not say what it gives; expected softmax, sigmoid, or "
            "none where it gives probabilities"
        )
    if options.std is not None and min(options.std) <= 0:
        raise ModelError(f"std: {list(options.std)}; expected numbers above 0")


def _three(values: tuple[float, ...] | None, default: float) -> tuple[float, ...]:
    """By channel. Raises ModelError for two."""
    given = values or (default,)
    if len(given) == 2:
        raise ModelError(f"mean, std: {list(given)}; expected one number, or one for each of RGB")
    return given * 3 if len(given) == 1 else given
