"""The components of a pipeline: what model_index.json says they are, and the files of each.

Torch-free. Called by files.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.errors import ModelError
from datagen.generators.pipeline.component_table import (
    allowed_text,
    config_name,
    is_allowed,
    weights_stem,
)
from datagen.generators.pipeline.families_table import FAMILIES, FAMILY_OF
from datagen.generators.pipeline.folder_files import (
    CONVERT,
    check_config,
    checked_file,
    read_json,
    tensor_entries,
)
from datagen.recipe import suggest

INDEX = "model_index.json"

_TEXTS = (".json", ".txt", ".model")
# Vocabularies: their keys are words, not settings.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_TEMPLATE = "chat_template.jinja"
_UNUSED = (".md", ".gitattributes")
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors")
_TOKENIZERS = (
    *(("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",)),
    *(("spiece.model",), ("tokenizer.model",), ("sentencepiece.bpe.model",)),
)
_SHARD = re.compile(r"[A-Za-z0-9_][\w.-]{0,150}\.safetensors")
_MAX_SHARDS = 200
_VARIANT = re.compile(r"[a-z0-9_]{1,20}")


@dataclass(frozen=True)
class Weights:
    """The files of one component's weights by variant, None for the plain ones: relative name ->
    path."""

    by_variant: Mapping[str | None, Mapping[str, Path]]

    def files(self, variant: str | None) -> Mapping[str, Path]:
        """The plain ones where there are none of the variant, as diffusers loads them."""
        return self.by_variant.get(variant) or self.by_variant[None]


@dataclass(frozen=True)
class Component:
    """texts: relative name -> path of what is used beside the weights. weights: None for none."""

    name: str
    library: str
    class_name: str
    texts: Mapping[str, Path]
    config: Mapping[str, Any]
    weights: Weights | None


def read_index(what: str, content: Mapping[str, Any]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The pipeline's class and its components. Raises ModelError naming class or component."""
    check_config(what, INDEX, {k: v for k, v in content.items() if k != "id2label"})
    pipeline_class = content.get("_class_name")
    if not isinstance(pipeline_class, str) or pipeline_class not in FAMILY_OF:
        shown = str(pipeline_class)[:100]
        raise ModelError(
            f"{what}: {INDEX}: _class_name {shown!r} is none of the pipelines that are run"
            f"{_class_hint(shown)}; docs/pipelines.md lists them"
        )
    family = FAMILIES[FAMILY_OF[pipeline_class]]
    found = {
        name: _component_of(what, name, value)
        for name, value in content.items()
        if not name.startswith("_") and isinstance(value, list) and len(value) == 2
    }
    components = {name: value for name, value in found.items() if value is not None}
    for name in sorted(set(components).difference(family.parts, family.optional)):
        raise ModelError(
            f"{what}: {INDEX}: component {name[:100]} is no part of {pipeline_class}; {CONVERT}"
        )
    for name in family.parts:
        if name not in components:
            raise ModelError(
                f"{what}: {INDEX}: component {name} is missing; {pipeline_class} needs "
                f"{', '.join(family.parts)}"
            )
    return pipeline_class, dict(sorted(components.items()))


def _class_hint(shown: str) -> str:
    if shown.startswith("Kandinsky") and "Combined" not in shown:
        return (
            " (a decoder or a prior alone: save the combined pipeline, such as "
            "KandinskyV22CombinedPipeline)"
        )
    return suggest(shown, list(FAMILY_OF))


def _component_of(what: str, name: str, value: list[Any]) -> tuple[str, str] | None:
    """None for one that is null."""
    if value == [None, None]:
        return None
    library, class_name = (each if isinstance(each, str) else str(each) for each in value)
    if not is_allowed(name, library, class_name):
        raise ModelError(
            f"{what}: {INDEX}: component {name[:100]}: {library[:50]}.{class_name[:100]} is not "
            f"allowed there; expected {allowed_text(name)}"
        )
    return library, class_name


def open_component(
    what: str, place: Path, root: Path, *, name: str, declared: tuple[str, str], prefix: str
) -> Component:
    """place: its folder. prefix: of the names of its files, NAME/; empty for one that stands alone.

    Raises ModelError for what is missing, unsafe or of another class.
    """
    library, class_name = declared
    if not place.is_dir() or place.is_symlink():
        raise ModelError(f"{what}: folder {name} is missing; copy or download it whole")
    names = sorted(path.name for path in place.iterdir() if not path.is_dir())
    for each in names:
        _refuse_stray(what, prefix, each)
    wanted = config_name(name)
    texts = _texts(what, place, root, prefix=prefix, names=names, wanted=wanted)
    configs = {
        each: read_json(what, each, path)
        for each, path in texts.items()
        if each.endswith(".json") and not each.endswith(_VOCABULARIES)
    }
    for each, content in configs.items():
        check_config(what, each, content)
    config = configs.get(prefix + wanted, {})
    stem = weights_stem(name, library, class_name)
    if stem is not None and library == "diffusers" and config.get("_class_name") != class_name:
        raise ModelError(
            f"{what}: {prefix}{wanted}: _class_name {str(config.get('_class_name'))[:100]}; "
            f"expected {class_name}; copy or download the folder whole"
        )
    weights = None if stem is None else _weights(what, place, root, prefix, stem, names)
    _refuse_stray_weights(what, prefix, names, weights)
    return Component(name, library, class_name, texts, config, weights)


