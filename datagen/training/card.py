"""The text of a model's README.md. Called by training/session.py."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.conditions import ConditionConfig
from datagen.faults import plural
from datagen.generators.interface import ModelConfig
from datagen.generators.model_facts import (
    ModelFacts,
    PrivacyFacts,
    SourceFact,
    TrainingFacts,
)
from datagen.medical.confidentiality import STATEMENT
from datagen.training.data_check import DataCheck
from datagen.training.judge import MAX_PER_CLASS, NUM_SHOWN, features_told
from datagen.training.model_recipe import ModelRecipe
from datagen.training.privacy.card import privacy_section

_TEMPLATE = """\
# {name}

{description}

![{num_shown} samples of each class](samples.png)

{shown}

| | |
|---|---|
| generator | `{generator}` |
| images | {height} x {width} pixels, {colours}{fit} |
{condition}{identifiers}| classes | {classes} |
| parameters | {num_parameters:,}, stored as {dtype} |
| data | {source} |
| licence of the data | {licence} |
| trained on | {num_train:,} images; {num_held_out:,} more were held out of training{by_group} |
| real images seen | {images_seen:,} in {minutes:,.0f} minutes on {device} |
| weights kept | {kept} |
{sources}| seed | {seed} |

## Figures

| what | value |
|---|---|
{figures}| time per image on {speed_device} | {milliseconds:.2f} ms, {network_calls} |

{how}
{warnings}{curves}{check}## Limits

- It draws these {num_classes} classes at this size and nothing else; rare variants within a class
  are rarer still among its samples, or absent.
{closeness}- Whether its samples help your classifier is for a test on your real images to say.
{synthetic}- Not for clinical use, and not for any decision about a person.

## Made by

`datagen train` with the model recipe of digest `{recipe_digest}`{origin}
"""

_SHOWN = """\
Each row is one class, in the order of the list below; the samples are of seeds 0 to 9, not
chosen."""

_SHOWN_CONDITIONED = """\
Class by class: label maps or boxes of held-out images, where the model takes such, and below them
the samples of seeds 0 to 9, not chosen. No real picture is shown."""

_FIGURES = """\
| distance to held-out images (KID, lower is better) | {kid} |
| the same between two halves of the held-out images | {kid_real} |
{watched}"""

_HOW = """\
The distance is the mean over classes of the unbiased kernel distance (Binkowski et al. 2018,
section 4) between up to {num_per_class} samples (four for each held-out image) and the held-out
images of the class, on {features}. It was
measured on the shipped weights with the generator's default options. It compares weights of one
training; it is not the KID on Inception features that papers print. The held-out images come from
the training part of the data: its test part was neither trained on nor used to choose anything.
"""

_CURVES = """\
## Training

![Figures over the images seen](training.png)

Losses are averages of about the last hundred steps; the other figures are of the averaged weights,
at each evaluation. The held-out distance is measured with as many samples as in the table above.

"""

_WATCHED = {
    "kid_images": ("samples that these figures are of", "{:,.0f}"),
    "copy_share": (
        "share of them that single out one training image more than 95% of held-out images do "
        "(5% by chance)",
        "{:.1%}",
    ),
    "spread_mean": ("mean distance of two samples of a class, over that of real ones", "{:.2f}"),
    "spread_min": ("the same, of the least diverse class", "{:.2f}"),
    "coverage_mean": ("held-out images that a sample comes near (97% if real)", "{:.0%}"),
    "coverage_min": ("the same, of the class least covered", "{:.0%}"),
}

_CHECK = """\
## Data check

{lines}

"""

_FITS = {
    "crop": "others were resized (bicubic, antialiased) and their middle was cut out",
    "pad": "others were resized (bicubic, antialiased) and padded with black",
    "stretch": "others were stretched to it (bicubic, antialiased)",
}

_CLOSENESS = """\
- It was trained on real images and may come close to single ones. Measure that before you publish
  samples of a model of private data.
"""


_SYNTHETIC = """\
- **Trained on synthetic images**, {generations} from real ones. Models that are trained on what
  models made lose the rare part of the data first, and with each generation more of it: model
  collapse (Shumailov et al. 2024, Nature 631, 755-759).
