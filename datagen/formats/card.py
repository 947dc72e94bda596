"""The data set card: README.md with the front matter that Hugging Face reads.

Called by the engine's finish stage. The contact sheets it shows are separate objects beside it:
contact-sheets/{class_name}.png. Equal manifests give equal cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from datagen.formats.hugging_face import front_matter
from datagen.formats.origin import ModelOrigin
from datagen.manifest import Manifest

# Of thousands of classes the card shows the first.
MAX_SHEETS_SHOWN = 100
_MAX_LISTED = 20

_SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)


def contact_sheet_path(class_name: str) -> str:
    """Where the card expects the sheet of a class, relative to itself."""
    return f"contact-sheets/{class_name}.png"


def write_card(
    manifest: Manifest, *, origin: ModelOrigin, figures: Mapping[str, str] | None = None
) -> str:
    """Returns Markdown. Of the manifest's documents nothing is used: the card is one of them.

    figures: what an evaluation measured, name -> value in words; None if there was none.
    """
    # What came from the database and what was read back differ in the order of their keys.
    manifest = Manifest.from_bytes(manifest.to_bytes())
    parts = [
        front_matter(_front_matter(manifest, origin)),
        _summary(manifest),
        _counts(manifest),
        *([_labels(manifest)] if manifest.has_labels else []),
        _sheets(manifest),
        _origin(manifest, origin),
        *([_measured(figures)] if figures else []),
        _limits(manifest, is_measured=bool(figures)),
        _loading(manifest),
        _recipe(manifest),
    ]
    return "\n".join(parts)


def _front_matter(manifest: Manifest, origin: ModelOrigin) -> dict[str, Any]:
    larger = (name for limit, name in _SIZE_CATEGORIES if manifest.num_samples < limit)
    return {
        "pretty_name": manifest.name,
        "license": origin.hugging_face_license,
        "task_categories": ["image-classification", *_further_tasks(manifest)],
        "size_categories": [next(larger, "n>10M")],
        "tags": ["synthetic", "datagen", "webdataset"],
    }


def _further_tasks(manifest: Manifest) -> list[str]:
    return [task.replace(" ", "-") for task in manifest.label_tasks]


def _summary(manifest: Manifest) -> str:
    height, width = manifest.image_size
    kind = "grey" if manifest.channels == 1 else "RGB"
    depth = "" if manifest.bits == 8 else f" of {manifest.bits} bits"
    made = "Every image was made by a model; none is a photograph."
    if manifest.has_real_parts:
        made = (
            "**A model painted a part of each image; outside that part it is a real image** of the "
            "set that its backgrounds come from, and may be used as that may."
        )
    return f"""# {manifest.name}, version {manifest.version}

{manifest.num_samples:,} synthetic, labelled {kind} images of {width} x {height} pixels{depth} in \
{len(manifest.counts):,} classes. {made}