def _texts(
    what: str, place: Path, root: Path, *, prefix: str, names: list[str], wanted: str
) -> dict[str, Path]:
    """Of a folder that stands alone, its config; other files there are read by nobody."""
    if wanted == "tokenizer_config.json":
        _check_tokenizer(what, prefix, names)
    elif wanted not in names:
        raise ModelError(f"{what}: {prefix}{wanted} is missing; copy or download it whole")
    return {
        prefix + each: checked_file(what, prefix + each, place / each, root)
        for each in names
        if (_is_text(each) if prefix else each == wanted)
    }


def _refuse_stray(what: str, prefix: str, name: str) -> None:
    if name in _ADAPTERS:
        raise ModelError(
            f"{what}: {prefix}{name} would load an adapter unasked; remove it, and name the "
            "adapter as a LoRA of its own"
        )
    known = (*_TEXTS, *_UNUSED, ".safetensors")
    if prefix and not name.endswith(known) and name != _TEMPLATE:
        raise ModelError(f"{what}: {prefix}{name[:200]} does not belong there; remove it")


def _is_text(name: str) -> bool:
    """Of what is read beside weights; an index of shards is read with those."""
    return name == _TEMPLATE or (name.endswith(_TEXTS) and ".safetensors.index." not in name)


def _check_tokenizer(what: str, prefix: str, names: list[str]) -> None:
    if not any(set(names).issuperset(files) for files in _TOKENIZERS):
        raise ModelError(
            f"{what}: {prefix}tokenizer.json is missing; expected it, or vocab.json with "
            "merges.txt, vocab.txt, spiece.model or tokenizer.model"
        )


def _weights(
    what: str, place: Path, root: Path, prefix: str, stem: str, names: list[str]
) -> Weights:
    """Source of the names: diffusers 0.42, models/modeling_utils.py, _add_variant."""
    by_variant: dict[str | None, dict[str, Path]] = {}
    whole = re.compile(rf"{stem}(?:\.({_VARIANT.pattern}))?\.safetensors")
    index = re.compile(rf"{stem}\.safetensors\.index(?:\.({_VARIANT.pattern}))?\.json")
    for name in names:
        if match := whole.fullmatch(name):
            by_variant[match[1]] = {prefix + name: place / name}
        elif match := index.fullmatch(name):
            if match[1] in by_variant:  # the libraries differ in which they prefer
                raise ModelError(
                    f"{what}: {prefix}{name} stands beside whole weights; remove either"
                )
            shards = _shards(what, prefix + name, place / name, root)
            by_variant[match[1]] = {prefix + each: place / each for each in (name, *shards)}
    if not by_variant:
        raise ModelError(f"{what}: {prefix}{stem}.safetensors is missing; {CONVERT}")
    checked = {
        variant: {name: checked_file(what, name, path, root) for name, path in files.items()}
        for variant, files in by_variant.items()
    }
    return Weights(checked)


def _refuse_stray_weights(
    what: str, prefix: str, names: list[str], weights: Weights | None
) -> None:
    """Of no variant's: a library that is told of them by another way would load them unchecked."""
    own = {each for files in weights.by_variant.values() for each in files} if weights else set()
    for name in names:
        if ".safetensors" in name and prefix + name not in own:
            raise ModelError(
                f"{what}: {prefix}{name[:200]} is none of the component's own weights; remove it"
            )


def _shards(what: str, name: str, path: Path, root: Path) -> list[str]:
    content = read_json(what, name, checked_file(what, name, path, root))
    weight_map = content.get("weight_map")
    values = list(weight_map.values()) if isinstance(weight_map, dict) else []
    shards = {each for each in values if isinstance(each, str) and _SHARD.fullmatch(each)}
    if not 0 < len(shards) <= _MAX_SHARDS or not shards.issuperset(map(str, values)):
        raise ModelError(
            f"{what}: {name}: weight_map: expected names of 1 to {_MAX_SHARDS} safetensors files "
            "beside it; copy or download it whole"
        )
    return sorted(shards)


def choose_variant(what: str, components: list[Component]) -> str | None:
    """None where each component has plain weights; else the variant that, with plain weights for
    the rest, all can be loaded as. Raises ModelError if there is none."""
    weights = [part for part in components if part.weights is not None]
    lacking = [part for part in weights if part.weights and None not in part.weights.by_variant]
    if not lacking:
        return None
    variants = [set(part.weights.by_variant) for part in lacking if part.weights]
    shared = sorted(v for v in set.intersection(*variants) if v is not None)
    if not shared:
        raise ModelError(
            f"{what}: {lacking[0].name} has no plain weights, and no variant is there for all "
            "components; copy or download one variant whole"
        )
    return shared[0]


def used_files(components: list[Component], variant: str | None) -> dict[str, Path]:
    """Relative name -> path, of texts and of the weights that are loaded."""
    files: dict[str, Path] = {}
    for part in components:
        files |= part.texts
        if part.weights is not None:
            files |= part.weights.files(variant)
    return files


def check_headers(files: Mapping[str, Path]) -> int:
    """Bytes of the weights. Raises ModelError for a safetensors file that is not sound."""
    weights = [path for name, path in files.items() if name.endswith(".safetensors")]
    for path in weights:
        tensor_entries(path)
    return sum(path.stat().st_size for path in weights)
