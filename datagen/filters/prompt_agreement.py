"""prompt_agreement: an image that a network of images and texts, or a classifier, does not take for
what its class was asked for. Listed in datagen.filters.FILTERS.

The class of an image made from a prompt is a claim. Where the model has a reference of real images,
label_agreement asks the classifier that was trained on those instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from pydantic import BaseModel, Field, StringConstraints

from datagen.errors import ModelError
from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score
from datagen.pretrained.classifiers import MODEL_TYPES, PURPOSE, find_classifier, open_classifier
from datagen.pretrained.folder import PretrainedFolder, check_kind, check_unchanged, open_folder
from datagen.pretrained.zero_shot import find_matcher, is_matcher, open_matcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datagen.references.reference import Reference

_Words = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
_DECIMALS = 4


class PromptAgreementOptions(FilterOptions):
    directory: str = Field(
        min_length=1,
        max_length=1000,
        description="the folder of a CLIP or SigLIP network, or of an image classifier, as "
        "transformers saves it",
    )
    texts: Mapping[str, _Words] = Field(
        default_factory=dict,
        max_length=10_000,
        description="a mapping like {cat: a photo of a cat}; of an image classifier, the label of "
        'each class. Left out: "a photo of a cat", or the label that is the class',
    )
    others: tuple[_Words, ...] = Field(
        default=(),
        max_length=100,
        strict=False,  # JSON and YAML hold lists
        description="a list of further texts that an image may fit better: [an empty picture]",
    )
    min_probability: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="a probability from 0 to 1 that an image's own class has to have",
    )
    must_win: bool = Field(
        default=True, description="true: no other class or text may be more probable; or false"
    )

    @cached_property
    def pinned_digest(self) -> str:
        """Of the files as these options first saw them; scores are kept under it."""
        return _open(self).sha256

    def named_classes(self) -> Iterable[str]:
        return self.texts


@dataclass(frozen=True)
class PromptAgreementJudge:
    class_name: str
    min_probability: float
    must_win: bool

    def reject(self, score: Score) -> str | None:
        told = json.loads(str(score))
        is_beaten = self.must_win and told["won"] != self.class_name
        return "prompt_agreement" if is_beaten or told["p"] < self.min_probability else None

    def accept(self, score: Score) -> None:
        """Images are judged one by one: nothing to remember."""


class PromptAgreementFilter:
    """The score is a JSON object: p, the probability of the image's own class to 4 decimals, and
    won, the most probable of classes, texts of `others` and other labels; of equals, the first."""

    name = "prompt_agreement"
    options: type[FilterOptions] = PromptAgreementOptions

    def needs_reference(self, options: BaseModel) -> bool:
        return False

    def fill(self, options: BaseModel, class_names: Sequence[str]) -> FilterOptions:
        """With a text for each class of the recipe: another class asks another question.

        Raises ModelError if the network cannot be used."""
        assert isinstance(options, PromptAgreementOptions)
        folder = _open(options)
        texts = {}
        for name in sorted(class_names):
            words = name.replace("_", " ").replace("-", " ")
            default = f"a photo of a {words}" if is_matcher(folder) else name
            texts[name] = options.texts.get(name, default)
        return options.model_copy(update={"texts": texts})

    def check(self, options: BaseModel) -> None:
        """Raises ModelError if the network cannot be used, or has no label for a class."""
        assert isinstance(options, PromptAgreementOptions)
        folder = _open(options)
        asked = [*options.texts.values(), *options.others]
        if len(set(asked)) < len(asked) or set(options.others) & options.texts.keys():
            raise ModelError(
                "texts, others: two of them are the same; say each in words of its own"
            )
        if is_matcher(folder):
            return
        known = ", ".join(folder.labels[:40])
        for name, label in options.texts.items():
            if label not in folder.labels:
                raise ModelError(
                    f"{folder.path}: it has no label {label!r} for class {name}; say in texts "
                    f"which of its labels is meant: {known}"
                )
        if options.others:
            raise ModelError(f"others: {folder.path} is a classifier, whose labels are all there")

    def scorer_digest(self, options: BaseModel) -> str:
        """Over all that decides a score: the network's files and what is asked."""
        assert isinstance(options, PromptAgreementOptions)
        asked = [options.pinned_digest, list(options.texts.items()), list(options.others)]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def score_by(
        self, options: BaseModel, images: Images, class_names: Sequence[str]
    ) -> list[Score]:
        """One at a time. options: filled. Raises ModelError for other files than the pinned."""
        assert isinstance(options, PromptAgreementOptions)
        if len(images) == 0:
            return []
        asked = _Question(options)
        scores: list[Score] = []
        for image, class_name in zip(images, class_names, strict=True):
            row = asked.probabilities(image)
            told = {
                "p": round(float(row[asked.places[class_name]]), _DECIMALS),
                "won": asked.names[int(row.argmax())],
            }
            scores.append(json.dumps(told, separators=(",", ":"), ensure_ascii=False))
        return scores

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> NoReturn:
        raise AssertionError("prompt_agreement: its options decide the score; call score_by")

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, PromptAgreementOptions)
        return PromptAgreementJudge(class_name, options.min_probability, options.must_win)


class _Question:
    """What is asked of the network. names: of its answers; places: of each class among them."""

    def __init__(self, options: PromptAgreementOptions) -> None:
        folder = _open(options)
        check_unchanged(folder.path, folder.sha256, options.pinned_digest)
        classes = list(options.texts)
        if is_matcher(folder):
            self.names = [*classes, *options.others]
            self.places = {name: index for index, name in enumerate(classes)}
            texts = (*options.texts.values(), *options.others)
            self._ask = open_matcher(folder, texts).probabilities
            return
        named = {label: name for name, label in options.texts.items()}
        # A label that no class means may still read like a class.
        self.names = [named.get(label, f"label {label}") for label in folder.labels]
        self.places = {name: folder.labels.index(label) for name, label in options.texts.items()}
        self._ask = open_classifier(find_classifier(folder.path)).scores

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._ask(image)


def _open(options: PromptAgreementOptions) -> PretrainedFolder:
    path = Path(options.directory).expanduser()
    folder = open_folder(path, purpose=f"{PURPOSE}, or a CLIP-style network")
    if is_matcher(folder):
        return find_matcher(path)
    check_kind(folder, MODEL_TYPES, ending="ForImageClassification", purpose=PURPOSE)
    return folder
