"""A refiltered version is what a fresh run of the changed recipe makes, and nothing that was made
before is made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from datagen.attachments import EVALUATION, REVIEW, attach, attachments_of
from datagen.catalog.jobs import list_jobs
from datagen.catalog.rows import StoredAttempt
from datagen.catalog.tables import attempts
from datagen.deployment_rules import DeploymentRules
from datagen.diff import diff_versions
from datagen.embedded import RunResult, run_recipe
from datagen.errors import InputError, NotFoundError, RecipeError, VerifyError
from datagen.refilter import Changes, Refilter, keep_marks, parse_setting, plan_refilter
from datagen.resolve import recipe_of_stored, resolve_recipe
from datagen.settings import load_settings
from datagen.stages import generate as generate_stage
from datagen.stages import pack as pack_stage
from tests.published import Home, open_home, publish

# Of the 100 noise images, about half have less contrast.
STRICT = 0.288


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with small@1, filtered by nothing that rejects."""
    home = tmp_path_factory.mktemp("refilter") / "home"
    publish(load_settings({}, home=home), {"filters": [{"filter": "blank"}]})
    return home


@pytest.fixture
def opened(published: Path, tmp_path: Path) -> Iterator[Home]:
    """A copy of it."""
    from tests.published import copied_home

    with copied_home(published, tmp_path / "home") as home:
        yield home


def planned(home: Home, changes: Changes, version: str = "small@1") -> Refilter:
    folders = [home.settings.models_dir]
    row = home.version(version)
    return plan_refilter(
        home.catalog, home.store, row, changes, lambda model: folders, DeploymentRules()
    )


def run(home: Home, changes: Changes, version: str = "small@1") -> RunResult:
    return run_recipe(planned(home, changes, version).resolved, home.settings)


def fresh(result: RunResult, home: Home, folder: Path) -> RunResult:
    """The recipe of a version, run in a home of its own."""
    [job] = [j for j in list_jobs(home.catalog, limit=50) if j.version == result.version]
    recipe, _ = recipe_of_stored(job.recipe_body)
    settings = load_settings({}, home=folder)
    return run_recipe(resolve_recipe(recipe, [settings.models_dir]), settings)


def num_attempts(home: Home) -> int:
    with home.catalog.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(attempts)).scalar_one())


def marks_of(home: Home, marks: dict[str, str], **changes: Any) -> bytes:
    row = home.version("small@1")
    about = {"format": 1, "dataset": row.name, "version": row.version, "digest": row.digest}
    return json.dumps({**about, "marks": marks} | changes).encode()


def evaluation(home: Home, *names: str, content: Any = None) -> None:
    found = {"near_copies": {"items": [{"name": name} for name in names]}}
    attach(
        *(home.catalog, home.store, home.version("small@1")),
        kind=EVALUATION,
        file_name="evaluation.json",
        data=json.dumps(found if content is None else content).encode(),
        summary={},
    )


def test_a_stricter_filter_gives_what_a_fresh_run_gives_and_makes_only_the_rest(
    opened: Home, tmp_path: Path
) -> None:
    before = num_attempts(opened)
    made = run(opened, Changes({"blank.min_contrast": STRICT, "duplicate": "on"}))
    assert (made.version, made.reused) == (2, False)
    assert sum(made.rejections["cat"].values()) > 10
    assert before + made.images_generated == num_attempts(opened)
    alone = fresh(made, opened, tmp_path / "fresh")
    assert alone.digest == made.digest
    assert alone.images_generated == num_attempts(opened) > made.images_generated


def test_taking_the_filter_off_makes_nothing_and_is_the_first_version_again(
    opened: Home,
) -> None:
    strict = run(opened, Changes({"blank.min_contrast": STRICT}))
    back = run(opened, Changes({"blank": "off"}), f"small@{strict.version}")
    assert (back.version, back.images_generated) == (3, 0)
    assert back.digest == opened.version("small@1").digest
    same = run(opened, Changes({"blank.min_contrast": 0.02}))
    assert (same.version, same.reused) == (1, True)


def test_marks_replace_the_images_that_go_and_no_other(opened: Home, tmp_path: Path) -> None:
    row = opened.version("small@1")
    data = marks_of(
        opened, {"cat-00000003": "drop", "cat-00000004": "keep", "dog-00000000": "wrong_label"}
    )
    plan = planned(opened, Changes({}, data))
    assert plan.num_dropped == 2
    keep_marks(opened.catalog, opened.store, row, Changes({}, data), by="me")
    made = run_recipe(plan.resolved, opened.settings)
    changed = {
        name: each.changed.ranges
        for name, each in diff_versions(
            opened.catalog, row, opened.version("small@2")
        ).classes.items()
    }
    assert changed == {"cat": [[3, 3]], "dog": [[0, 0]]}
    assert made.images_generated == 2
    assert made.rejections == {"cat": {"review": 1}, "dog": {"review": 1}}
    assert fresh(made, opened, tmp_path / "fresh").digest == made.digest
    [kept] = attachments_of(opened.catalog, row, kind=REVIEW)
    assert opened.store.get(kept.key) == data
    # A second review adds to the first.
    again = Changes({}, marks_of(opened, {"cat-00000005": "drop"}, version=2, digest=made.digest))
    both = planned(opened, again, "small@2").resolved.recipe.filters[-1]
    assert (both.filter, len(both.options["rejected"])) == ("review", 3)


