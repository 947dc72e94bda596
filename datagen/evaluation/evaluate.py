"""The whole evaluation of a set of images: every concern, then one verdict and its pictures.

Loads and writes nothing. Called by assessment.py (`datagen evaluate`) and stages/evaluate.py
(gates).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from datagen.evaluation.fairness import FairnessInputs, measure_fairness
from datagen.evaluation.fidelity import measure_fidelity
from datagen.evaluation.label_agreement import measure_label_agreement
from datagen.evaluation.privacy import measure_privacy
from datagen.evaluation.report.pictures import GalleryItem, PairPicture, Pictures
from datagen.evaluation.results import (
    AttributeFairness,
    Evaluation,
    Fidelity,
    Funnel,
    LabelAgreement,
    Privacy,
    Subject,
    Utility,
)
from datagen.evaluation.utility import CommandTrainer, measure_utility
from datagen.evaluation.words import headline, limits
from datagen.features import (
    Classifier,
    ClassifierFeatures,
    FeatureCache,
    FeatureExtractor,
    compute_features,
    fit_classifier,
    load_extractor,
)
from datagen.image_set import ImageSet, joined
from datagen.references.threads import one_thread_each

MARGIN = 0.01
MAX_IMAGES, MAX_QUICK_IMAGES = 10_000, 2_000
_GALLERY_PER_CLASS = 48
_MAX_PAIRS = 24


@dataclass(frozen=True)
class RealData:
    """train: what the generator may have seen. held_out: what neither it nor any classifier has.
    name: as the report calls it."""

    name: str
    train: ImageSet
    held_out: ImageSet
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """margin: of accuracy within which two ways to train count as equal. features: an extractor by
    name, None for the one that fits the images. trainer: a command, None for the small CNN.
    baseline: other data to compare with. cache: of features that are dear; the small classifier's
    are made faster than read."""

    quick: bool = False
    seed: int = 0
    margin: float = MARGIN
    workers: int = 1
    features: str | None = None
    trainer: str | None = None
    baseline: ImageSet | None = None
    cache: FeatureCache | None = None

    @property
    def max_images(self) -> int:
        return MAX_QUICK_IMAGES if self.quick else MAX_IMAGES


@dataclass(frozen=True)
class About:
    """What the images are, beside their pixels. provenance: plain facts for the report."""

    name: str
    version: int | None
    digest: str
    counts: Mapping[str, int]
    performance_claims: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    funnel: Funnel | None = None


Progress = Callable[[str], None]
Check = Callable[[], None]
First = TypeVar("First")
Second = TypeVar("Second")


def evaluate(
    synthetic: ImageSet,
    real: RealData,
    about: About,
    options: Options,
    *,
    on_progress: Progress = lambda text: None,
    check_abort: Callable[[], None] = lambda: None,
) -> tuple[Evaluation, Pictures]:
    """The sets are matched: equal classes, sizes and channels (sources.match_sets).

    Deterministic for equal inputs, seed and number of workers, but for the seconds.
    """
    clock = _Clock(on_progress, check_abort)
    with one_thread_each():
        privacy, rest = _side_by_side(
            lambda check: _privacy(synthetic, real, options, clock, check),
            lambda check: _all_but_privacy(synthetic, real, options, clock, check),
            check_abort,
            is_parallel=options.workers > 1,
        )
    fidelity, agreement, utility, fairness = rest
    subject = _subject(synthetic, real, about, options)
    told = limits(subject, utility, privacy, has_groups=real.held_out.groups is not None)
    evaluation = Evaluation(
        subject=replace(subject, limits=tuple(told)),
        headline=headline(utility, agreement, privacy),
        fidelity=fidelity,
        label_agreement=agreement,
        utility=utility,
        privacy=privacy,
        fairness=fairness,
        funnel=about.funnel,
        seconds=clock.seconds,
    )
    return evaluation, _pictures(synthetic, real, agreement, privacy)


def _privacy(
    synthetic: ImageSet, real: RealData, options: Options, clock: _Clock, check_abort: Check
) -> Privacy:
    with clock.timed("privacy"):
        return measure_privacy(
            synthetic,
            real.train,
            real.held_out,
            quick=options.quick,
            seed=options.seed,
            check_abort=check_abort,
        )


def _all_but_privacy(
    synthetic: ImageSet, real: RealData, options: Options, clock: _Clock, check_abort: Check
) -> tuple[Fidelity, LabelAgreement, Utility, tuple[AttributeFairness, ...]]:
    with clock.timed("classifier"):
        classifier = fit_classifier(real.train, seed=options.seed)
        extractor = load_extractor(options.features, classifier)
    with clock.timed("fidelity"):
        fidelity = measure_fidelity(
            synthetic,
            real.train,
            real.held_out,
            extractor=extractor,
            classifier=classifier,
            seed=options.seed,
            quick=options.quick,
            cache=None if isinstance(extractor, ClassifierFeatures) else options.cache,
            check_abort=check_abort,
        )
    with clock.timed("label agreement"):
        agreement = measure_label_agreement(synthetic, classifier, real.held_out, seed=options.seed)
    utility = _utility(synthetic, real, options, clock, check_abort)
    with clock.timed("fairness"):
        fairness = _fairness(synthetic, real, classifier, extractor, seed=options.seed)
    return fidelity, agreement, utility, fairness


def _utility(
    synthetic: ImageSet, real: RealData, options: Options, clock: _Clock, check_abort: Check
) -> Utility:
    with clock.timed("utility"):
        trainer = options.trainer and CommandTrainer(options.trainer, synthetic.class_names)
        return measure_utility(
            synthetic,
            real.train,
            real.held_out,
            baseline=options.baseline,
            trainer=trainer or None,
            quick=options.quick,
            margin=options.margin,
            seed=options.seed,
            workers=options.workers,
            check_abort=check_abort,
        )


def _side_by_side(
    first: Callable[[Check], First],
    second: Callable[[Check], Second],
    check_abort: Check,
    *,
    is_parallel: bool,
) -> tuple[First, Second]:
    """Each is called with what tells it to stop; an error of one stops the other."""
    if not is_parallel:
        return first(check_abort), second(check_abort)
    has_failed = threading.Event()

    def check() -> None:
        check_abort()
        if has_failed.is_set():
            raise InterruptedError

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(first, check)
        try:
            found = second(check)
            return waiting.result(), found
        except BaseException:
            has_failed.set()
            raise


class _Clock:
    """Tells what is at work, and for how many seconds it was."""

    def __init__(self, on_progress: Progress, check_abort: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._on_progress = on_progress
        self._check_abort = check_abort

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        self._check_abort()
        self._on_progress(what)
        started = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - started


def _subject(synthetic: ImageSet, real: RealData, about: About, options: Options) -> Subject:
    height, width, channels = synthetic.image_shape
    return Subject(
        name=about.name,
        version=about.version,
        digest=about.digest,
        num_images=len(synthetic),
        counts=about.counts,
        reference=real.name,
        num_train=len(real.train),
        num_held_out=len(real.held_out),
        image_size=(height, width),
        channels=channels,
        quick=options.quick,
        seed=options.seed,
        provenance=about.provenance,
        notes=real.notes,
        performance_claims=about.performance_claims,
    )


def _fairness(
    synthetic: ImageSet,
    real: RealData,
    classifier: Classifier,
    extractor: FeatureExtractor,
    *,
    seed: int,
) -> tuple[AttributeFairness, ...]:
    """Asked only where an attribute is declared: features of every image are dear."""
    if not any(images.attributes for images in (synthetic, real.train, real.held_out)):
        return ()
    predicted = classifier.predict_proba(synthetic.images).argmax(1)
    with_synthetic = fit_classifier(joined(real.train, synthetic), seed=seed)
    told = with_synthetic.predict_proba(real.held_out.images).argmax(1)
    inputs = FairnessInputs(
        synthetic=synthetic,
        synthetic_agreed=predicted == synthetic.class_ids,
        real=real.train,
        extract=lambda images: compute_features(extractor, images),
        held_out=real.held_out,
        held_out_correct=told == real.held_out.class_ids,
    )
    return measure_fairness(inputs, seed=seed)


def _pictures(
    synthetic: ImageSet, real: RealData, agreement: LabelAgreement, privacy: Privacy
) -> Pictures:
    """What a reviewer should see first comes first: doubted labels, copies, then the rest."""
    doubts = {
        suspect.name: f"a classifier says {suspect.predicted} "
        f"({suspect.probability:.0%} for {suspect.class_name})"
        for suspect in agreement.suspects
    }
    doubts |= {
        copy.name: f"looks like training image {copy.original}" for copy in privacy.near_copies
    }
    gallery = {
        name: _gallery_of(synthetic, class_id, doubts)
        for class_id, name in enumerate(synthetic.class_names)
    }
    return Pictures(gallery, _pairs(synthetic, real, privacy))


def _gallery_of(synthetic: ImageSet, class_id: int, doubts: Mapping[str, str]) -> list[GalleryItem]:
    rows = synthetic.rows_of(class_id).tolist()
    rows.sort(key=lambda row: synthetic.names[row] not in doubts)  # stable: else in order
    return [
        GalleryItem(
            key=synthetic.names[row],
            image=synthetic.images[row],
            suspicion=doubts.get(synthetic.names[row], ""),
        )
        for row in rows[:_GALLERY_PER_CLASS]
    ]


def _pairs(synthetic: ImageSet, real: RealData, privacy: Privacy) -> list[PairPicture]:
    """Flagged images, or else the closest ones, beside their nearest real images."""
    places = [
        {name: row for row, name in enumerate(images.names)}
        for images in (synthetic, real.train, real.held_out)
    ]
    flagged = bool(privacy.near_copies)
    pairs = []
    for copy in (privacy.near_copies or privacy.closest_pairs)[:_MAX_PAIRS]:
        held_out = places[2].get(copy.nearest_held_out)
        told = f", {copy.disguise}" if copy.disguise else ""
        pairs.append(
            PairPicture(
                synthetic=synthetic.images[places[0][copy.name]],
                nearest_training=real.train.images[places[1][copy.original]],
                nearest_held_out=None if held_out is None else real.held_out.images[held_out],
                caption=f"{'Flagged' if flagged else 'Not flagged'}: score {copy.score:.3f}{told}",
                synthetic_name=copy.name,
                training_name=copy.original,
                held_out_name=copy.nearest_held_out,
                is_flagged=flagged,
            )
        )
    return pairs
