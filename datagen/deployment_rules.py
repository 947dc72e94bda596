"""What a deployment lets recipes use: whose pipelines and files, under which licences, and which
words prompts may have. Built from the settings at the edge, and handed to resolve.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.errors import ModelError
from datagen.generators.pipeline.licences import check_licence, check_source
from datagen.recipe import Recipe, field_error
from datagen.settings import Settings

if TYPE_CHECKING:
    from datagen.conditions import Prompt
    from datagen.prompt_rules import PromptRules

# Options of generators, filters and detectors that name a folder or a file of the machine, or a hub
# id where the revision stands beside it.
_SOURCES = ("source", "controlnet", "classifier", "directory")
_PARTS = ("loras", "textual_inversions")


@dataclass(frozen=True)
class DeploymentRules:
    """sources: folders and hub ids that may be used; None for any. licences: None for any that is
    stated. prompt_rules_file: None for the built-in rules."""

    sources: tuple[str, ...] | None = None
    licences: tuple[str, ...] | None = None
    allow_unlicensed: bool = False
    allow_network: bool = False
    prompt_rules_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings, *, serves: bool = False) -> DeploymentRules:
        """serves: recipes come from others, who may name no folder of this machine but those that
        the settings allow."""
        sources = settings.pipeline_sources
        if sources is None and serves:
            sources = ()
        return cls(
            sources,
            settings.licences,
            settings.allow_unlicensed,
            settings.allow_network,
            settings.prompt_rules,
        )

    @cached_property
    def prompt_rules(self) -> PromptRules:
        """Raises InputError if their file cannot be read."""
        from datagen.prompt_rules import PromptRules, load_prompt_rules

        path = self.prompt_rules_file
        return PromptRules() if path is None else load_prompt_rules(path)

    def check_recipe(self, recipe: Recipe) -> None:
        """Before any file is opened: raises RecipeError for one that may not be used."""
        named: list[tuple[str, Mapping[str, Any]]] = [("generator", recipe.generator.options)]
        named += [(f"filters[{i}]", f.options) for i, f in enumerate(recipe.filters)]
        detector = getattr(recipe.labels, "detector", None)
        if detector is not None:
            named.append(("labels.detector", detector.model_dump()))
        for field, options in named:
            for name, source, revision in _sources_of(options):
                try:
                    check_source(source, self.sources, revision=revision)
                except ModelError as error:
                    raise field_error(f"{field}.{name}", source, _expected(error)) from None

    def check_network(self, model_name: str, network: Mapping[str, Any]) -> None:
        """network: of a model's config.json. Raises RecipeError as check_recipe does."""
        for _, source, revision in _sources_of(network):
            try:
                check_source(source, self.sources, revision=revision)
            except ModelError as error:
                raise field_error("generator.model", model_name, _expected(error)) from None

    def check_licence(self, model_name: str, licence: str | None) -> None:
        """Raises RecipeError."""
        try:
            check_licence(licence, self.licences, self.allow_unlicensed)
        except ModelError as error:
            expected = f"a model whose licence is taken here: {error}"
            raise field_error("generator.model", model_name, expected) from None

    def check_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Raises RecipeError for the first that the rules refuse."""
        for prompt in prompts:
            fault = self.prompt_rules.fault(prompt.text)
            if fault is not None:
                expected = f"prompts that this deployment's rules allow: {fault}"
                raise field_error("conditioning.prompt", prompt.text, expected)


def _sources_of(options: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None]]:
    """Field, source and revision of each that is named."""
    for name in _SOURCES:
        source = options.get(name)
        if isinstance(source, str) and source:
            revision = options.get("revision" if name == "source" else f"{name}_revision")
            yield name, source, revision if isinstance(revision, str) else None
    for name in _PARTS:
        parts = options.get(name) or ()
        for index, part in enumerate(parts if isinstance(parts, (list, tuple)) else ()):
            if isinstance(part, Mapping) and isinstance(part.get("source"), str):
                yield f"{name}[{index}].source", part["source"], None


def _expected(error: ModelError) -> str:
    return f"one that is allowed here: {error}; DATAGEN_PIPELINE_SOURCES lists them"