| | |
|---|---|
| data set digest | `{manifest.digest}` |
| recipe digest | `{manifest.recipe_digest}` |
| datagen | {manifest.code_version} |
"""


def _counts(manifest: Manifest) -> str:
    splits = sorted({split for by_split in manifest.counts.values() for split in by_split})
    lines = [
        "## Counts",
        "",
        f"| class | {' | '.join(splits)} | all |",
        "|---" * (len(splits) + 2) + "|",
    ]
    for class_name in _class_names(manifest):
        numbers = [manifest.counts[class_name].get(split, 0) for split in splits]
        lines.append(_row(class_name, [*numbers, sum(numbers)]))
    totals = [sum(by.get(split, 0) for by in manifest.counts.values()) for split in splits]
    lines.append(_row("**all**", [*totals, sum(totals)]))
    if manifest.shortfall:
        missing = ", ".join(f"{name}: {n:,}" for name, n in manifest.shortfall.items())
        lines += ["", f"**Fewer than the recipe asks for.** Missing: {missing}."]
    return "\n".join(lines) + "\n"


def _labels(manifest: Manifest) -> str:
    drawn = manifest.recipe.get("conditioning", {})
    lines = ["## Labels beside the class", ""]
    names = ", ".join(manifest.label_names[:_MAX_LISTED])
    if "mask" in manifest.label_kinds:
        lines += [
            f"Beside each image lies a label map, `KEY.mask.png`. Its values are, from 0: {names}.",
            "",
        ]
    if manifest.label_kinds & {"instances", "boxes", "keypoints"}:
        order = ", in the order of `KEY.instances.png`" if manifest.has_label_maps else ""
        lines += [f"Boxes and keypoints are in its JSON under `labels`{order}.", ""]
    if "kind" in drawn:
        lines += [
            f"The images were made to fit their labels: conditions of kind {drawn['kind']}, drawn "
            f"by model `{drawn['model']}`. How well the model keeps to them is its quality, to be "
            "measured.",
            "",
        ]
    if "prompt" in drawn:
        lines += [
            "Each image was made from a prompt, which is its `caption`; the values of the prompt's "
            "attributes are among its `attributes`. That an image shows what its prompt says is a "
            "claim, as far as no filter checked it.",
            "",
        ]
    if "mix" in drawn:
        lines += [
            f"Images lie between two {_plain(drawn['mix']['between'])}: `mix_weight` (0: its own "
            "end) and `mix_with` are among their `attributes`.",
            "",
        ]
    if any(c.get("also") for c in manifest.recipe["classes"]):
        lines += ["Further classes that are true of an image are under `also`.", ""]
    return "\n".join(lines)


def _row(name: str, numbers: list[int]) -> str:
    return f"| {name} | {' | '.join(f'{n:,}' for n in numbers)} |"


def _class_names(manifest: Manifest) -> list[str]:
    """In the order of the recipe."""
    return [c["name"] for c in manifest.recipe["classes"] if c["name"] in manifest.counts]


def _sheets(manifest: Manifest) -> str:
    lines = ["## Contact sheets", ""]
    for class_name in _class_names(manifest)[:MAX_SHEETS_SHOWN]:
        lines += [class_name, "", f"![{class_name}]({contact_sheet_path(class_name)})", ""]
    if len(manifest.counts) > MAX_SHEETS_SHOWN:
        lines += [f"The first {MAX_SHEETS_SHOWN} of {len(manifest.counts):,} classes.", ""]
    return "\n".join(lines)


def _origin(manifest: Manifest, origin: ModelOrigin) -> str:
    rows = [(f"model {field}", _plain(value)) for field, value in manifest.model.items()]
    rows.append(("model licence", _plain(origin.license or "not stated")))
    if origin.training_data is None:
        rows.append(("trained on", "no images"))
    else:
        rows += [
            ("trained on", _plain(origin.training_data or "not stated")),
            ("licence of its training data", _plain(origin.training_data_license or "not stated")),
        ]
    if origin.conditions is not None:
        drawn, conditions = manifest.recipe.get("conditioning", {}), origin.conditions
        rows += [
            ("conditions drawn by model", _plain(drawn.get("model", ""))),
            ("its digest", _plain(drawn.get("model_digest", ""))),
            ("its licence", _plain(conditions.license or "not stated")),
            ("made from", _plain(conditions.training_data or "no images")),
        ]
    for source in manifest.sources:
        use = _plain(source.permitted_use or "not stated")
        synthetic = f"; synthetic, generation {source.depth}" if source.depth else ""
        rows.append((f"permitted use of {source.name}@{source.version}", use + synthetic))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""## Where it comes from

| | |
|---|---|
{table}

Each image's model, seeds, attempt, augmentations and scores are in its JSON and in the index.
"""


def _measured(figures: Mapping[str, str]) -> str:
    rows = "\n".join(f"| {_plain(name)} | {_plain(value)} |" for name, value in figures.items())
    return f"""## Measured

| | |
|---|---|
{rows}

The report beside this card shows intervals, single images and how it was measured.
"""


def _limits(manifest: Manifest, *, is_measured: bool) -> str:
    points = "" if is_measured else _NOT_EVALUATED
    if manifest.splits_not_for_claims:
        splits = ", ".join(f"`{split}`" for split in manifest.splits_not_for_claims)
        points += (
            f"- **Not for performance claims: {splits}.** Synthetic like the rest: how well a "
            "model does on them says nothing of how well it does on real images.\n"
        )
    return f"## Limits\n\n{points}{_LIMITS}"


_NOT_EVALUATED = """\
- **Not evaluated.** Whether training on these images helps a classifier, whether they cover the \
real variety of a class, and whether they resemble single images of the training data too closely \
has not been measured. Measure before you rely on them.
"""

_LIMITS = """\
- The label is the class that the model was asked for. No person looked at the images; some may \
show something else or nothing clear.
- What the model's training data lack or overstate, these images lack or overstate too.
- Not for: testing or certifying a system (test on real images), medical or safety decisions, \
identifying people, statistics about the real world, or passing the images off as real.
"""


def _loading(manifest: Manifest) -> str:
    version = f"{manifest.name}@{manifest.version}"
    split = next((entry.split for entry in manifest.shards if entry.split), "train")
    return f"""## How to load

The images and their labels are in `shards/`, in WebDataset form; `index/` has one row for each. \
In other layouts:

```
datagen pull {version} FOLDER --format webdataset
datagen pull {version} FOLDER --format imagefolder
datagen pull {version} FOLDER --format parquet
```

```python
from datasets import load_dataset    # after --format parquet, or imagefolder

images = load_dataset("FOLDER", split="{split.replace("-", "_")}")
images[0]["image"], images.features["label"].int2str(images[0]["label"])
```
"""


def _recipe(manifest: Manifest) -> str:
    import yaml

    recipe = _shortened(manifest.recipe)
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"## Recipe\n\nAs it was resolved.\n\n{fence}yaml\n{text}{fence}\n"


def _shortened(value: Any) -> Any:
    """Reviewers may have rejected thousands of images: the card names the first."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) > _MAX_LISTED and isinstance(value[0], str):
        return [*value[:_MAX_LISTED], f"... and {len(value) - _MAX_LISTED} more in manifest.json"]
    return [_shortened(item) for item in value] if isinstance(value, list) else value


def _plain(text: str) -> str:
    """Text of a model's card as one line without Markdown or HTML of its own."""
    line = " ".join(text.split())[:500]
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)
