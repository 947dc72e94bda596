"""A new version out of the attempts that are there: other thresholds, or a reviewer's marks.

The changed recipe is an ordinary one of the same name: its images are those that a fresh run of it
would make, and whatever attempt is in the cache is not made again. Nothing is written here until
every part of the request was found sound. Called by the command line and the API, which run the
recipe.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datagen.attachments import (
    EVALUATION,
    REVIEW,
    attach,
    need_attachment,
    read_attachment,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import VersionRow
from datagen.catalog.samples import raw_digests
from datagen.deployment_rules import DeploymentRules
from datagen.errors import InputError, JobError, RecipeError, VerifyError
from datagen.faults import InvalidRecipe, field_error, suggest
from datagen.filters import FILTERS
from datagen.filters.review import ReviewOptions
from datagen.recipe import Recipe
from datagen.resolve import ResolvedRecipe, model_requests, recipe_of_stored, resolve_recipe
from datagen.review import check_marks, parse_marks
from datagen.schema_faults import details_of, problems_of
from datagen.store import Store
from datagen.yaml_reader import Reader

REVIEW_FILTER = "review"
_SHOWN = 5


@dataclass(frozen=True)
class Changes:
    """options: "filter.option" -> its value, or "filter" -> "off" or "on". marks: marks.json as it
    was given; marks_source: its name, for messages. drop_flagged: take out what the newest
    evaluation calls a near copy."""

    options: Mapping[str, Any]
    marks: bytes | None = None
    marks_source: str = "marks"
    drop_flagged: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.options and self.marks is None and not self.drop_flagged


@dataclass(frozen=True)
class Refilter:
    """What is to be run. num_dropped: images of the version that may not come back."""

    resolved: ResolvedRecipe
    num_dropped: int


def parse_setting(text: str) -> tuple[str, Any]:
    """filter.option=value, the value a YAML scalar or list; or filter=off. Raises InputError."""
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals or not name or not value:
        raise InputError(
            f"--set {text[:80]!r}: expected filter.option=value, such as blank.min_contrast=0.05, "
            "or filter=off"
        )
    if "." not in name:
        return name, value
    reader = Reader("--set")
    with suppress(RecipeError):
        found = reader.read(value.encode())
        if not reader.problems:
            return name, found
    raise InputError(
        f"--set {text[:80]!r}: {value[:40]!r}: expected a number, text, true, false or a list such "
        "as [1, 2]"
    )


def plan_refilter(
    catalog: Catalog,
    store: Store,
    row: VersionRow,
    changes: Changes,
    find_models: Callable[[Sequence[str]], Sequence[Path]],
    rules: DeploymentRules,
) -> Refilter:
    """find_models: names of models -> the folders to look for them in. Writes nothing.

    Raises InputError or RecipeError that names the field at fault, JobError if the model has
    changed since.
    """
    if changes.is_empty:
        raise InputError("nothing to change: give --set, --review or --drop-flagged")
    job = get_job(catalog, row.job_id)
    assert job is not None
    recipe, model_digest = recipe_of_stored(job.recipe_body)
    keys: list[str] = []
    if changes.marks is not None:
        marks = parse_marks(changes.marks, source=changes.marks_source)
        check_marks(marks, row, source=changes.marks_source)
        _raw_of(catalog, row, marks.marks, source=changes.marks_source)  # of those kept as well
        keys += marks.rejected
    if changes.drop_flagged:
        keys += _flagged(catalog, store, row)
    rejected = _raw_of(catalog, row, keys, source="the evaluation")
    filters = _changed(recipe, changes.options, rejected)
    resolved = _resolved(recipe, filters, find_models(model_requests(recipe)), rules)
    if resolved.model.digest != model_digest:
        raise JobError(
            f"model {resolved.model.name} has changed since {row.name}@{row.version} was made: its "
            "attempts are of no use to the new one; put the old model back, or run the recipe"
        )
    drawn_by = json.loads(job.recipe_body)["conditioning"].get("model_digest")
    conditioner = resolved.conditioner_model
    if conditioner is not None and conditioner.digest != drawn_by:
        raise JobError(
            f"model {conditioner.name}, which draws the conditions, has changed since "
            f"{row.name}@{row.version} was made: its attempts are of no use to the new one; put "
            "the old model back, or run the recipe"
        )
    return Refilter(resolved, len(rejected))


def keep_marks(
    catalog: Catalog, store: Store, row: VersionRow, changes: Changes, *, by: str | None
) -> None:
    """The marks as an attachment of the version that was looked at: whoever asks why an image is
    gone finds them. changes: as planned. Called once the changed recipe has its job, and again by
    whoever asks again, which changes nothing."""
    if changes.marks is not None:
        marks = parse_marks(changes.marks, source=changes.marks_source)
        attach(
            catalog,
            store,
            row,
            kind=REVIEW,
            file_name="marks.json",
            data=changes.marks,
            summary=marks.summary(),
            created_by=by,
        )


def _resolved(
    recipe: Recipe,
    filters: list[dict[str, Any]],
    models_dirs: Sequence[Path],
    rules: DeploymentRules,
) -> ResolvedRecipe:
    """Raises RecipeError that names an option as --set does."""
    values = {**recipe.to_json(), "filters": filters}
    try:
        return resolve_recipe(Recipe.model_validate(values), models_dirs, rules)
    except ValidationError as error:
        found = problems_of(details_of(error), Recipe, values, lines={}, texts={})
    except InvalidRecipe as error:
        found = list(error.problems)
    names = [str(each["filter"]) for each in filters]
    raise InvalidRecipe(
        replace(
            each,
            field=re.sub(r"^filters\[(\d+)\]", lambda place: names[int(place[1])], each.field),
            line=None,
        )
        for each in found
    )


def _changed(
    recipe: Recipe, options: Mapping[str, Any], rejected: Iterable[str]
) -> list[dict[str, Any]]:
    """The filters of the recipe in their order, new ones after them."""
    filters = {each.filter: dict(each.options) for each in recipe.filters}
    for path, value in options.items():
        name, dot, option = path.partition(".")
        _check_filter(path, value, name)
        if dot:
            filters.setdefault(name, {})[_known_option(path, value, name, option)] = value
        elif value == "off":
            filters.pop(name, None)
        elif value == "on":
            filters.setdefault(name, {})
        else:
            raise InputError(
                f"{path}: {value!r}: expected off, on, or an option such as "
                f"{name}.{next(iter(FILTERS[name].options.model_fields), 'option')}=value"
            )
    if digests := set(rejected):
        known = _known_rejected(filters.setdefault(REVIEW_FILTER, {}))
        filters[REVIEW_FILTER]["rejected"] = sorted(digests.union(known))
    return [{"filter": name, **given} for name, given in filters.items()]


def _known_rejected(given: Mapping[str, Any]) -> Sequence[str]:
    """Of options that --set may have given, which no one has checked yet."""
    try:
        return ReviewOptions.model_validate(given).rejected
    except ValidationError:
        expected = ReviewOptions.model_fields["rejected"].description
        raise field_error(
            f"{REVIEW_FILTER}.rejected", given.get("rejected"), str(expected)
        ) from None


def _check_filter(path: str, value: Any, name: str) -> None:
    if name not in FILTERS:
        raise InputError(
            f"{path}: {value!r}: expected a filter: {', '.join(FILTERS)}{suggest(name, FILTERS)}"
        )


def _known_option(path: str, value: Any, name: str, option: str) -> str:
    fields = FILTERS[name].options.model_fields
    if option not in fields:
        raise InputError(
            f"{path}: {value!r}: expected an option of filter {name}: "
            f"{', '.join(fields) or 'it has none'}{suggest(option, fields)}"
        )
    return option


def _flagged(catalog: Catalog, store: Store, row: VersionRow) -> list[str]:
    """Sample keys of the near copies that the newest evaluation found."""
    newest = need_attachment(catalog, row, kind=EVALUATION)
    try:
        items = json.loads(read_attachment(store, newest))["near_copies"]["items"]
        return [str(item["name"]) for item in items]
    except (ValueError, KeyError, TypeError) as error:
        raise VerifyError(
            f"the evaluation of {row.name}@{row.version} lists no near copies ({error!r}); "
            "evaluate it again"
        ) from None


def _raw_of(catalog: Catalog, row: VersionRow, keys: Iterable[str], *, source: str) -> list[str]:
    """sha256 of the raw image of each sample. Raises InputError for keys that the version lacks."""
    wanted = list(dict.fromkeys(keys))
    found = raw_digests(catalog, row.job_id, wanted)
    unknown = [key for key in wanted if key not in found]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        shown = ", ".join(repr(key[:80]) for key in unknown[:_SHOWN])
        raise InputError(
            f"{source}: {shown}{more}: expected keys of images of {row.name}@{row.version}, such "
            "as trouser-00000012"
        )
    return list(found.values())
