"""Privacy of a data set: how many images are near copies of training images, above what chance
shows, and whether membership in the training set can be inferred. Called by evaluate.py.

Held-out real images are not copies of anything: half of them set the threshold, the other half
shows how often chance alone passes it. Copies planted on the way must be found, else the check
calls itself blind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.privacy.controls import MIN_RECALL, find_planted, is_blind, plant
from datagen.evaluation.privacy.intervals import newcombe, wilson
from datagen.evaluation.privacy.membership import attack_scores, membership
from datagen.evaluation.results import Control, NearCopy, Privacy
from datagen.faults import plural
from datagen.image_set import ImageSet
from datagen.references.copy_detector import NUM_LESSONS, CopyDetector, CopyMatches, never, quiet
from datagen.references.copy_index import FeatureIndex

# The gate opens at an excess of 0.005: where chance flags 1%, a thousand images cannot show that.
# At 0.1% they can; where there are twice as many, 0.2% can too, and finds more copies.
STRICT_FPR, FLAG_FPR = 0.001, 0.002
MANY_IMAGES = 2_000
MIN_HELD_OUT = 100
NUM_CLOSEST = 12
MAX_SYNTHETIC, MAX_HELD_OUT = 10_000, 5_000
MAX_QUICK_SYNTHETIC, MAX_QUICK_HELD_OUT = 1_000, 1_000
NUM_PLANTED, NUM_QUICK_PLANTED = 50, 20
NUM_QUICK_LESSONS = 384
IDENTICAL = "identical pixels"


@dataclass(frozen=True)
class _Held:
    """calibration: sets the threshold. measured: shows the rate of false positives."""

    calibration: ImageSet
    measured: ImageSet
    notes: tuple[str, ...]


def measure_privacy(
    synthetic: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    *,
    quick: bool,
    seed: int,
    detector: CopyDetector | None = None,
    flag_fpr: float | None = None,
    on_progress: Callable[[str], None] = quiet,
    check_abort: Callable[[], None] = never,
) -> Privacy:
    """detector: one that was fitted to `train`; None fits one. flag_fpr: the share of real images
    that chance may flag; None for the largest that lets the gate open."""
    rng = np.random.default_rng(seed)
    held = _prepare(held_out, train, MAX_QUICK_HELD_OUT if quick else MAX_HELD_OUT, rng)
    if min(len(held.calibration), len(held.measured)) < MIN_HELD_OUT:
        num_usable = len(held.calibration) + len(held.measured)
        return _withheld(num_usable, _count_identical(synthetic, train), held.notes)
    sample, notes = _sample(synthetic, MAX_QUICK_SYNTHETIC if quick else MAX_SYNTHETIC, rng)
    if flag_fpr is None:
        flag_fpr = FLAG_FPR if len(sample) >= MANY_IMAGES else STRICT_FPR
    if detector is None:
        detector = CopyDetector.fit(
            train.images,
            seed=seed,
            num_lessons=NUM_QUICK_LESSONS if quick else NUM_LESSONS,
            on_progress=on_progress,
            check_abort=check_abort,
        )
    on_progress(f"copies: {len(held.calibration) + len(held.measured)} held-out images")
    detector = detector.calibrate(held.calibration.images, flag_fpr, check_abort=check_abort)
    threshold = detector.threshold
    assert threshold is not None
    chance = detector.search(held.measured.images, check_abort=check_abort)
    on_progress("copies: planted controls")
    planted = plant(
        train.images,
        held.measured.images,
        num=NUM_QUICK_PLANTED if quick else NUM_PLANTED,
        seed=seed,
    )
    controls = find_planted(
        planted, train.images, detector, threshold=threshold, check_abort=check_abort
    )
    on_progress(f"copies: {len(sample)} synthetic images")
    found = _with_identical(
        detector.search(sample.images, check_abort=check_abort), sample, train, threshold
    )
    flagged = found.score > threshold
    num_identical = _count_identical(synthetic, train)
    rate = wilson(int(flagged.sum()), len(sample))
    false_positives = wilson(int((chance.score > threshold).sum()), len(held.measured))
    on_progress("copies: membership inference")
    attack = _attack(detector, sample, train, held, seed)
    pairs = _pairs(found, sample, train, held.measured, detector, flagged)
    excess = newcombe(rate, false_positives)
    notes += held.notes + _strictness(len(held.calibration), flag_fpr)
    return Privacy(
        near_copies=pairs if flagged.any() else (),
        rate=rate,
        false_positive_rate=false_positives,
        excess=excess,
        threshold=threshold,
        controls=controls,
        is_blind=is_blind(controls),
        membership=attack,
        synthetic_scores=tuple(float(score) for score in found.score),
        held_out_scores=tuple(float(score) for score in chance.score),
        sentence=_sentence(int(flagged.sum()), num_identical, rate, excess, controls, attack),
        closest_pairs=() if flagged.any() else pairs,
        num_identical=num_identical,
        notes=notes,
    )


def _prepare(held_out: ImageSet, train: ImageSet, most: int, rng: np.random.Generator) -> _Held:
    """Without images and groups that training knows; a group stays on one side."""
    notes = []
    known = set(train.pixel_digests())
    same = np.array([digest in known for digest in held_out.pixel_digests()], dtype=bool)
    if same.any():
        names = [held_out.names[row] for row in np.flatnonzero(same)[:5]]
        more = f" and {same.sum() - 5} more" if same.sum() > 5 else ""
        notes.append(
            f"{same.sum()} held-out images equal a training image and were left out of the search"
            f" for copies: {', '.join(names)}{more}"
        )
    keep = ~same
    if held_out.groups is not None and train.groups is not None:
        trained = set(train.groups)
        shared = np.array([group in trained for group in held_out.groups], dtype=bool) & keep
        if shared.any():
            notes.append(
                f"{shared.sum()} held-out images belong to a group (patient) that is in the"
                " training data too: they do not show what chance looks like and were left out"
            )
        keep &= ~shared
    kept = held_out.take(rng.permutation(np.flatnonzero(keep))[:most])
    if kept.groups is None:
        first = np.arange(len(kept)) < len(kept) // 2
    else:
        names = sorted(set(kept.groups))
        order = rng.permutation(len(names))
        chosen = {names[place] for place in order[: len(names) // 2]}
        first = np.array([group in chosen for group in kept.groups], dtype=bool)
    return _Held(kept.take(np.flatnonzero(first)), kept.take(np.flatnonzero(~first)), tuple(notes))


def _sample(
    synthetic: ImageSet, most: int, rng: np.random.Generator
) -> tuple[ImageSet, tuple[str, ...]]:
    if len(synthetic) <= most:
        return synthetic, ()
    rows = np.sort(rng.choice(len(synthetic), most, replace=False))
    note = f"copies were searched for among {most} of the {len(synthetic)} synthetic images"
    return synthetic.take(rows), (note,)


def _with_identical(
    found: CopyMatches, sample: ImageSet, train: ImageSet, threshold: float
) -> CopyMatches:
    """Equal pixels need no evidence."""
    rows = {digest: row for row, digest in enumerate(train.pixel_digests())}
    score, original, disguise = found.score.copy(), found.original.copy(), list(found.disguise)
    for row, digest in enumerate(sample.pixel_digests()):
        if digest in rows:
            score[row] = max(score[row], threshold + 1)
            original[row], disguise[row] = rows[digest], IDENTICAL
    return CopyMatches(score, original, tuple(disguise))


def _count_identical(synthetic: ImageSet, train: ImageSet) -> int:
    known = set(train.pixel_digests())
    return sum(digest in known for digest in synthetic.pixel_digests())


def _attack(
    detector: CopyDetector, sample: ImageSet, train: ImageSet, held: _Held, seed: int
) -> Measure:
    """As many members as non-members; the calibration half is what no model saw."""
    rng = np.random.default_rng([seed, 1])
    num = min(len(held.measured), len(train))
    members = rng.choice(len(train), num, replace=False)
    synthetic, reference = (
        detector.describe(images) for images in (sample.images, held.calibration.images)
    )
    scores = [
        attack_scores(detector.describe(images), synthetic, reference)
        for images in (train.images[members], held.measured.images)
    ]
    return membership(scores[0], scores[1], seed=seed)


def _pairs(
    found: CopyMatches,
    sample: ImageSet,
    train: ImageSet,
    held_out: ImageSet,
    detector: CopyDetector,
    flagged: NDArray[np.bool_],
) -> tuple[NearCopy, ...]:
    """All flagged images, or the closest, the closest first."""
    order = np.argsort(-found.score, kind="stable")
    rows = order[: int(flagged.sum()) or NUM_CLOSEST]
    known = FeatureIndex.build(detector.describe(held_out.images))
    _, nearest = known.nearest(detector.describe(sample.images[rows]))
    return tuple(
        NearCopy(
            name=sample.names[row],
            class_name=sample.class_names[sample.class_ids[row]],
            original=train.names[found.original[row]],
            nearest_held_out=held_out.names[near],
            score=float(found.score[row]),
            disguise=found.disguise[row],
        )
        for row, near in zip(rows, nearest, strict=True)
    )


def _strictness(num_calibration: int, fpr: float) -> tuple[str, ...]:
    needed = int(np.ceil(1 / fpr))
    if num_calibration >= needed:
        return ()
    return (
        f"{num_calibration} held-out images set the threshold for {fpr:.1%} false positives, which"
        f" needs {needed}: the tail of their scores was extrapolated",
    )


def _withheld(num: int, num_identical: int, notes: tuple[str, ...]) -> Privacy:
    reason = (
        f"{num} usable held-out real images: at least {2 * MIN_HELD_OUT} are needed to tell copies"
        " from chance, and 2000 to do so at 0.1% false positives; a gate on near copies cannot open"
    )
    absent = Measure.absent(reason, n=num)
    return Privacy(
        (), absent, absent, absent, 0.0, (), True, absent,
        sentence=_identical_first(num_identical) + reason, num_identical=num_identical, notes=notes,
    )  # fmt: skip


def _identical_first(num: int) -> str:
    if num == 0:
        return ""
    return f"{plural(num, 'image is a', 'images are a')} training image, pixel by pixel. "


def _sentence(
    num: int,
    num_identical: int,
    rate: Measure,
    excess: Measure,
    controls: tuple[Control, ...],
    attack: Measure,
) -> str:
    if is_blind(controls):
        found = np.mean([control.recall for control in controls])
        return (
            f"{_identical_first(num_identical)}This check is blind: it found {found:.0%} of the"
            f" copies that were planted to test it, and {MIN_RECALL:.0%} are needed. That few"
            " images were flagged says nothing."
        )
    assert excess.high is not None
    assert excess.low is not None
    flagged = f"{num} of {rate.n} images were flagged as near copies of training images"
    if excess.low > 0:
        verdict = f"{flagged}, more than chance explains (at least {excess.low:.1%} more)."
    else:
        verdict = f"{flagged}, no more than chance explains (at most {excess.high:.1%} more)."
    weak = [f"{c.disguise} ({c.recall:.0%})" for c in controls if c.recall < MIN_RECALL]
    if weak:
        verdict += f" Copies disguised by {', '.join(weak)} were often missed."
    if attack.low is not None and attack.floor is not None and attack.low > attack.floor:
        verdict += (
            f" Membership in the training data can be inferred: {attack.value:.1%} of members are"
            f" recognised where chance is {attack.floor:.0%}."
        )
    return verdict
