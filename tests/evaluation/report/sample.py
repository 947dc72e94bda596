"""Evaluations and pictures that look like real ones, for tests of the report. No tests here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.pictures import GalleryItem, PairPicture, Pictures
from datagen.evaluation.results import (
    Arm,
    AttributeFairness,
    Control,
    CurvePoint,
    Evaluation,
    Fidelity,
    Funnel,
    LabelAgreement,
    NearCopy,
    Privacy,
    Subject,
    Suspect,
    Utility,
    Verdict,
)

GARMENTS = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot",
)  # fmt: skip

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "'; alert(1); //",
    "--><!--",
    "__proto__",
    "naïve 画像 🩻 \u202egnp.exe",
    "half \ud800 of a pair \x00\x1b[31m",
    "&lt;b&gt; &amp; {{7*7}}",
    "x" * 5000,
)


def spread(value: float, half: float, n: int = 2000, **more: float) -> Measure:
    return Measure(value, n, value - half, value + half, **more)


def by_class(
    value: float, half: float, names: Sequence[str], *, step: float = 0.0, n: int = 1000
) -> Measure:
    """step: how much the value falls from each class to the next."""
    each = {c: spread(value - i * step, half * 3, n // 10) for i, c in enumerate(names)}
    return replace(spread(value, half, n), per_class=each)


def fidelity(names: Sequence[str]) -> Fidelity:
    return Fidelity(
        extractor="small network trained on the reference",
        fid=replace(by_class(7.42, 0.6, names, step=-0.3), floor=2.1),
        kid=replace(by_class(0.00052, 0.0002, names), floor=0.00004),
        precision=replace(by_class(0.81, 0.02, names, step=0.02), floor=0.86),
        recall=replace(by_class(0.64, 0.03, names, step=0.01), floor=0.85),
        density=Measure(0.93, 2000, floor=1.01),
        coverage=Measure(0.88, 2000, floor=0.94),
        inception_score=Measure(8.61, 2000, floor=8.9),
        ssim_diversity=Measure(0.71, 500, floor=0.74),
        lpips_diversity=Measure.absent(
            "needs the weights of LPIPS, which are not installed; see the extra `lpips`"
        ),
    )


def utility(names: Sequence[str]) -> Utility:
    verdicts: list[Verdict] = ["helps", "no_difference", "inconclusive", "helps", "harms"]
    gaps = [0.031, 0.002, 0.008, 0.022, -0.019]
    accuracies = {
        "real only": (5000, 0.871),
        "synthetic only": (10000, 0.842),
        "real + synthetic 1x": (10000, 0.889),
        "real + synthetic 3x": (20000, 0.893),
        "real + tuned augmentation": (5000, 0.879),
        "pretrained on synthetic, then real": (15000, 0.886),
    }
    arms = tuple(
        Arm(
            name,
            number,
            {
                "accuracy": spread(accuracy, 0.005),
                "auroc": spread(accuracy + 0.1, 0.002),
                "sensitivity": spread(accuracy - 0.05, 0.02),
                "ece": spread(0.031, 0.004),
            },
        )
        for name, (number, accuracy) in accuracies.items()
    )
    points = [(500, 0.782), (1000, 0.818), (2000, 0.846), (3000, 0.858), (5000, 0.871)]
    points += [(8000, 0.884)]
    return Utility(
        verdict="helps",
        withheld=None,
        gap=Measure(0.0141, 10, 0.0082, 0.0199),
        worth_real_labels=Measure(2350, 10, 1480, 3420),
        margin=0.005,
        sentence=(
            "Adding these images to 5,000 real ones changes accuracy by +0.8 to +2.0 points: it "
            "helps; better for t-shirt, dress; worse for coat"
        ),
        comparison="real + synthetic 3x against real + tuned augmentation, 10 paired seeds",
        arms=arms,
        class_gaps={c: spread(gaps[i % 5], 0.012, 10) for i, c in enumerate(names)},
        class_verdicts={c: verdicts[i % 5] for i, c in enumerate(names)},
        rarest=spread(0.027, 0.014, 10),
        few_shot={n: spread(g, 0.01, 10) for n, g in ((10, 0.062), (50, 0.034), (200, 0.015))},
        learning_curve=tuple(CurvePoint(n, spread(a, 0.006, 10)) for n, a in points),
        synthetic_only_gap=spread(-0.029, 0.006, 10),
        added_worth=Measure(2210, 1250, 1400, 3300, note="to 1,250 real images"),
    )


def privacy(names: Sequence[str], *, seed: int = 0) -> Privacy:
    generator = np.random.default_rng(seed)
    return Privacy(
        near_copies=tuple(
            NearCopy(f"{names[i % len(names)]}-{i:08d}", names[i % len(names)],
                     f"train/{i:05d}.png", f"test/{i:05d}.png", 0.97 - i / 200, "mirrored")
            for i in range(7)
        ),
        rate=replace(by_class(0.007, 0.002, names), n=10000),
        false_positive_rate=spread(0.0095, 0.004, 1000),
        excess=Measure(-0.0025, 10000, -0.0071, 0.0018),
        threshold=0.82,
        controls=(
            Control("exact", 200, 1.0),
            Control("mirrored", 200, 0.995),
            Control("shifted by 2 px", 200, 0.98),
            Control("rotated by 10 degrees", 200, 0.965),
            Control("blended with another image", 200, 0.91),
        ),
        is_blind=False,
        membership=spread(0.011, 0.006, 2000),
        synthetic_scores=tuple(generator.beta(6, 5, 2000).tolist()),
        held_out_scores=tuple(generator.beta(6, 5.4, 1000).tolist()),
        sentence="No more near copies than chance alone flags.",
        notes=("Blends were not planted: the images are too small.",),
    )  # fmt: skip


def evaluation(names: Sequence[str] = GARMENTS, *, num_images: int = 10_000) -> Evaluation:
    counts = {c: num_images // len(names) for c in names}
    sexes = {
        sex: {
            "count": Measure(float(number), number),
            "label_agreement": spread(agreement, 0.01, number),
            "coverage": spread(coverage, 0.03, number),
            "utility": spread(gain, 0.012, 10),
        }
        for sex, number, agreement, coverage, gain in (
            ("f", 4120, 0.912, 0.84, 0.009),
            ("m", 5880, 0.968, 0.89, 0.017),
        )
    }
    return Evaluation(
        subject=Subject(
            name="fashion-10000",
            version=3,
            digest="9f3b2c6d1a8e47f0b5c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1",
            num_images=num_images,
            counts=counts,
            reference="fashion-mnist-sample",
            num_train=5000,
            num_held_out=2000,
            image_size=(28, 28),
            channels=1,
            quick=True,
            seed=7,
            provenance={
                "model": "edm-fashion@2",
                "recipe digest": "4be1c0de9a1f",
                "code": "datagen 0.4.0",
                "machine": "2 cores, 24 GiB",
            },
            notes=("Reference images of class ankle-boot count as boot.",),
            limits=(
                "One small network judged: a larger one may gain less, or more.",
                "Held-out images come from the same source as the training images: nothing is said "
                "about another scanner or hospital.",
            ),
            performance_claims=(
                "not for performance claims: its test split is synthetic, so no figure measured on "
                "it says how a model does on real patients."
            ),
        ),
        headline=(
            "These images help a classifier (+1.4 points), are worth about 2,400 real labels, and "
            "copy real images no more often than chance."
        ),
        fidelity=fidelity(names),
        label_agreement=LabelAgreement(
            by_class(0.943, 0.005, names, step=0.012, n=10000),
            spread(0.912, 0.012),
            tuple(
                Suspect(f"{names[i % len(names)]}-{i:08d}", names[i % len(names)],
                        names[(i + 1) % len(names)], 0.02 + i / 100)
                for i in range(12)
            ),
        ),
        utility=utility(names),
        privacy=privacy(names),
        fairness=(
            AttributeFairness(
                "sex", sexes, spread(0.056, 0.014), "label agreement: f 91.2%, m 96.8%"
            ),
        ),
        funnel=Funnel(
            {
                c: {
                    "attempts": 1300 + 25 * i,
                    "kept": 1000,
                    "label_agreement": 180 + 20 * i,
                    "near_copy": 45,
                    "duplicate": 60,
                    "blank": 15 + 5 * i,
                }
                for i, c in enumerate(names)
            }
        ),
        seconds={"fidelity": 31.2, "utility": 84.0, "privacy": 12.9},
    )  # fmt: skip


def withheld(names: Sequence[str] = GARMENTS) -> Evaluation:
    """Nothing could be measured, and nothing optional is there."""
    full = evaluation(names)
    none = Measure.absent("too few images: 12; at least 50 of each class are needed", n=12)
    return replace(
        full,
        headline="Too few images: nothing follows from this evaluation.",
        subject=replace(
            full.subject, version=None, quick=False, provenance={}, notes=(), limits=(),
            performance_claims="",
        ),
        fidelity=Fidelity("none", *[none] * len(Fidelity.NAMES)),
        label_agreement=LabelAgreement(none, none),
        utility=Utility(None, "the classifier never learned: 11% on held-out real images",
                        none, none, 0.005, ""),
        privacy=Privacy((), none, none, none, 0.5, (), True, none),
        fairness=(),
        funnel=None,
        seconds={},
    )  # fmt: skip


def drawn(seed: int, *, side: int, channels: int) -> NDArray[np.uint8]:
    """(side, side, channels): a smooth thing on a ground, with a little noise."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    a, b, turn = generator.uniform(0.4, 0.9, 3)
    inside = (x * np.cos(turn) + y * np.sin(turn)) ** 2 / a**2 + y**2 / b**2 < 1
    shade = (0.55 + 0.35 * np.cos(6 * a * x) * np.cos(5 * b * y))[..., None]
    tint = generator.uniform(0.5, 1, channels)
    image = np.where(inside[..., None], shade * tint, 0.05)
    return (255 * np.clip(image + generator.normal(0, 0.02, image.shape), 0, 1)).astype(np.uint8)


def pictures(
    names: Sequence[str] = GARMENTS,
    *,
    side: int = 28,
    channels: int = 1,
    per_class: int = 60,
    num_pairs: int = 6,
) -> Pictures:
    def image(seed: int) -> NDArray[np.uint8]:
        return drawn(seed, side=side, channels=channels)

    gallery = {
        c: [
            GalleryItem(
                f"{c}-{i:08d}", image(i * 1000 + j), ("train", "val")[i % 5 == 4],
                "a classifier says shirt with 93%" if i < 2 else "",
            )
            for i in range(per_class)
        ]
        for j, c in enumerate(names)
    }  # fmt: skip
    pairs = [
        PairPicture(
            image(i), image(i + 1), image(i + 9) if i != 2 else None,
            f"{'Flagged' if i < 4 else 'Not flagged'}: score {0.97 - i / 20:.3f}, mirrored",
            f"{names[0]}-{i:08d}", f"train/{i:05d}.png", f"test/{i:05d}.png", i < 4,
        )
        for i in range(num_pairs)
    ]  # fmt: skip
    return Pictures(gallery, pairs)
