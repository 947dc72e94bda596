"""Every byte of a version is read, and every damage is named, however many there are."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.formats.shard import ShardMember, pack_shard
from datagen.images import encode_png
from datagen.manifest import ObjectEntry
from datagen.records import Finding, ShardChecker
from datagen.settings import load_settings
from datagen.verify import Verification, verify_version
from tests.published import Home, copied_home, flip_byte, publish


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify") / "home"
    publish(load_settings({}, home=folder), {"filters": [{"filter": "blank"}]})
    return folder


@pytest.fixture
def home(published: Path, tmp_path: Path) -> Iterator[Home]:
    with copied_home(published, tmp_path / "home") as home:
        yield home


def verify(home: Home) -> Verification:
    return verify_version(home.catalog, home.store, home.version("small"), tenant="local")


def named(result: Verification) -> set[tuple[str, str, str]]:
    return {(f.problem, f.kind, f.name) for f in result.findings}


def key(class_name: str, ordinal: int) -> str:
    return f"{class_name}-{ordinal:08d}"


def test_a_sound_version_has_no_finding(home: Home) -> None:
    result = verify(home)
    assert result.findings == []
    assert result.num_samples == 100
    on_disk = [path for path in home.folder().rglob("*") if path.is_file()]
    assert result.num_objects == len(on_disk)
    assert result.num_bytes == sum(path.stat().st_size for path in on_disk)


def test_the_digest_is_what_its_definition_says(home: Home) -> None:
    """Computed here from the shards by the definition alone."""
    leaves = []
    for class_name in ("cat", "dog"):
        for row in home.rows(class_name):
            png = home.shard(row).read_bytes()[row.offset : row.offset + row.size]
            labels = {"attributes": json.loads(row.attributes), "class_name": class_name}
            leaf = [class_name, row.ordinal, hashlib.sha256(png).hexdigest(), labels, row.split]
            text = json.dumps(leaf, separators=(",", ":")) + "\n"
            leaves.append(hashlib.sha256(text.encode()).digest())
    assert verify(home).digest == hashlib.sha256(b"".join(leaves)).hexdigest()


def test_progress_reaches_all_images(home: Home) -> None:
    seen: list[tuple[int, int]] = []
    verify_version(
        home.catalog,
        home.store,
        home.version("small"),
        tenant="local",
        report=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)


def test_a_flipped_pixel_byte_names_the_image_alone(home: Home) -> None:
    row = home.rows("dog")[11]
    flip_byte(home.shard(row), row.offset + row.size // 2)
    path = home.shard(row).relative_to(home.folder())
    assert named(verify(home)) == {
        ("changed", "object", str(path)),
        ("changed", "image", key("dog", 11)),
    }


def test_a_flipped_byte_beside_the_image_names_its_record(home: Home) -> None:
    row = home.rows("cat")[0]
    data = home.shard(row).read_bytes()
    flip_byte(home.shard(row), data.index(b'"seed":', row.offset) + 9)
    assert ("changed", "record", key("cat", 0)) in named(verify(home))
    assert len(verify(home).findings) == 2


def test_a_damaged_tar_header_names_the_sample_after_it(home: Home) -> None:
    row = home.rows("cat")[20]
    flip_byte(home.shard(row), row.offset - 512)
    assert ("changed", "record", key("cat", 20)) in named(verify(home))
    assert len(verify(home).findings) == 2


def test_a_cut_shard_names_every_image_behind_the_cut(home: Home) -> None:
    row = home.rows("cat")[0]
    path = home.shard(row)
    in_shard = [r for c in ("cat", "dog") for r in home.rows(c) if r.shard == row.shard]
    cut = sorted(r.offset for r in in_shard)[10]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:cut])
    gone = {key(r.class_name, r.ordinal) for r in in_shard if r.offset >= cut}
    missing = {name for problem, kind, name in named(verify(home)) if problem == "missing"}
    assert len(gone) > 10
    assert missing == gone


def test_a_missing_shard_names_every_image_in_it(home: Home) -> None:
    row = home.rows("cat")[0]
    path = home.shard(row)
    path.unlink()
    in_shard = [r for c in ("cat", "dog") for r in home.rows(c) if r.shard == row.shard]
    expected = {("missing", "image", key(r.class_name, r.ordinal)) for r in in_shard}
    object_path = str(path.relative_to(home.folder()))
    assert named(verify(home)) == expected | {("missing", "object", object_path)}


@pytest.mark.parametrize("pattern", ["README.md", "croissant.json", "index/*", "contact-sheets/*"])
def test_documents_and_index_are_named(home: Home, pattern: str) -> None:
    changed = sorted(home.folder().glob(pattern))[0]
    name = str(changed.relative_to(home.folder()))
    flip_byte(changed, 100)
    assert named(verify(home)) == {("changed", "object", name)}
    changed.unlink()
    assert named(verify(home)) == {("missing", "object", name)}


def test_all_damages_are_found_at_once(home: Home) -> None:
    (home.folder() / "README.md").unlink()
    first, second = home.rows("cat")[3], home.rows("dog")[39]
    assert first.shard != second.shard
    flip_byte(home.shard(first), first.offset + 60)
    flip_byte(home.shard(second), second.offset + 60)
    home.execute("DELETE FROM samples WHERE class_name = 'dog' AND ordinal = 5")
    assert {
        ("missing", "object", "README.md"),
        ("changed", "image", key("cat", 3)),
        ("changed", "image", key("dog", 39)),
        ("missing", "row", key("dog", 5)),
    } <= named(verify(home))


def test_a_missing_manifest_is_named_and_the_images_are_read_all_the_same(home: Home) -> None:
    row = home.rows("dog")[2]
    flip_byte(home.shard(row), row.offset + 50)
    (home.folder() / "manifest.json").unlink()
    result = verify(home)
    assert ("missing", "object", "manifest.json") in named(result)
    assert ("changed", "image", key("dog", 2)) in named(result)
    assert len(result.findings) == 3


def test_a_changed_manifest_is_not_believed(home: Home) -> None:
    path = home.folder() / "manifest.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"small"', b'"large"'))
    assert named(verify(home)) == {("changed", "object", "manifest.json")}


@pytest.mark.parametrize(
    ("column", "value"), [("split", "test"), ("seed", 5), ("attributes", '{"age":4}')]
)
def test_a_changed_row_of_the_catalog_is_named(home: Home, column: str, value: object) -> None:
    home.execute(f"UPDATE samples SET {column} = ? WHERE class_name = 'dog' AND ordinal = 7", value)
    assert named(verify(home)) == {("changed", "row", key("dog", 7))}


def test_a_row_of_an_image_that_no_shard_holds_is_named(home: Home) -> None:
    home.execute("UPDATE samples SET ordinal = 77 WHERE class_name = 'dog' AND ordinal = 7")
    assert named(verify(home)) == {
        ("missing", "row", key("dog", 7)),
        ("missing", "image", key("dog", 77)),
    }


def test_a_changed_digest_in_the_catalog_is_named(home: Home) -> None:
    home.execute("UPDATE dataset_versions SET digest = ?", "0" * 64)
    assert {name for _, _, name in named(verify(home))} == {"data set digest"}


def test_a_flipped_byte_anywhere_is_found(home: Home) -> None:
    draw = random.Random(3)
    objects = sorted(path for path in home.folder().rglob("*") if path.is_file())
    for _ in range(60):
        path = draw.choice(objects)
        offset = draw.randrange(path.stat().st_size)
        flip_byte(path, offset)
        name = str(path.relative_to(home.folder()))
        assert ("changed", "object", name) in named(verify(home)), (name, offset)
        flip_byte(path, offset)
    assert verify(home).findings == []


def record(png: bytes, **changes: object) -> bytes:
    content = {
        "key": "cat-00000000",
        "class_name": "cat",
        "ordinal": 0,
        "split": "train",
        "attributes": {},
        "attempt": 0,
        "attempt_key": "a",
        "seed": 1,
        "augmentation_seed": 2,
        "augmentations": [],
        "scores": {},
        "model": "noise",
        "raw_sha256": "r",
        "image_sha256": hashlib.sha256(png).hexdigest(),
    }
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, None),
        ({"image_sha256": "0" * 64}, "image"),
        ({"split": "val"}, "record"),
        ({"model": "other"}, "record"),
        ({"ordinal": 1}, "record"),
        ({"seed": None, "class_name": None}, "record"),
    ],
)
def test_what_was_published_wrong_is_found_too(
    home: Home, changes: dict[str, object], kind: str | None
) -> None:
    """The shard's own digest fits here: only its content is at odds with itself."""
    manifest = home.manifest()
    pixels = home.rows("cat")[0]
    data = home.shard(pixels).read_bytes()
    png = data[pixels.offset : pixels.offset + pixels.size]
    shared = {"model_digest": manifest.model["digest"], "recipe_digest": manifest.recipe_digest}
    member = ShardMember("cat-00000000", png, record(png, **(shared | changes)))
    assert kinds(home, member) == ([] if kind is None else [kind])


def test_an_image_of_another_size_is_found(home: Home) -> None:
    import numpy as np

    manifest = home.manifest()
    shared = {"model_digest": manifest.model["digest"], "recipe_digest": manifest.recipe_digest}
    for pixels in (np.zeros((9, 12, 1), np.uint8), np.zeros((8, 12, 3), np.uint8)):
        png = encode_png(pixels)
        assert kinds(home, ShardMember("cat-00000000", png, record(png, **shared))) == ["image"]
    broken = b"not a PNG"
    assert kinds(home, ShardMember("cat-00000000", broken, record(broken, **shared))) == ["image"]


def kinds(home: Home, member: ShardMember) -> list[str]:
    from io import BytesIO

    entry = ObjectEntry("shards/x.tar", "", 0, 1, "train")
    findings: list[Finding] = []
    checker = ShardChecker(home.manifest(), entry, 0)
    checker.check(BytesIO(pack_shard([member]).data), [], findings)
    return [finding.kind for finding in findings]