"""


def model_card(
    recipe: ModelRecipe,
    config: ModelConfig,
    facts: ModelFacts,
    *,
    num_parameters: int,
    check: DataCheck,
    has_curves: bool,
) -> str:
    """check: told but for a private model, whose card tells nothing of single images."""
    training, speed = facts.training, facts.throughput
    assert training is not None
    assert speed is not None
    height, width = config.image_size
    calls = speed.num_network_calls
    return _TEMPLATE.format(
        name=recipe.name,
        description=facts.description or f"A class-conditional {config.generator} model.",
        generator=config.generator,
        height=height,
        width=width,
        colours="grey" if config.channels == 1 else "RGB",
        fit="" if recipe.data.size is None else f"; {_FITS[recipe.data.fit]}",
        classes=", ".join(config.class_names),
        num_classes=len(config.class_names),
        num_parameters=num_parameters,
        dtype=recipe.weights_dtype,
        source=facts.source,
        licence=facts.licence,
        sources=_source_rows(training.sources),
        shown=_SHOWN if config.condition is None else _SHOWN_CONDITIONED,
        condition=_condition_row(config.condition),
        identifiers=_identifiers_row(check),
        synthetic=_synthetic_text(training.generation_depth),
        num_train=training.num_train,
        num_held_out=training.num_held_out,
        by_group=", in whole groups" if training.held_out_by_group else "",
        check=_check_section(check) if facts.privacy is None else "",
        images_seen=training.images_seen,
        minutes=training.seconds / 60,
        device=training.device,
        seed=training.seed,
        speed_device=speed.device if "NVIDIA" in speed.device else f"one thread of {speed.device}",
        num_shown=NUM_SHOWN,
        warnings="".join(f"- **Little variety:** {line}\n" for line in training.warnings)
        + ("\n" if training.warnings else ""),
        curves=_CURVES if has_curves else "",
        milliseconds=1000 * speed.seconds_per_image,
        network_calls=f"{calls} network call{'' if calls == 1 else 's'}",
        recipe_digest=training.recipe_digest,
        **(
            _public_parts(training, config)
            if facts.privacy is None
            else _private_parts(facts.privacy)
        ),
    )


def _condition_row(condition: ConditionConfig | None) -> str:
    if condition is None:
        return ""
    names = f": {', '.join(condition.names)}" if condition.names else ""
    return f"| drawn with | a condition of kind {condition.kind}{names} |\n"


def _identifiers_row(check: DataCheck) -> str:
    """Of DICOM: profile and options applied, and who attests."""
    told = [note.removeprefix(STATEMENT) for note in check.notes if note.startswith(STATEMENT)]
    return f"| identifiers removed | {'; '.join(told).replace('|', '/')} |\n" if told else ""


def _source_rows(sources: Sequence[SourceFact]) -> str:
    return "".join(
        f"| permitted use of source `{fact.label}` | {fact.use_text or 'not stated'} |\n"
        for fact in sources
    )


def _synthetic_text(depth: int) -> str:
    if depth == 0:
        return ""
    return _SYNTHETIC.format(generations="1 generation" if depth == 1 else f"{depth} generations")


def _check_section(check: DataCheck) -> str:
    """Figures and suggestions; no names of files, which may name people."""
    fewest, most = (pick(check.counts.values()) for pick in (min, max))
    alike = f"{check.exact_duplicates.num:,} equal and {check.near_duplicates.num:,} nearly equal"
    lines = [
        f"{check.num_images:,} images, {fewest:,} to {most:,} in a class; "
        f"{plural(check.num_broken, 'broken file')} left out",
        f"{alike} to an earlier one; {check.other_class.num:,} equal to one of another class",
        "groups, such as patients: "
        + ("not known" if check.groups is None else f"{check.groups.num:,}"),
        *check.suggestions,
    ]
    return _CHECK.format(lines="\n".join(f"- {line}" for line in lines))


def _public_parts(training: TrainingFacts, config: ModelConfig) -> dict[str, str]:
    kid_real = training.kid_real
    what = same = "data"
    if config.condition is not None:  # the digest is of images and classes alone
        what, same = "images", "images with what lies beside them"
    return {
        "kept": f"after {training.best_images_seen:,} images: the average with the lowest held-out "
        "distance" + (f"; the training stopped: {training.stopped}" if training.stopped else ""),
        "figures": _FIGURES.format(
            kid=f"{training.kid_held_out:.3g}",
            kid_real="not measured" if kid_real is None else f"{kid_real:.3g}",
            watched="".join(
                f"| {what} | {form.format(training.figures[name])} |\n"
                for name, (what, form) in _WATCHED.items()
                if name in training.figures
            ),
        ),
        "how": _HOW.format(num_per_class=MAX_PER_CLASS, features=features_told(config)),
        "closeness": _CLOSENESS,
        "origin": f" on {what} of\nsha256 `{training.data_sha256}`. The same recipe, {same} and "
        "machine give the same weights.",
    }


def _private_parts(privacy: PrivacyFacts) -> dict[str, str]:
    return {
        "kept": "the last average: nothing was chosen by real images",
        "figures": "",
        "how": privacy_section(privacy),
        "closeness": "",
        "origin": ".\nNoise and samples come from the operating system's secure source, not from "
        "the seed: the same\nrecipe gives other weights each time, and spends the budget again.",
    }


_FITTED = """\
# {name}

{description}

| | |
|---|---|
| generator | `{generator}`: it draws conditions, not images |
| size | {height} x {width} pixels{fit} |
{identifiers}| classes | {classes} |
| data | {source} |
| licence of the data | {licence} |
| made from | {num_train:,} images; {num_held_out:,} more were held out of it{by_group} |
{sources}
{lines}{check}## Limits

- What it was not made from, it does not draw.
{synthetic}- Not for clinical use, and not for any decision about a person.

## Made by

`datagen train` with the model recipe of digest `{recipe_digest}` on images of
sha256 `{data_sha256}`, which with all that was read beside them are of
sha256 `{pairs_sha256}`. The same recipe and data of that sha256 give the same model.
"""


def fitted_card(
    recipe: ModelRecipe,
    config: ModelConfig,
    facts: ModelFacts,
    *,
    check: DataCheck,
    pairs_sha256: str,
    lines: Sequence[str],
) -> str:
    """Of a model that was fitted at once. pairs_sha256: of all that it was fitted to. lines: of its
    family, about what it holds."""
    training = facts.training
    assert training is not None
    height, width = config.image_size
    return _FITTED.format(
        name=recipe.name,
        description=facts.description or f"A {config.generator} model, fitted to label data.",
        generator=config.generator,
        height=height,
        width=width,
        fit="" if recipe.data.size is None else f"; {_FITS[recipe.data.fit]}",
        classes=", ".join(config.class_names),
        source=facts.source,
        licence=facts.licence,
        num_train=training.num_train,
        num_held_out=training.num_held_out,
        by_group=", in whole groups" if training.held_out_by_group else "",
        identifiers=_identifiers_row(check),
        sources=_source_rows(training.sources),
        lines="".join(f"- {line}\n" for line in lines) + ("\n" if lines else ""),
        check=_check_section(check),
        synthetic=_synthetic_text(training.generation_depth),
        recipe_digest=training.recipe_digest,
        data_sha256=training.data_sha256,
        pairs_sha256=pairs_sha256,
    )
