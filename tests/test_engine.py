"""The whole path of small recipes through the engine, in one process."""

from __future__ import annotations

import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from datagen import engine
from datagen.catalog.attempts import rejections_by_reason
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import PACK
from datagen.catalog.schema import migrate
from datagen.catalog.units import claimable
from datagen.catalog.versions import get_version
from datagen.embedded import RunResult, run_recipe
from datagen.engine import Worker
from datagen.errors import JobError, VerifyError
from datagen.manifest import Manifest
from datagen.plan import Plan
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.store import open_store
from datagen.submission import Request, submit
from tests.recipes import noise_recipe

# Mean contrast of 8x12 uniform noise is about 0.29: this rejects about a third of the attempts.
PICKY = [{"filter": "blank", "min_contrast": 0.284}]


def run(settings: Settings, changes: dict[str, Any] | None = None, workers: int = 1) -> RunResult:
    resolved = resolve(noise_recipe(changes), [settings.models_dir])
    return run_recipe(resolved, settings, workers=workers)


def images_of(result: RunResult) -> dict[str, bytes]:
    """key -> PNG, of every shard of the version."""
    found = {}
    for shard in sorted((Path(result.path) / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                if member.name.endswith(".png"):
                    stream = tar.extractfile(member)
                    assert stream is not None
                    found[member.name.removesuffix(".png")] = stream.read()
    return found


def test_a_recipe_becomes_a_version_with_exact_counts(settings: Settings) -> None:
    result = run(settings)
    assert result.counts == {
        "cat": {"train": 48, "val": 9, "test": 3},
        "dog": {"train": 32, "val": 6, "test": 2},
    }
    assert (result.version, result.reused, result.images_generated) == (1, False, 100)
    assert len(images_of(result)) == 100
    assert result.claims == result.units


def test_the_same_recipe_again_is_the_same_version(settings: Settings) -> None:
    first = run(settings)
    again = run(settings)
    assert again.reused
    assert (again.version, again.digest, again.images_generated) == (1, first.digest, 0)


def test_two_processes_make_what_one_makes(settings: Settings, tmp_path: Path) -> None:
    one = run(settings, {"filters": PICKY})
    two = run(load_settings({}, home=tmp_path / "other"), {"filters": PICKY}, workers=2)
    assert one.digest == two.digest
    manifests = [Path(r.path, "manifest.json").read_bytes() for r in (one, two)]
    contents = [json.loads(m) for m in manifests]
    for content in contents:  # the day of the job, in Croissant, may differ around midnight
        del content["documents"]
    assert contents[0] == contents[1]


def test_counts_stay_exact_when_a_third_is_rejected(settings: Settings) -> None:
    result = run(settings, {"filters": PICKY})
    plan = Plan(noise_recipe().recipe, unit_size=64)
    assert result.counts == {n: plan.counts_by_split(i) for i, n in enumerate(plan.class_names)}
    rejected = sum(sum(reasons.values()) for reasons in result.rejections.values())
    assert rejected > 20
    assert result.images_generated >= 100 + rejected


def test_growth_moves_nothing_and_makes_only_what_is_missing(settings: Settings) -> None:
    small = run(settings, {"filters": PICKY})
    grown = run(
        settings,
        {
            "filters": PICKY,
            "classes": [
                {"name": "cow", "count": 10},
                {"name": "cat", "count": 60},
                {"name": "dog", "count": 60, "attributes": {"age": 3}},
            ],
        },
    )
    assert grown.version == 2
    before, after = images_of(small), images_of(grown)
    assert {key: after[key] for key in before} == before
    assert len(after) == 130
    rejected = {
        name: sum(grown.rejections.get(name, {}).values())
        - sum(small.rejections.get(name, {}).values())
        for name in ("cow", "cat", "dog")
    }
    assert rejected["cat"] == 0
    assert grown.images_generated <= 30 + rejected["cow"] + rejected["dog"] + 30


def test_a_relaxed_filter_reuses_the_rejected_attempts(settings: Settings) -> None:
    run(settings, {"filters": PICKY})
    relaxed = run(settings, {"filters": [{"filter": "blank", "min_contrast": 0.01}]})
    assert relaxed.images_generated == 0
    plain = run(settings, {"filters": []})
    assert images_of(plain) == images_of(relaxed)


def test_a_filter_new_to_cached_attempts_scores_them(settings: Settings) -> None:
    run(settings)
    filtered = run(settings, {"filters": [{"filter": "duplicate"}, *PICKY]})
    fresh_home = load_settings({}, home=settings.home.parent / "fresh")
    fresh = run(fresh_home, {"filters": [{"filter": "duplicate"}, *PICKY]})
    assert filtered.digest == fresh.digest


def test_an_impossible_filter_fails_the_job_and_names_the_class(settings: Settings) -> None:
    impossible = {
        "filters": [{"filter": "blank", "min_contrast": 0.5}],
        "limits": {"max_attempts_per_class": 2.0},
    }
    with pytest.raises(JobError, match=r"class cat: 60 images are missing after \d+ attempts"):
        run(settings, impossible)
    store = open_store(settings.store_url)
    assert not [o for o in store.list("local/datasets") if o.key.endswith("manifest.json")]
    with pytest.raises(JobError, match="class cat"):
        run(settings, impossible)  # the same answer again


def test_a_shortfall_is_published_only_on_request_and_says_so(settings: Settings) -> None:
    result = run(
        settings,
        {
            "filters": PICKY,
            "limits": {"max_attempts_per_sample": 1, "on_shortfall": "publish"},
        },
    )
    missing = sum(result.shortfall.values())
    assert missing > 10
    assert len(images_of(result)) == 100 - missing
    manifest = Manifest.from_bytes(Path(result.path, "manifest.json").read_bytes())
    assert manifest.shortfall == result.shortfall
    assert manifest.num_samples == 100 - missing


def test_samples_explain_themselves(settings: Settings) -> None:
    result = run(
        settings,
        {"augmentations": [{"transform": "HorizontalFlip", "p": 0.5}], "filters": PICKY},
    )
    shard = sorted((Path(result.path) / "shards").glob("*.tar"))[0]
    with tarfile.open(fileobj=BytesIO(shard.read_bytes())) as tar:
        names = [m.name for m in tar.getmembers() if m.name.endswith(".json")]
        stream = tar.extractfile(next(n for n in names if n.startswith("dog")))
        assert stream is not None
        record = json.loads(stream.read())
    assert record["class_name"] == "dog"
    assert record["attributes"] == {"age": 3}
    assert record["split"] == "train"
    assert record["scores"]["blank"] > 0.28
    assert {"seed", "attempt_key", "augmentation_seed", "model_digest", "recipe_digest"} <= set(
        record
    )


def test_the_whole_path_on_postgresql_and_s3(
    settings: Settings, tmp_path: Path, postgres_url: str, s3_url: str, s3_endpoint: str
) -> None:
    remote = load_settings(
        {
            "DATAGEN_DATABASE_URL": postgres_url,
            "DATAGEN_STORE_URL": s3_url,
            "DATAGEN_S3_ENDPOINT_URL": s3_endpoint,
        },
        home=tmp_path / "remote",
    )
    changes = {"filters": PICKY}
    result = run(remote, changes, workers=2)
    assert result.digest == run(settings, changes).digest
    assert result.path.startswith("s3://")


def test_rejections_stay_with_their_reason(settings: Settings) -> None:
    result = run(settings, {"filters": PICKY})
    catalog = Catalog(settings.database_url)
    funnel = rejections_by_reason(catalog, 1)
    assert funnel == result.rejections
    assert set(funnel["cat"]) == {"blank"}


LIMITED = [
    {"max_attempts_per_class": 1.0, "on_shortfall": "publish"},
    {"max_attempts_per_class": 1.3, "on_shortfall": "publish"},
    {"max_attempts_per_sample": 2, "on_shortfall": "publish"},
    {"max_attempts_per_class": 30.0},
]


@pytest.mark.parametrize("limits", LIMITED)
def test_a_warm_cache_changes_no_result_where_a_limit_is_met(
    settings: Settings, tmp_path: Path, limits: dict[str, Any]
) -> None:
    cold = run(load_settings({}, home=tmp_path / "cold"), {"filters": PICKY, "limits": limits})
    run(settings, {"filters": PICKY, "limits": {"max_attempts_per_class": 20.0}})
    warm = run(settings, {"filters": PICKY, "limits": limits})
    assert (warm.digest, warm.counts, warm.shortfall) == (cold.digest, cold.counts, cold.shortfall)
    assert warm.rejections == cold.rejections


GROWN = {"classes": [{"name": "cat", "count": 80}, {"name": "dog", "count": 40}]}


@pytest.mark.parametrize("damage", ["byte", "truncated", "gone"])
def test_a_damaged_attempt_cache_is_made_again(
    settings: Settings, tmp_path: Path, damage: str
) -> None:
    run(settings, {"filters": PICKY})
    for path in (settings.home / "objects").glob("local/attempts/*/*.u8"):
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.unlink()
        if damage != "gone":
            path.write_bytes(data if damage == "byte" else data[:50])
    grown = run(settings, {"filters": PICKY, **GROWN})
    fresh = run(load_settings({}, home=tmp_path / "fresh"), {"filters": PICKY, **GROWN})
    assert grown.digest == fresh.digest


def test_a_cache_that_is_gone_is_made_again_at_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Backups have none of it: its objects are not found missing one by one."""
    run(settings, {"classes": [{"name": "cat", "count": 2000}]})
    cached = list((settings.home / "objects").glob("local/attempts/*/*.u8"))
    assert len(cached) > 2
    for path in cached:
        path.unlink()
    monkeypatch.setattr(engine, "MAX_REPAIRS", 1)
    grown = run(settings, {"classes": [{"name": "cat", "count": 2001}]})
    assert grown.counts["cat"]["train"] > 0


def test_jobs_of_one_damaged_cache_are_all_made_again(settings: Settings) -> None:
    """One finds it damaged and has it forgotten while the other packs."""
    catalog = Catalog(settings.database_url)
    migrate(catalog)
    store = open_store(settings.store_url)
    worker = Worker(catalog, store, settings, owner="a")
    both = [
        submit(catalog, resolve(noise_recipe({"name": name, "seed": 5}), []), settings, Request())
        for name in ("one", "two")
    ]
    for job in both:
        while not any(waiting.kind == PACK for waiting in claimable(catalog, job.id)):
            worker.step(job.id)
    for found in list(store.list("local/attempts/")):
        store.delete(found.key)
    worker.step(both[0].id)

    for job in reversed(both):
        while worker.step(job.id):
            pass

    versions = [get_version(catalog, name) for name in ("one", "two")]
    catalog.close()
    assert None not in versions


def test_an_edited_manifest_is_not_believed(settings: Settings) -> None:
    result = run(settings)
    manifest = Path(result.path, "manifest.json")
    manifest.write_bytes(manifest.read_bytes().replace(b'"cat"', b'"dog"'))
    with pytest.raises(VerifyError, match="changed after it was published"):
        run(settings)
