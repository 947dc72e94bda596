"""What images made from prompts show: their class by a classifier, their attributes by the rules.

Used by benchmarks/text_to_image.py. The classifier is trained on all real training images; the test
images judge the classifier, and say how well real images of the same combinations do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from fashion_captions import (
    CLASS_NAMES,
    HELD_OUT,
    SHADES,
    TEMPLATES,
    UNSEEN_TEMPLATES,
    WIDTHS,
    Rules,
    texts_of,
)
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from datagen.conditions import Condition, Prompt
from datagen.features.classifier import SmallClassifier, logits_of, train_classifier
from datagen.generators.interface import ConditionedSampler
from datagen.labels import Labels

NUM_EPOCHS = 8
CLASSIFIER_SEED = 7

Combination = tuple[int, int, int]
EVERY_COMBINATION = tuple(product(range(len(CLASS_NAMES)), range(len(SHADES)), range(len(WIDTHS))))
TRAINED = tuple(c for c in EVERY_COMBINATION if c not in HELD_OUT)


@dataclass(frozen=True)
class Judge:
    classifier: SmallClassifier
    rules: Rules

    def shares(
        self, images: NDArray[np.uint8], asked: NDArray[np.int64]
    ) -> dict[str, NDArray[np.bool_]]:
        """images: (N, 28, 28). asked: (N, 3), class, shade and width. What of it each shows."""
        found = self.rules.attributes(images, asked[:, 0])
        shown = {
            "class": predicted(self.classifier, images) == asked[:, 0],
            "shade": found[:, 0] == asked[:, 1],
            "width": found[:, 1] == asked[:, 2],
        }
        return shown | {"all three": shown["class"] & shown["shade"] & shown["width"]}


def predicted(classifier: SmallClassifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    return logits_of(classifier, images[:, :, :, None]).argmax(1)


def load_classifier(
    path: Path, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
) -> SmallClassifier:
    """Trained and kept at `path` where it is not there yet. images: (N, 28, 28), real ones."""
    if not path.exists():
        trained = train_classifier(
            images[:, :, :, None],
            class_ids,
            num_classes=len(CLASS_NAMES),
            num_epochs=NUM_EPOCHS,
            seed=CLASSIFIER_SEED,
        )
        save_file({k: v.contiguous() for k, v in trained.state_dict().items()}, path)
    classifier = SmallClassifier(channels=1, image_size=(28, 28), num_classes=len(CLASS_NAMES))
    classifier.load_state_dict(load_file(path))
    return classifier.eval()


def prompts_of(combination: Combination, *, unseen: bool) -> list[str]:
    """Every phrasing, of those that the training has, or of others."""
    templates = UNSEEN_TEMPLATES if unseen else TEMPLATES[True, True]
    return texts_of(*combination, templates)


def draw(
    sampler: ConditionedSampler, texts: Sequence[str], *, seeds: Sequence[int]
) -> NDArray[np.uint8]:
    """Returns (N, 28, 28): one image of each text and seed."""
    parts = []
    for start in range(0, len(texts), sampler.batch_size):
        some = slice(start, start + sampler.batch_size)
        told = [Condition(Labels("prompted"), prompt=Prompt(text)) for text in texts[some]]
        parts.append(sampler.sample_conditioned(seeds[some], [0] * len(told), told))
    return np.concatenate(parts)[..., 0]


def measure(
    sampler: ConditionedSampler,
    judge: Judge,
    combinations: Iterable[Combination],
    *,
    per_combination: int,
    unseen: bool,
    first_seed: int,
) -> dict[Combination, dict[str, float]]:
    """Shares of the images of each combination that show what was asked for."""
    texts, asked = [], []
    for combination in combinations:
        known = prompts_of(combination, unseen=unseen)
        # Steps through all phrasings, few images or many: neighbours differ in one word alone.
        places = np.linspace(0, len(known), per_combination, endpoint=False).astype(int)
        texts += [known[i] for i in places]
        asked += [combination] * per_combination
    seeds = range(first_seed, first_seed + len(texts))
    images = draw(sampler, texts, seeds=seeds)
    shown = judge.shares(images, np.array(asked))
    rows = {name: values.reshape(-1, per_combination).mean(1) for name, values in shown.items()}
    return {
        combination: {name: float(values[i]) for name, values in rows.items()}
        for i, combination in enumerate(asked[::per_combination])
    }


def measure_real(
    judge: Judge,
    images: NDArray[np.uint8],
    class_ids: NDArray[np.int64],
    wanted: frozenset[Combination],
) -> float:
    """Share of real images of these combinations whose class the classifier finds: no generator
    can be asked for more."""
    found = judge.rules.attributes(images, class_ids)
    rows = zip(class_ids.tolist(), *found.T.tolist(), strict=True)
    chosen = np.array([row in wanted for row in rows])
    return float((predicted(judge.classifier, images[chosen]) == class_ids[chosen]).mean())


def mean_of(measured: Mapping[Combination, Mapping[str, float]]) -> dict[str, float]:
    names = next(iter(measured.values()))
    return {name: float(np.mean([row[name] for row in measured.values()])) for name in names}