def test_a_filter_is_added_to_a_version_that_had_rejections(opened: Home, tmp_path: Path) -> None:
    """Its rejected attempts are in the cache without the new filter's scores."""
    strict = run(opened, Changes({"blank.min_contrast": STRICT}))
    assert sum(strict.rejections["cat"].values()) > 10
    more = run(opened, Changes({"duplicate": "on"}), "small@2")
    assert more.images_generated == 0  # none of noise is a duplicate
    marks = marks_of(opened, {"cat-00000003": "drop"}, version=3, digest=more.digest)
    reviewed = run(opened, Changes({}, marks), "small@3")
    assert reviewed.rejections["cat"]["review"] == 1
    for result in (more, reviewed):
        alone = fresh(result, opened, tmp_path / f"fresh-{result.version}")
        assert alone.digest == result.digest
        assert alone.rejections == result.rejections


def test_attempts_that_another_job_left_without_a_score_are_scored(
    opened: Home, tmp_path: Path
) -> None:
    """As when it commits them between this job's generating and its judging."""
    run(opened, Changes({"blank.min_contrast": STRICT}))
    found = generate_stage.cached_attempts

    def first_attempts(*args: Any, **named: Any) -> list[StoredAttempt]:
        patch.undo()
        return [row for row in found(*args, **named) if row.attempt == 0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate_stage, "cached_attempts", first_attempts)
        more = run(opened, Changes({"duplicate": "on"}), "small@2")
    assert fresh(more, opened, tmp_path / "fresh").digest == more.digest


def test_scores_that_another_job_wrote_over_are_made_again(opened: Home) -> None:
    """As when it read them before this job's generating, and wrote them after its judging."""
    found = pack_stage.chosen_attempts

    def after_another_job(*args: Any, **named: Any) -> dict[str, dict[int, StoredAttempt]]:
        patch.undo()
        opened.execute("UPDATE attempts SET scores = '{}'")
        return found(*args, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pack_stage, "chosen_attempts", after_another_job)
        more = run(opened, Changes({"duplicate": "on"}))
    assert more.images_generated == 0
    assert more.digest == opened.version("small@1").digest


def test_what_the_evaluation_flagged_is_quarantined(opened: Home) -> None:
    with pytest.raises(NotFoundError, match="has no evaluation; `datagen evaluate small@1"):
        planned(opened, Changes({}, drop_flagged=True))
    evaluation(opened, "cat-00000001", "dog-00000002")
    plan = planned(opened, Changes({}, drop_flagged=True))
    rejected = plan.resolved.recipe.filters[-1].options["rejected"]
    assert sorted(rejected) == sorted(
        [opened.rows("cat")[1].raw_sha256, opened.rows("dog")[2].raw_sha256]
    )
    evaluation(opened, content={"near_copies": {"items": [{}]}})
    with pytest.raises(VerifyError, match="lists no near copies"):
        planned(opened, Changes({}, drop_flagged=True))
    evaluation(opened)
    clean = planned(opened, Changes({}, drop_flagged=True))
    assert (clean.num_dropped, len(clean.resolved.recipe.filters)) == (0, 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "nothing to change: give --set, --review or --drop-flagged"),
    ({"blnk.min_contrast": 1}, "blnk.min_contrast: 1: expected a filter: .*; did you mean 'blank'"),
    ({"blank.contrast": 1}, "blank.contrast: 1: expected an option of filter blank: min_contrast;"),
    ({"blank": "of"}, "blank: 'of': expected off, on, or an option such as blank.min_contrast"),
    ({"blank.min_contrast": "x"}, "^blank.min_contrast: 'x': expected number"),
    ({"blank.min_contrast": 0.7}, "^blank.min_contrast: 0.7: expected less than or equal to 0.5"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_bad_setting_is_told_by_its_name(
    published: Path, options: dict[str, Any], message: str
) -> None:
    with open_home(published) as home, pytest.raises((InputError, RecipeError), match=message):
        planned(home, Changes(options))


@pytest.mark.parametrize("value", [5, None, [1], [[1]], {"a": 1}, "x"])
def test_a_bad_list_of_rejected_is_told_beside_marks_too(published: Path, value: Any) -> None:
    with open_home(published) as home:
        for marks in (None, marks_of(home, {"cat-00000003": "drop"})):
            with pytest.raises(RecipeError, match=r"^review\.rejected"):
                planned(home, Changes({"review.rejected": value}, marks))


def test_marks_of_something_else_change_nothing(published: Path) -> None:
    with open_home(published) as home:
        wrong = [
            (marks_of(home, {}, digest="0" * 64), "digest: .* of another version"),
            (marks_of(home, {"cat-00000099": "keep"}), "m: 'cat-00000099': expected keys of imag"),
            (marks_of(home, {"cat-1": "drop"}), "'cat-1': expected keys of images of small@1"),
            (b"{", "m: not JSON"),
        ]
        for data, message in wrong:
            with pytest.raises(InputError, match=message):
                planned(home, Changes({}, data, "m"))
        assert attachments_of(home.catalog, home.version("small@1")) == []
        assert len(list_jobs(home.catalog, limit=50)) == 1


def test_settings_are_read_as_yaml_values() -> None:
    assert parse_setting("blank.min_contrast=0.05") == ("blank.min_contrast", 0.05)
    assert parse_setting(" outlier = off ") == ("outlier", "off")
    assert parse_setting("a.b=[1, x]") == ("a.b", [1, "x"])
    assert parse_setting("a.b={c: 0.5}") == ("a.b", {"c": 0.5})
    assert parse_setting('a.b="1"') == ("a.b", "1")
    for text in ("", "blank", "=1", "blank.min_contrast=", "a.b=[1", "a.b=yes", "a.b=!!int 1"):
        with pytest.raises(InputError, match="expected"):
            parse_setting(text)
