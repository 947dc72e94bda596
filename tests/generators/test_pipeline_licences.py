"""The licence on a card, and the lists of a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.errors import ModelError
from datagen.generators.pipeline.licences import check_licence, check_source, read_licence

REVISION = "0" * 40


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# a", "mit"),
        ("---\r\nlicense: openrail++\r\ntags:\r\n- x\r\n---\r\n", "openrail++"),
        ("---\nlicense: other\nlicense_name: flux-1-dev\nlicense_link: L\n---\n", "flux-1-dev"),
        ("---\nlicense: other\n---\n", None),
        ("---\nlicense:\n- mit\n- apache-2.0\ntags: [a\n---\n", "mit, apache-2.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\ntags: &a {x: *a}\nlicense: 'mit'\ndatasets:\n  license: none\n---\n", "mit"),
        ("---\nlicense: unknown\n---\n", None),
        ("---\nlicense:\n---\n", None),
        ("---\nlicense: {a: b}\n---\n", None),
        ("---\nlicense: !!python/object:os.system mit\n---\n", None),
        ("---\nlicense_name_of_it: mit\n---\n", None),
        ("# a\nlicense: mit\n", None),
        ("---\nlicense: mit\n", None),
        ("---\ntags: []\n---\nlicense: mit\n", None),
    ],
)
def test_the_licence_is_of_the_front_matter(tmp_path: Path, card: str, licence: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_licence(tmp_path, tmp_path) == licence


def test_no_card_and_a_card_elsewhere_state_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    assert read_licence(folder, folder) is None
    (tmp_path / "card").write_text("---\nlicense: mit\n---\n")
    (folder / "README.md").symlink_to(tmp_path / "card")
    assert read_licence(folder, folder) is None
    assert read_licence(folder, tmp_path) == "mit"


def test_a_deployment_takes_the_licences_that_it_lists() -> None:
    check_licence("MIT", None, False)
    check_licence("MIT", ("mit",), False)
    check_licence(None, ("mit",), True)
    with pytest.raises(ModelError, match=r"'gpl-3.0' is not allowed .* allowed: mit, apache-2.0"):
        check_licence("gpl-3.0", ("mit", "apache-2.0"), True)
    with pytest.raises(ModelError, match="licence: none is stated"):
        check_licence(None, None, False)


@pytest.mark.parametrize(
    ("source", "revision", "allowed"),
    [
        ("/models/a/b", None, ("/models",)),
        ("/models", None, ("owner/*", "/models/")),
        ("owner/name", REVISION, ("owner/name",)),
        ("owner/name", REVISION, ("owner/*",)),
        ("anywhere", None, None),
    ],
)
def test_an_allowed_source_passes(
    source: str, revision: str | None, allowed: tuple[str, ...] | None
) -> None:
    check_source(source, allowed, revision=revision)


@pytest.mark.parametrize(
    ("source", "revision", "allowed"),
    [
        ("/models/../etc", None, ("/models",)),
        ("/models-of-others", None, ("/models",)),
        ("owner/name", None, ("owner/*",)),  # a folder of that name
        ("owner2/name", REVISION, ("owner/*",)),
        ("owner/name2", REVISION, ("owner/name",)),
        ("/models/a", REVISION, ("/models",)),
        ("a", None, (".",)),
        ("a", None, ()),
    ],
)
def test_any_other_source_is_refused_by_name(
    source: str, revision: str | None, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError, match="is not among those that this deployment allows"):
        check_source(source, allowed, revision=revision)


def test_a_link_does_not_lead_out_of_an_allowed_folder(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "allowed/link").symlink_to(tmp_path / "other")
    with pytest.raises(ModelError, match="not among those"):
        check_source(str(tmp_path / "allowed/link"), (str(tmp_path / "allowed"),))
