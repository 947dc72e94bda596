"""Whether a model takes what a recipe says in words or asks to mix. Called by resolve.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.interface import GeneratorSpec, ModelConfig
from datagen.recipe import Recipe, field_error

if TYPE_CHECKING:
    from datagen.prompts import PromptPlan


def takes_of(spec: GeneratorSpec, config: ModelConfig, options: BaseModel) -> frozenset[str]:
    """Of prompt, mix:seeds, mix:classes, mix:images and pool: see interface.PromptedSpec."""
    takes = getattr(spec, "takes", None)
    return frozenset() if takes is None else takes(config, options)


def prompt_plan(recipe: Recipe, seed: int) -> PromptPlan | None:
    request = recipe.conditioning.prompt
    if request is None:
        return None
    from datagen.prompts import PromptPlan

    return PromptPlan(request, recipe.classes, seed)


def shown_attributes(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Class -> its own attributes that stand in its prompts; classes without any left out."""
    request = recipe.conditioning.prompt
    if request is None:
        return {}
    from datagen.prompt_templates import placeholders

    shown = {}
    for each in recipe.classes:
        templates = (request.template_of(each.name), request.negative_of(each.name))
        used = {name for text in templates if text for name in placeholders(text)}
        own = {name: value for name, value in each.attributes.items() if name in used}
        if own:
            shown[each.name] = own
    return shown


def check_words(
    recipe: Recipe,
    plan: PromptPlan | None,
    *,
    model_name: str,
    spec: GeneratorSpec,
    config: ModelConfig,
    options: BaseModel,
) -> None:
    """Raises RecipeError for a prompt or a mix that the model does not take, a prompt that it
    needs, and one that is longer than it takes."""
    takes = takes_of(spec, config, options)
    needs = getattr(spec, "needs_prompt", None)
    if plan is None:
        if needs is not None and needs(config, options):
            raise field_error(
                "conditioning.prompt",
                None,
                f'{{template: "a photo of a {{class}}"}} or the like: model {model_name} makes '
                "images from text",
            )
    elif "prompt" not in takes:
        raise field_error(
            "conditioning.prompt",
            "given",
            f"no prompt: model {model_name} of generator {spec.name} takes none",
        )
    else:
        negative = next((p.negative for p in plan.distinct() if p.negative), "")
        if negative and "negative" not in takes:
            expected = f"it left out: model {model_name} takes no negative prompt as it is set"
            raise field_error("conditioning.prompt.negative", negative, expected)
        _check_texts(plan, spec, config, options)
    _check_mix(recipe, takes, model_name)


def check_pools(
    spec: GeneratorSpec,
    config: ModelConfig,
    pools: Sequence[tuple[float, float]],
    *,
    model_name: str,
) -> None:
    """pools: of all splits. Raises RecipeError if the model's own sources do not go round."""
    check: Any = getattr(spec, "check_pools", None)
    if check is None:
        return
    try:
        check(config, pools)
    except ModelError as error:
        raise field_error("generator.model", model_name, f"one that has enough: {error}") from None


def _check_texts(
    plan: PromptPlan, spec: GeneratorSpec, config: ModelConfig, options: BaseModel
) -> None:
    check: Any = getattr(spec, "check_prompts", None)
    if check is None:
        return
    texts = dict.fromkeys(
        text for prompt in plan.distinct() for text in (prompt.text, prompt.negative) if text
    )
    try:
        check(config, options, list(texts))
    except ModelError as error:
        raise field_error("conditioning.prompt", "given", f"other prompts: {error}") from None


def check_mixed_labels(recipe: Recipe, label_kinds: frozenset[str]) -> None:
    """Raises RecipeError where the labels of one picture would stand for a mix of two."""
    mix = recipe.conditioning.mix
    if mix is not None and mix.between == "images" and label_kinds:
        raise field_error(
            "conditioning.mix.between",
            mix.between,
            f"seeds or classes, or pictures without labels: the {min(label_kinds)} of one picture "
            "would be false of a mix of two",
        )


def _check_mix(recipe: Recipe, takes: frozenset[str], model_name: str) -> None:
    mix = recipe.conditioning.mix
    if mix is None:
        return
    if f"mix:{mix.between}" not in takes:
        able = sorted(each.removeprefix("mix:") for each in takes if each.startswith("mix:"))
        raise field_error(
            "conditioning.mix.between",
            mix.between,
            f"what model {model_name} can mix: {', '.join(able) or 'nothing'}",
        )
