"""What evaluation finds: one dataclass per concern, and all of them together.

Made by the module of each concern, put together by evaluate.py, shown by report/ and the command
line. to_json is the stable form: docs/evaluation.md lists its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from datagen.evaluation.measure import Measure

Verdict = Literal["helps", "no_difference", "harms", "inconclusive"]
FORMAT = 1


def _measures_json(result: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(result, name).to_json() for name in names}


@dataclass(frozen=True)
class Fidelity:
    """extractor: whose features they are taken on."""

    extractor: str
    fid: Measure
    kid: Measure
    precision: Measure
    recall: Measure
    density: Measure
    coverage: Measure
    inception_score: Measure
    ssim_diversity: Measure
    lpips_diversity: Measure

    NAMES = (
        "fid", "kid", "precision", "recall", "density", "coverage",
        "inception_score", "ssim_diversity", "lpips_diversity",
    )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {"features": self.extractor, **_measures_json(self, self.NAMES)}


@dataclass(frozen=True)
class Suspect:
    """An image whose label an independent classifier doubts. probability: of its own label."""

    name: str
    class_name: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class LabelAgreement:
    """agreement: share of images whose label the classifier confirms. classifier_accuracy: of the
    same classifier on held-out real images."""

    agreement: Measure
    classifier_accuracy: Measure
    suspects: tuple[Suspect, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **self.agreement.to_json(),
            "classifier_accuracy": self.classifier_accuracy.to_json(),
            "suspects": [asdict(suspect) for suspect in self.suspects],
        }


@dataclass(frozen=True)
class Arm:
    """One way to train. metrics: accuracy, auroc, sensitivity (at the stated specificity), ece,
    each over seeds, with per_class where it makes sense. num_images: it was trained on."""

    name: str
    num_images: int
    metrics: Mapping[str, Measure]

    def to_json(self) -> dict[str, Any]:
        metrics = {name: measure.to_json() for name, measure in self.metrics.items()}
        return {"name": self.name, "num_images": self.num_images, "metrics": metrics}


@dataclass(frozen=True)
class CurvePoint:
    """accuracy when trained on num_real real images alone."""

    num_real: int
    accuracy: Measure


@dataclass(frozen=True)
class Utility:
    """gap: accuracy of real + synthetic minus real + tuned augmentation or real alone, whichever is
    better, in points of 1; its interval decides the verdict. margin: of the equivalence test.
    sentence: the verdict in plain words. classes: name -> verdict, corrected for many tests.
    rarest: gain of the rarest classes. few_shot: real images per class -> gap. worth_real_labels:
    of the data set alone, added_worth: of what it adds to some real images (the note says how
    many), both with their 90% intervals; high None: at least low."""

    verdict: Verdict | None
    withheld: str | None
    gap: Measure
    worth_real_labels: Measure
    margin: float
    sentence: str
    comparison: str = ""
    arms: tuple[Arm, ...] = ()
    class_gaps: Mapping[str, Measure] = field(default_factory=dict)
    class_verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    rarest: Measure | None = None
    few_shot: Mapping[int, Measure] = field(default_factory=dict)
    learning_curve: tuple[CurvePoint, ...] = ()
    trainer: str = "small CNN"
    synthetic_only_gap: Measure | None = None
    added_worth: Measure | None = None

    def to_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "comparison": self.comparison,
            "gap": self.gap.to_json(),
            "worth_real_labels": self.worth_real_labels.to_json(),
            "margin": self.margin,
            "trainer": self.trainer,
            "arms": [arm.to_json() for arm in self.arms],
            "class_gaps": {name: gap.to_json() for name, gap in self.class_gaps.items()},
            "class_verdicts": dict(self.class_verdicts),
            "few_shot": {str(n): gap.to_json() for n, gap in self.few_shot.items()},
            "learning_curve": [
                {"num_real": p.num_real, "accuracy": p.accuracy.to_json()}
                for p in self.learning_curve
            ],
        }
        if self.withheld is not None:
            content["withheld"] = self.withheld
        if self.rarest is not None:
            content["rarest_classes"] = self.rarest.to_json()
        if self.synthetic_only_gap is not None:
            content["synthetic_only_gap"] = self.synthetic_only_gap.to_json()
        if self.added_worth is not None:
            content["added_worth"] = self.added_worth.to_json()
        return content


@dataclass(frozen=True)
class NearCopy:
    """A synthetic image that is a near copy, with its original and how it was disguised. score:
    of the detector, above `threshold` is flagged. nearest_held_out: for comparison."""

    name: str
    class_name: str
    original: str
    nearest_held_out: str
    score: float
    disguise: str = ""


@dataclass(frozen=True)
class Control:
    """Copies planted by the evaluation itself. recall: share found, with the original named."""

    disguise: str
    num_planted: int
    recall: float


@dataclass(frozen=True)
class Privacy:
    """rate: share of synthetic images flagged; false_positive_rate: the same among held-out real
    images that were not used for calibration; excess: rate minus that, with its 95% interval: the
    gate reads its upper bound. is_blind: too few planted copies were found: nothing follows from
    a low rate. scores: of synthetic and held-out images, for the chart. closest_pairs: those
    with the highest scores, where none is flagged. num_identical: synthetic images that equal a
    training image pixel by pixel: known even where the check is blind. notes: what was left out,
    and why."""

    near_copies: tuple[NearCopy, ...]
    rate: Measure
    false_positive_rate: Measure
    excess: Measure
    threshold: float
    controls: tuple[Control, ...]
    is_blind: bool
    membership: Measure
    synthetic_scores: tuple[float, ...] = ()
    held_out_scores: tuple[float, ...] = ()
    sentence: str = ""
    closest_pairs: tuple[NearCopy, ...] = ()
    num_identical: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "near_copies": [asdict(copy) for copy in self.near_copies],
            "closest_pairs": [asdict(copy) for copy in self.closest_pairs],
            "rate": self.rate.to_json(),
            "false_positive_rate": self.false_positive_rate.to_json(),
            "excess": self.excess.to_json(),
            "threshold": self.threshold,
            "controls": [asdict(control) for control in self.controls],
            "is_blind": self.is_blind,
            "num_identical": self.num_identical,
            "membership_inference": self.membership.to_json(),
            "sentence": self.sentence,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class AttributeFairness:
    """One declared attribute. values: value -> measure name (count, label_agreement, coverage,
    utility) -> measure. largest_gap: "label_agreement: f 0.91, m 0.97", in words."""

    attribute: str
    values: Mapping[str, Mapping[str, Measure]]
    largest_gap: Measure
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {
            "attribute": self.attribute,
            "values": {
                value: {name: measure.to_json() for name, measure in measures.items()}
                for value, measures in self.values.items()
            },
            "largest_gap": self.largest_gap.to_json(),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Funnel:
    """class name -> attempts made, rejected by reason, kept. From the catalog."""

    classes: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        return {name: dict(counts) for name, counts in self.classes.items()}


@dataclass(frozen=True)
class Subject:
    """What was evaluated and against what. provenance: plain facts for the report (model, recipe
    digest, code version, reference digests, machine, seconds). limits: in plain words. notes: what
    was mapped, resized, left out."""

    name: str
    version: int | None
    digest: str
    num_images: int
    counts: Mapping[str, int]
    reference: str
    num_train: int
    num_held_out: int
    image_size: tuple[int, int]
    channels: int
    quick: bool
    seed: int
    provenance: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    performance_claims: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The whole verdict. headline: one sentence for who reads nothing else."""

    subject: Subject
    headline: str
    fidelity: Fidelity
    label_agreement: LabelAgreement
    utility: Utility
    privacy: Privacy
    fairness: tuple[AttributeFairness, ...] = ()
    funnel: Funnel | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        fidelity = self.fidelity.to_json()
        privacy = self.privacy.to_json()
        return {
            "format": FORMAT,
            "headline": self.headline,
            "subject": asdict(self.subject),
            **{name: fidelity[name] for name in Fidelity.NAMES},
            "features": fidelity["features"],
            "label_agreement": self.label_agreement.to_json(),
            "utility": self.utility.to_json(),
            "near_copies": {**privacy["rate"], "items": privacy.pop("near_copies")},
            "privacy": privacy,
            "fairness": [each.to_json() for each in self.fairness],
            "funnel": None if self.funnel is None else self.funnel.to_json(),
        }
