"""Names -> digests: the checks that need models, formats, filters and generators together.

A resolved recipe says everything that decides its images; its canonical JSON is what the catalog
keeps and what `recipe_digest` is taken over. Called by the command line before anything is
written, and by workers, which resolve what the catalog kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from datagen.augment import check_augmentations
from datagen.conditions import ConditionConfig, Conditioner
from datagen.deployment_rules import DeploymentRules
from datagen.errors import JobError, ModelError, NotFoundError, RecipeError
from datagen.evaluation.named_data import find_named, list_named, plain_name
from datagen.filters import FILTERS
from datagen.filters.interface import FilterOptions, NetworkRule, check_options, score_key
from datagen.formats import FAULTS, FORMATS, NEEDS
from datagen.generators import GENERATORS
from datagen.generators.encoding import num_channels
from datagen.generators.interface import (
    ConditioningSpec,
    GeneratorSpec,
    ModelConfig,
    PromptedSpec,
    makes_images,
    most_bits,
)
from datagen.generators.model_directory import Model, UnknownModelError, find_model, model_names
from datagen.generators.model_versions import pinned_name
from datagen.plan import SplitPattern, seed_of_name
from datagen.recipe import (
    LabelRules,
    Recipe,
    RecipeDocument,
    canonical_json,
    field_error,
    recipe_digest_of,
    suggest,
)
from datagen.resolve_prompts import (
    check_mixed_labels,
    check_pools,
    check_words,
    prompt_plan,
    shown_attributes,
    takes_of,
)
from datagen.settings import Settings

if TYPE_CHECKING:
    from datagen.detectors import Detector
    from datagen.prompts import PromptPlan
    from datagen.references.reference import Reference

MAX_BATCH_BYTES = 2**25

_Options = TypeVar("_Options", bound=BaseModel)


@dataclass(frozen=True)
class ResolvedRecipe:
    """recipe: with its seed. config: the model's, fitted to the recipe's classes and size.

    filters: name -> checked options, in the recipe's order. conditioner_model: which draws what the
    images are conditioned on, with condition_options of its family; None if they are on nothing.
    probed_batch_size: measured on the machine that makes them; see batch_shape.py.
    """

    recipe: Recipe
    model: Model
    config: ModelConfig
    options: BaseModel
    filters: Mapping[str, FilterOptions]
    conditioner_model: Model | None = None
    condition_options: BaseModel | None = None
    probed_batch_size: int | None = None

    @property
    def spec(self) -> GeneratorSpec:
        return self.model.spec

    @property
    def seed(self) -> int:
        assert self.recipe.seed is not None
        return self.recipe.seed

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The model's id of each class of the recipe."""
        known = {name: index for index, name in enumerate(self.config.class_names)}
        return tuple(known[c.name] for c in self.recipe.classes)

    @property
    def chosen_batch_size(self) -> int | None:
        """That the recipe or the model says; None if they leave it to the machine."""
        said = getattr(self.options, "batch_size", None) or self.config.network.get("batch_size")
        return None if said is None else int(said)

    def at_batch_size(self, size: int) -> ResolvedRecipe:
        """The same recipe at a shape that was measured."""
        return replace(self, probed_batch_size=size)

    @property
    def batch_size(self) -> int:
        """Images per network call: as said or measured, else the family's, or fewer where one
        batch would be too large."""
        known = self.chosen_batch_size or self.probed_batch_size
        if known is not None:
            return known
        height, width = self.config.image_size
        per_pixel = self.config.channels
        if self.config.condition is not None:  # its planes are numbers of four bytes
            per_pixel += 4 * num_channels(self.config.condition)
        per_pixel *= self.config.bits // 8
        fitting = max(1, MAX_BATCH_BYTES // (height * width * per_pixel))
        return min(self.spec.batch_size, fitting)

    @cached_property
    def reference(self) -> Reference | None:
        """What the model knows of its real images. Read only where a filter needs it."""
        from datagen.references.reference import load_reference

        return None if self.model.reference is None else load_reference(self.model.reference)

    def reference_of(self, filter_name: str) -> Reference | None:
        """The reference, if that filter needs it."""
        needs_it = FILTERS[filter_name].needs_reference(self.filters[filter_name])
        return self.reference if needs_it else None

    @cached_property
    def score_keys(self) -> Mapping[str, str]:
        """Filter -> under what its scores are kept."""
        return {
            name: score_key(FILTERS[name], options, self.reference_of(name))
            for name, options in self.filters.items()
        }

    @cached_property
    def detector(self) -> Detector | None:
        """Who labels the finished images; None if nobody does. Loads no network yet."""
        request = self.recipe.labels.detector
        if request is None:
            return None
        from datagen.detectors import open_detector

        return open_detector(request)

    @cached_property
    def detector_key(self) -> str | None:
        """Under what its finds are kept with an attempt. No filter has a blank in its name."""
        return None if self.detector is None else f"detected {self.detector.digest[:12]}"

    @cached_property
    def kept_keys(self) -> frozenset[str]:
        """Of all that is kept with an attempt once it was looked at."""
        found = frozenset(self.score_keys.values())
        return found if self.detector_key is None else found | {self.detector_key}

    @property
    def reference_digest(self) -> str | None:
        """None if no filter needs the reference: then it decides nothing."""
        needed = (self.reference_of(name) for name in self.filters)
        return next((reference.digest for reference in needed if reference is not None), None)

    @cached_property
    def body(self) -> bytes:
        """Canonical JSON: every default filled in, the model pinned by digest."""
        content = self.recipe.to_json()
        content["generator"] = {
            "model": self.model.name,
            "model_digest": self.model.digest,
            "options": self.options.model_dump(mode="json", exclude_none=True),
        }
        content["filters"] = [
            # What is not given is no part of it: as filters grow options, digests stay.
            {"filter": name, "options": options.model_dump(mode="json", exclude_none=True)}
            | ({"scores": self.score_keys[name]} if isinstance(FILTERS[name], NetworkRule) else {})
            for name, options in self.filters.items()
        ]
        content["conditioning"] = self.condition_body | self._worded_body
        if self.reference_digest is not None:
            content["reference_digest"] = self.reference_digest
        return canonical_json(content)

    @property
    def _worded_body(self) -> dict[str, Any]:
        """The prompt and the mix, as the recipe has them."""
        content = self.recipe.conditioning.to_json()
        return {name: content[name] for name in ("prompt", "mix") if name in content}

    def _condition_context(self) -> dict[str, Any]:
        """The splits too, where what is drawn depends on them, and of the classes what prompts and
        mixes depend on. Nothing of a detector: it looks at the images, and decides none."""
        body = self._drawn_body if self.conditioner_model else {}
        draws_pools = self.conditioner is not None and self.conditioner.has_pools
        if (body and draws_pools) or self.takes_pool:
            body["splits"] = self.recipe.splits.ratios
        body |= self._worded_body
        shown = shown_attributes(self.recipe)
        if shown:
            body["attributes"] = shown
        mix = self.recipe.conditioning.mix
        if mix is not None and mix.between == "classes":
            names = [c.name for c in self.recipe.classes]
            if any(name not in mix.classes for name in names):  # every other class is an end
                body["classes"] = names
        return body

    @property
    def digest(self) -> str:
        return recipe_digest_of(self.body)

    @cached_property
    def conditioner(self) -> Conditioner | None:
        """Who draws the labels beside the class: of what the images are conditioned on, or of what
        the model itself draws. None if there are none. Raises RecipeError."""
        model, kind = self.conditioner_model or self.model, self.recipe.conditioning.kind
        options = self.options if self.condition_options is None else self.condition_options
        if kind is None and not hasattr(model.spec, "conditioner"):
            return None
        try:
            return cast(ConditioningSpec, model.spec).conditioner(
                model.config if kind else self.config,
                model.weights,
                options,
                kind=kind,
                image_size=self.config.image_size,
                splits=self.recipe.splits.ratios,
            )
        except ModelError as error:
            place = f"conditioning.{kind}" if kind else "generator"
            raise field_error(place, model.name, str(error)) from None

    @cached_property
    def prompts(self) -> PromptPlan | None:
        """What each image is asked for in words; None if the recipe has no prompt."""
        return prompt_plan(self.recipe, self.seed)

    @cached_property
    def takes_conditions(self) -> bool:
        """Whether its sampler is handed a condition with each image."""
        conditioning = self.recipe.conditioning
        given = (self.conditioner_model, conditioning.prompt, conditioning.mix)
        return any(each is not None for each in given) or self.takes_pool

    @cached_property
    def takes_pool(self) -> bool:
        """Whether the model draws from sources of its own, that splits share out."""
        return "pool" in takes_of(self.spec, self.config, self.options)

    def pool_of(self, split: str) -> tuple[float, float]:
        """[low, high) of 0 to 1, of sources that are shared out among splits by their ratios."""
        ratios = self.recipe.splits.ratios
        names = sorted(ratios)
        ends = list(accumulate((ratios[name] for name in names), initial=0.0))
        place = names.index(split)
        last = place == len(names) - 1
        return ends[place], 1.0 if last else ends[place + 1]

    @property
    def label_kinds(self) -> frozenset[str]:
        """Of mask, instances, boxes and keypoints, those that its images have."""
        if self.detector is not None:
            return self.detector.label_kinds
        return self.conditioner.label_kinds if self.conditioner else frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values of label maps and the classes of objects, the first "background"."""
        if self.detector is not None:
            return self.detector.names
        return self.conditioner.names if self.conditioner else ()

    @property
    def condition_body(self) -> dict[str, Any]:
        """What decides conditions beside seed, class and image size; empty without any."""
        body = self._drawn_body
        if self.detector is not None:
            body |= {"names": list(self.names), "label_kinds": sorted(self.label_kinds)}
            body["detector_digest"] = self.detector.digest
        return body

    @property
    def _drawn_body(self) -> dict[str, Any]:
        """Of who draws conditions and labels; empty without any."""
        if self.conditioner is None:
            return {}
        body: dict[str, Any] = {
            "names": list(self.conditioner.names),
            "label_kinds": sorted(self.conditioner.label_kinds),
        }
        kind = self.recipe.conditioning.kind
        model, options = self.conditioner_model, self.condition_options
        if kind is None or model is None or options is None:
            return body
        return body | {
            "kind": kind,
            "model": model.name,
            "model_digest": model.digest,
            "options": options.model_dump(mode="json", exclude_defaults=True),
        }

    def context(self, fingerprint: Mapping[str, Any]) -> bytes:
        """Canonical JSON of all that a raw image depends on beside class, ordinal and attempt."""
        content = {
            "seed": self.seed,
            "model_digest": self.model.digest,
            "options": self.options.model_dump(mode="json", exclude_none=True),
            "image_size": self.recipe.image_size,
            "conditioning": self._condition_context(),
            "fingerprint": fingerprint,
        }
        if self.config.bits != 8:  # said of others alone: contexts of before keep their digests
            content["bits"] = self.config.bits
        return canonical_json(content)


def model_requests(recipe: Recipe) -> list[str]:
    """The names of the models that a recipe needs."""
    request = recipe.conditioning.request
    return [recipe.generator.model, *([request.model] if request else [])]


def check_real_data(recipe: Recipe, settings: Settings) -> None:
    """Raises RecipeError if the recipe wants to be measured against real data not known here."""
    if recipe.evaluation is None:
        return
    try:
        known_classes = find_named(recipe.evaluation.reference, settings).class_names
    except NotFoundError:
        known = [data.name for data in list_named(settings)]
        hint = suggest(recipe.evaluation.reference, known)
        expected = f"real data that `datagen references add` named: {', '.join(known)}{hint}"
        raise field_error("evaluation.reference", recipe.evaluation.reference, expected) from None
    plain = {plain_name(name) for name in known_classes}
    lacking = [c.name for c in recipe.classes if plain and plain_name(c.name) not in plain]
    if lacking:
        raise field_error(
            "evaluation.reference",
            recipe.evaluation.reference,
            f"real data with every class of the recipe; it has no {', '.join(lacking[:5])}",
        )


def check_real_data_of(document: RecipeDocument, settings: Settings) -> None:
    """Raises RecipeError as check_real_data does, with file and line."""
    try:
        check_real_data(document.recipe, settings)
    except RecipeError as error:
        raise document.locate(error) from None


def resolve(
    document: RecipeDocument, models_dirs: Sequence[Path], rules: DeploymentRules | None = None
) -> ResolvedRecipe:
    """Raises RecipeError with file, line and field, or ModelError for a damaged model."""
    try:
        return resolve_recipe(document.recipe, models_dirs, rules)
    except RecipeError as error:
        raise document.locate(error) from None


def resolve_recipe(
    recipe: Recipe, models_dirs: Sequence[Path], rules: DeploymentRules | None = None
) -> ResolvedRecipe:
    """rules: of the deployment; None for those of one that sets none."""
    rules = rules or DeploymentRules()
    rules.check_recipe(recipe)
    model = _image_model(recipe, models_dirs)
    rules.check_network(model.name, model.config.network)
    kind = f"option of {model.spec.name}"
    options = _options(model.spec.options, recipe.generator.options, "generator", kind)
    options = _pinned_options(model, options, rules)
    config = _fitted_config(recipe, model, options)
    seeded = recipe
    if recipe.seed is None:
        seeded = recipe.model_copy(update={"seed": seed_of_name(recipe.name)})
    conditioner_model, condition_options = _conditioner(recipe, config, model.name, models_dirs)
    resolved = ResolvedRecipe(
        seeded, model, config, options, _filters(recipe), conditioner_model, condition_options
    )
    _check_conditions(resolved, rules)
    _check_formats(recipe, resolved.names, resolved.label_kinds)
    check_augmentations(
        recipe.augmentations,
        image_size=recipe.image_size,
        channels=config.channels,
        bits=config.bits,
        label_kinds=resolved.label_kinds,
    )
    _check_reference(resolved)
    return resolved


def _image_model(recipe: Recipe, models_dirs: Sequence[Path]) -> Model:
    model = _find_model(recipe.generator.model, "generator.model", models_dirs)
    if not makes_images(model.spec):
        raise field_error(
            "generator.model",
            model.name,
            f"a model that makes images; one of generator {model.spec.name} draws conditions, "
            "which `conditioning` names",
        )
    return model


def _fitted_config(recipe: Recipe, model: Model, options: BaseModel) -> ModelConfig:
    """The model's, fitted to the recipe's classes, size and bits."""
    class_names = [c.name for c in recipe.classes]
    try:
        config = model.spec.fit(
            model.config, options, class_names=class_names, image_size=recipe.image_size
        )
    except ModelError as error:
        raise _option_error(model, options, error) from None
    config = _with_bits(recipe, config, model.spec, model.name)
    _check_size(recipe, config, model.name)
    _check_classes(class_names, config, model.name)
    return config


def _check_conditions(resolved: ResolvedRecipe, rules: DeploymentRules) -> None:
    """That what images are told, and what is told of them, is what the model takes and the
    deployment allows. Raises RecipeError."""
    recipe, model = resolved.recipe, resolved.model
    _check_conditioner(resolved)
    _check_pools(resolved)
    _check_detector(resolved)
    _check_visibility(resolved)
    check_words(
        recipe,
        resolved.prompts,
        model_name=model.name,
        spec=model.spec,
        config=resolved.config,
        options=resolved.options,
    )
    check_mixed_labels(recipe, resolved.label_kinds)
    pools = [resolved.pool_of(split) for split in recipe.splits.ratios]
    check_pools(model.spec, resolved.config, pools, model_name=model.name)
    if resolved.prompts is not None:
        rules.check_prompts(resolved.prompts.distinct())


def _pinned_options(model: Model, options: BaseModel, rules: DeploymentRules) -> BaseModel:
    """With the digests of the files that they name, for a family whose options name any, and whose
    licences the deployment takes."""
    pin = getattr(model.spec, "pin_options", None)
    if pin is None:
        return options
    spec = cast(PromptedSpec, model.spec)
    try:
        pinned = spec.pin_options(model.config, options, allow_network=rules.allow_network)
    except ModelError as error:
        raise _option_error(model, options, error) from None
    for part, licence in spec.licences_of(model.config, pinned):
        rules.check_licence(f"{model.name} ({part})", licence)
    return pinned


def _option_error(model: Model, options: BaseModel, error: ModelError) -> RecipeError:
    """A family names the option at fault as options.NAME, where it is about one."""
    told = re.match(r"options\.(\w+)[^:]*: (.*)", str(error), re.DOTALL)
    if told is None or told[1] not in type(options).model_fields:
        return field_error("generator", model.name, str(error))
    value = getattr(options, told[1])
    return field_error(f"generator.{told[1]}", value, f"another value: {told[2]}")


def _find_model(name: str, field: str, models_dirs: Sequence[Path]) -> Model:
    try:
        return find_model(name, models_dirs)
    except UnknownModelError:
        known = model_names(models_dirs)
        expected = f"a known model: {', '.join(known)}{suggest(name, known)}"
        raise field_error(field, name, expected) from None


def _conditioner(
    recipe: Recipe, config: ModelConfig, model_name: str, models_dirs: Sequence[Path]
) -> tuple[Model | None, BaseModel | None]:
    """The model that draws the conditions, and its checked options."""
    wanted, kind = config.condition, recipe.conditioning.kind
    request = recipe.conditioning.request
    if request is None:
        if wanted is not None:
            expected = f"{wanted.kind}: {{model: ...}}, which model {model_name} is conditioned on"
            raise field_error("conditioning", {}, expected)
        return None, None
    field = f"conditioning.{kind}"
    if wanted is None or wanted.kind != kind:
        takes = "no condition" if wanted is None else f"one of kind {wanted.kind}"
        raise field_error(field, request.model, f"what model {model_name} takes, which is {takes}")
    model = _find_model(request.model, f"{field}.model", models_dirs)
    if not hasattr(model.spec, "conditioner"):
        draws = [name for name, spec in GENERATORS.items() if hasattr(spec, "conditioner")]
        raise field_error(
            f"{field}.model",
            request.model,
            f"a model that draws conditions, of generator {' or '.join(draws)}",
        )
    spec = cast(ConditioningSpec, model.spec)
    options = _options(
        spec.condition_options, request.options, field, f"option of conditions by {spec.name}"
    )
    return model, options


def _check_conditioner(resolved: ResolvedRecipe) -> None:
    """Raises RecipeError if what is drawn is not what the model was trained on."""
    wanted, model = resolved.config.condition, resolved.conditioner_model
    if wanted is None or model is None:
        return
    _check_edited_classes(resolved)
    _check_pictures(resolved, wanted)
    if wanted.kind == "image":
        return
    if not wanted.names:
        return  # a pipeline knows no names: it is told of regions by colours, or of a hole alone
    unknown = [name for name in resolved.names if name not in wanted.names]
    if unknown:
        kind = resolved.recipe.conditioning.kind
        raise field_error(
            f"conditioning.{kind}.model",
            model.name,
            f"conditions of {', '.join(wanted.names)}, which model {resolved.model.name} knows; "
            f"they have {', '.join(unknown[:5])} as well",
        )


def _check_pools(resolved: ResolvedRecipe) -> None:
    """Raises RecipeError if a set has nothing to draw for a class in one of its splits."""
    check = getattr(resolved.conditioner, "check_pools", None)
    if check is None:
        return
    kind, classes = resolved.recipe.conditioning.kind, resolved.recipe.classes
    pattern = SplitPattern(resolved.recipe.splits.ratios, limit=max(c.count for c in classes))
    splits_of = {
        c.name: [name for i, name in enumerate(pattern.names) if pattern.count(i, c.count)]
        for c in classes
    }
    try:
        check(splits_of)
    except ModelError as error:
        model = resolved.conditioner_model or resolved.model
        raise field_error(f"conditioning.{kind}", model.name, str(error)) from None


def _check_visibility(resolved: ResolvedRecipe) -> None:
    """Raises RecipeError for a rule about objects where no image has one."""
    share = resolved.recipe.labels.min_visibility
    has_objects = resolved.label_kinds & {"instances", "boxes"}
    if share != LabelRules().min_visibility and not has_objects:
        expected = "no such field: the images of this recipe have no objects that it could be of"
        raise field_error("labels.min_visibility", share, expected)


def _check_pictures(resolved: ResolvedRecipe, wanted: ConditionConfig) -> None:
    """Of a set: their channels, and label maps beside them where the model was trained so."""
    model, kind = resolved.conditioner_model, resolved.recipe.conditioning.kind
    if model is None or wanted.kind not in ("image", "inpaint"):
        return
    channels = model.config.network.get("picture_channels")
    if getattr(resolved.condition_options, "derive", "none") == "edges":
        channels = 1
    if channels is not None and channels != wanted.channels:
        raise field_error(
            f"conditioning.{kind}.model",
            model.name,
            f"pictures of {wanted.channels} channels, which model {resolved.model.name} was "
            f"trained with; those drawn here have {channels}",
        )
    if wanted.kind == "inpaint" and wanted.names and "mask" not in resolved.label_kinds:
        raise field_error(
            f"conditioning.{kind}.model",
            model.name,
            f"a set with label maps, which model {resolved.model.name} was trained with; or name "
            f"the class that is painted in conditioning.{kind}.object",
        )


def _check_detector(resolved: ResolvedRecipe) -> None:
    """Raises RecipeError where labels are true by construction already, or it cannot be used."""
    request = resolved.recipe.labels.detector
    if request is None:
        return
    if resolved.conditioner is not None and resolved.conditioner.label_kinds:
        raise field_error(
            "labels.detector",
            request.directory,
            "none: the labels of these images are true by construction, and a machine's would be "
            "less",
        )
    try:
        assert resolved.detector is not None
    except ModelError as error:
        expected = f"a detector that can be used: {error}"
        raise field_error("labels.detector", request.directory, expected) from None


def _check_edited_classes(resolved: ResolvedRecipe) -> None:
    """An edit of a class that the recipe does not have would never be made."""
    class_names = [c.name for c in resolved.recipe.classes]
    kind = resolved.recipe.conditioning.kind
    edits = getattr(resolved.condition_options, "edits", ())
    for index, edit in enumerate(edits):
        for name in edit.classes:
            if name not in class_names:
                hint = suggest(name, class_names)
                raise field_error(
                    f"conditioning.{kind}.edits[{index}].classes",
                    name,
                    f"a class of the recipe: {', '.join(class_names[:40])}{hint}",
                )


def resolve_stored(
    body: str, models_dirs: Sequence[Path], rules: DeploymentRules | None = None
) -> ResolvedRecipe:
    """The recipe that a job pinned. Raises JobError if its model is not here any more."""
    recipe, model_digest = recipe_of_stored(body)
    resolved = resolve_recipe(recipe, models_dirs, rules)
    if resolved.model.digest != model_digest:
        raise JobError(
            f"model {resolved.model.name} has changed since this recipe ran: its digest was "
            f"{model_digest[:12]} and is {resolved.model.digest[:12]}; put the old model "
            "back, or run the recipe again for a new version"
        )
    content = json.loads(body)
    drawn_by = content["conditioning"].get("model_digest")
    if resolved.conditioner_model is not None and resolved.conditioner_model.digest != drawn_by:
        raise JobError(
            f"model {resolved.conditioner_model.name} has changed since this recipe ran: its "
            f"digest was {str(drawn_by)[:12]} and is {resolved.conditioner_model.digest[:12]}; put "
            "the old model back, or run the recipe again for a new version"
        )
    reference_digest = content.get("reference_digest")
    if resolved.reference_digest != reference_digest:
        raise JobError(
            f"the reference of model {resolved.model.name} has changed since this recipe ran: its "
            f"digest was {str(reference_digest)[:12]} and is {str(resolved.reference_digest)[:12]};"
            " put the old one back, or run the recipe again for a new version"
        )
    _check_networks(content, resolved)
    return resolved


def _check_networks(content: Mapping[str, Any], resolved: ResolvedRecipe) -> None:
    """Raises JobError if the files that a filter or the detector asks are others now."""
    detected_by = content["conditioning"].get("detector_digest")
    if resolved.detector is not None and resolved.detector.digest != detected_by:
        raise JobError(
            "labels.detector: its network has changed since this recipe ran: its digest was "
            f"{str(detected_by)[:12]} and is {resolved.detector.digest[:12]}; put the old files "
            "back, or run the recipe again for a new version"
        )
    for pinned in content["filters"]:
        name, key = pinned["filter"], pinned.get("scores")
        if key is not None and resolved.score_keys[name] != key:
            raise JobError(
                f"filter {name}: the network that it asks has changed since this recipe ran (its "
                f"scores were {key} and are {resolved.score_keys[name]}); put the old files back, "
                "or run the recipe again for a new version"
            )


def recipe_of_stored(body: str) -> tuple[Recipe, str]:
    """The recipe that a job pinned, as it would be written again, and the digest of its model."""
    content = json.loads(body)
    content.pop("reference_digest", None)
    condition = content["conditioning"]
    content["conditioning"] = {}
    if "kind" in condition:
        name = pinned_name(condition["model"])
        content["conditioning"][condition["kind"]] = {"model": name, **condition["options"]}
    worded = {name: condition[name] for name in ("prompt", "mix") if name in condition}
    content["conditioning"] |= worded
    pinned = content["generator"]
    content["generator"] = {"model": pinned_name(pinned["model"]), **pinned["options"]}
    content["filters"] = [{"filter": f["filter"], **f["options"]} for f in content["filters"]]
    return Recipe.model_validate(content), str(pinned["model_digest"])


def _options(schema: type[_Options], given: Mapping[str, Any], field: str, kind: str) -> _Options:
    for name, value in given.items():
        if name not in schema.model_fields:
            known = ", ".join(schema.model_fields) or "none"
            hint = suggest(name, schema.model_fields)
            raise field_error(f"{field}.{name}", value, f"an {kind}: {known}{hint}")
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join([field, *(str(part) for part in first["loc"])])
        expected = first["msg"].removeprefix("Input should be ").removeprefix("a valid ")
        raise field_error(place, first["input"], expected) from None


def _filters(recipe: Recipe) -> dict[str, FilterOptions]:
    checked: dict[str, FilterOptions] = {}
    class_names = [c.name for c in recipe.classes]
    for index, request in enumerate(recipe.filters):
        field = f"filters[{index}]"
        rule = FILTERS.get(request.filter)
        if rule is None:
            hint = suggest(request.filter, FILTERS)
            expected = f"a filter: {', '.join(FILTERS)}{hint}"
            raise field_error(f"{field}.filter", request.filter, expected)
        kind = f"option of filter {request.filter}"
        options = _options(rule.options, request.options, field, kind)
        for name in options.named_classes():
            if name not in class_names:
                expected = f"a class of the recipe: {', '.join(class_names[:40])}"
                raise field_error(field, name, expected + suggest(name, class_names))
        try:
            checked[request.filter] = check_options(rule, options, class_names)
        except ModelError as error:
            raise field_error(field, request.filter, f"one that can be used: {error}") from None
    return checked


def _check_reference(resolved: ResolvedRecipe) -> None:
    """Raises RecipeError for a filter that needs a reference, where the model has none that fits
    the recipe."""
    needing = (
        (index, name)
        for index, (name, options) in enumerate(resolved.filters.items())
        if FILTERS[name].needs_reference(options)
    )
    index, name = next(needing, (0, None))
    if name is None:
        return
    model, field = resolved.model, f"filters[{index}].filter"
    remedy = f"`datagen models fit-reference {model.name} --data DIR` makes one"
    if resolved.reference is None:
        raise field_error(
            field, name, f"a filter that needs no reference: model {model.name} has none; {remedy}"
        )
    problem = resolved.reference.unfit_for(
        [c.name for c in resolved.recipe.classes],
        image_size=resolved.config.image_size,
        channels=resolved.config.channels,
    )
    if problem is not None:
        raise field_error(
            field, name, f"a reference that fits; that of model {model.name} {problem}; {remedy}"
        )


def _with_bits(
    recipe: Recipe, config: ModelConfig, spec: GeneratorSpec, model_name: str
) -> ModelConfig:
    """The config of a sampler that gives as many bits as the recipe asks for."""
    bits = recipe.output.bits
    if bits > most_bits(spec):
        deep = [name for name, each in GENERATORS.items() if most_bits(each) >= bits]
        expected = f"8 with model {model_name} of generator {spec.name}, or a model of one that "
        raise field_error("output.bits", bits, f"{expected}gives {bits}: {', '.join(deep)}")
    if bits > 8 and config.channels != 1:
        expected = f"8, or a model of grey images (1 channel): those of {model_name} have "
        raise field_error("output.bits", bits, f"{expected}{config.channels}")
    return replace(config, bits=bits)


def _check_size(recipe: Recipe, config: ModelConfig, model_name: str) -> None:
    if tuple(recipe.image_size) != tuple(config.image_size):
        raise field_error(
            "image_size",
            list(recipe.image_size),
            f"{list(config.image_size)}, the size of model {model_name}",
        )


def _check_classes(class_names: Sequence[str], config: ModelConfig, model_name: str) -> None:
    for index, name in enumerate(class_names):
        if name not in config.class_names:
            raise field_error(
                f"classes[{index}].name",
                name,
                f"a class of model {model_name}: {', '.join(config.class_names[:40])}"
                + suggest(name, config.class_names),
            )


def _check_formats(recipe: Recipe, names: Sequence[str], label_kinds: frozenset[str]) -> None:
    """names: of labels. label_kinds: what the images have beside their class."""
    has_objects = label_kinds & {"instances", "boxes"}
    known = label_kinds | ({"objects"} if has_objects else set())
    for index, name in enumerate(recipe.output.formats):
        if name not in FORMATS:
            expected = f"a format: {', '.join(FORMATS)}{suggest(name, FORMATS)}"
            raise field_error(f"output.formats[{index}]", name, expected)
        lacking = sorted(NEEDS.get(name, frozenset()) - known)
        if lacking:
            raise field_error(
                f"output.formats[{index}]",
                name,
                f"a format that needs no {lacking[0]}: the images of this recipe have none; "
                "condition them, or name another format",
            )
        fault = FAULTS[name](tuple(recipe.splits.ratios), names, known) if name in FAULTS else None
        if fault is not None:
            expected = f"a format that can hold what the recipe makes: {fault}"
            raise field_error(f"output.formats[{index}]", name, expected)
