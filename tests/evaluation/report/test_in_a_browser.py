"""The page in a real Chromium: what a reviewer does with it, and what it must never do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from datagen.evaluation.report.render import render_report
from tests.conftest import give_up
from tests.evaluation.report import sample
from tests.evaluation.report.browser import Browser, BrowserMissingError, Page

NAMES = ("cat", 'dog "quoted" <b>', "__proto__")
NO_STORAGE = (
    "Object.defineProperty(window, 'localStorage', {get() { throw new Error('refused'); }});"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        chromium = Browser(tmp_path_factory.mktemp("profile"))
    except BrowserMissingError as error:
        give_up(str(error))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    evaluation = sample.evaluation(NAMES, num_images=120)
    pictures = sample.pictures(NAMES, per_class=30)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(evaluation, pictures), "utf-8")
    return path


def marks_of(page: Page) -> dict[str, str]:
    """Sample key => mark, as the page shows them."""
    shown: dict[str, str] = page.run(
        "(() => { const {keys} = JSON.parse(document.getElementById('marked').textContent);"
        "return Object.fromEntries([...document.querySelectorAll('.images > li')]"
        ".map((e, i) => [keys[i], e.dataset.mark]).filter(([, mark]) => mark)); })()"
    )
    return shown


def tally(page: Page) -> str:
    return str(page.run("document.getElementById('tally').textContent"))


def focus_first(page: Page) -> None:
    page.run("document.querySelector('.images > li').focus()")


def test_it_asks_for_nothing_and_nothing_goes_wrong(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    focus_first(page)
    page.press("d", "ArrowRight", "k")
    assert [url for url in page.requests if not url.startswith("data:")] == [report.as_uri()]
    assert page.problems == []


def test_its_policy_forbids_what_it_never_does(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    page.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/a.png'}))")
    page.run("document.body.setAttribute('onclick', 'window.bad = 1')")
    page.run("document.body.click()")
    assert page.run("window.bad") is None
    page.wait(lambda: len(page.problems) >= 3)
    assert all("Content Security Policy" in each for each in page.problems)


def test_marks_are_made_by_keyboard(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    focus_first(page)
    page.press("d", "ArrowRight", "w", "ArrowRight", "k", "ArrowRight", "d", "u", "ArrowLeft")
    assert marks_of(page) == {
        "cat-00000000": "drop",
        "cat-00000001": "wrong_label",
        "cat-00000002": "keep",
    }
    assert tally(page) == "keep 1 · drop 1 · wrong label 1 · no mark 87"
    assert page.run("document.activeElement.getAttribute('aria-label')").endswith("; keep")


def test_arrows_reach_every_image(browser: Browser, report: Path) -> None:
    """Also those folded away, and those of the next class."""
    page = browser.open(report)
    focus_first(page)
    selected = "[...document.querySelectorAll('.images > li')].indexOf(document.activeElement)"
    visited = [page.run(selected)]
    for _ in range(89):
        page.press("ArrowRight")
        visited.append(page.run(selected))
    assert visited == list(range(90))
    page.press("Home")
    page.press("ArrowDown")
    below = page.run(selected)
    columns = page.run(
        "getComputedStyle(document.querySelector('.images')).gridTemplateColumns.split(' ').length"
    )
    assert below == columns
    page.press("ArrowUp")
    assert page.run(selected) == 0


def test_marks_are_made_by_mouse(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.click(".images > li:nth-child(2)")
    page.click("input[value=wrong_label]")
    page.click(".images > li:nth-child(3)")
    page.click("input[value=keep]")
    page.click(".images > li:nth-child(4)")
    page.click(".images > li:nth-child(4)")
    assert marks_of(page) == {"cat-00000001": "drop", "cat-00000002": "wrong_label"}


def test_help_opens_by_key_and_closes(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    focus_first(page)
    page.press("?")
    assert page.run("document.getElementById('keys').open")
    page.press("Escape")
    assert not page.run("document.getElementById('keys').open")


def test_keys_mean_nothing_outside_the_gallery(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.run("document.querySelector('nav a').focus()")
    page.press("d", "k", "w")
    assert marks_of(page) == {}


def test_the_download_is_what_refilter_reads(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    page = browser.open(report)
    focus_first(page)
    page.press("d", "End", "w")
    content = json.loads(page.download("#save-marks", tmp_path))
    subject = sample.evaluation().subject
    assert content == {
        "format": 1,
        "dataset": subject.name,
        "version": subject.version,
        "digest": subject.digest,
        "marks": {"cat-00000000": "drop", "__proto__-00000029": "wrong_label"},
    }
    assert page.problems == []


def test_marks_outlive_a_reload(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    focus_first(page)
    page.press("d")
    page.reload()
    assert marks_of(page) == {"cat-00000000": "drop"}


def test_it_works_where_the_browser_keeps_nothing(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    page = browser.open(report, before=NO_STORAGE)
    focus_first(page)
    page.press("k")
    assert marks_of(page) == {"cat-00000000": "keep"}
    assert "not kept by this browser" in tally(page)
    assert json.loads(page.download("#save-marks", tmp_path))["marks"] == marks_of(page)
    assert page.problems == []


def given_marks(folder: Path, **changes: Any) -> Path:
    subject = sample.evaluation().subject
    content = {
        "format": 1,
        "dataset": subject.name,
        "version": subject.version,
        "digest": subject.digest,
        "marks": {"cat-00000003": "drop", "not on this page": "wrong_label"},
        **changes,
    }
    path = folder / "given.json"
    path.write_text(json.dumps(content))
    return path


def test_marks_are_loaded_and_those_of_other_images_kept(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    page = browser.open(report)
    page.choose_file("#marks-file", given_marks(tmp_path))
    page.wait(lambda: marks_of(page) == {"cat-00000003": "drop"})
    saved = json.loads(page.download("#save-marks", tmp_path))
    assert saved["marks"] == {"cat-00000003": "drop", "not on this page": "wrong_label"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"digest": "0" * 64}, "another data set"),
        ({"format": 2}, "not a marks.json of format 1"),
        ({"marks": {"cat-00000003": "<img src=x onerror=alert(1)>"}}, "the mark must be"),
        ({"marks": {"cat-00000003": "constructor"}}, "the mark must be"),
        ({"marks": None}, "not a marks.json of format 1"),
    ],
)
def test_marks_that_do_not_fit_are_refused_whole(
    browser: Browser, report: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    page = browser.open(report)
    page.choose_file("#marks-file", given_marks(tmp_path, **changes))
    page.wait(lambda: page.run("!document.getElementById('problem').hidden"))
    assert said in page.run("document.getElementById('problem').textContent")
    assert marks_of(page) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(browser: Browser, report: Path, scheme: str) -> None:
    """Contrast, names, roles, headings, tables; everything unfolded, and something marked."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    page = browser.open(report, media={"prefers-color-scheme": scheme})
    focus_first(page)
    page.press("d", "ArrowRight", "w", "ArrowRight", "k")
    page.run("document.querySelectorAll('details').forEach((e) => (e.open = true))")
    page.run(axe + "; 0")
    found = page.run("axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes[0].html]))")
    assert found == []
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_everything_to_use_or_see_has_a_name(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "image", "listbox", "option", "radio", "table", "region", "group"}
    seen = set[str]()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in roles and not node["ignored"]:
            seen.add(role)
            assert node["name"]["value"].strip() or role == "group", node
    assert {"button", "link", "image", "listbox", "option", "radio", "table"} <= seen


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.send(
        "Emulation.setDeviceMetricsOverride",
        width=360,
        height=740,
        deviceScaleFactor=1,
        mobile=True,
    )
    assert page.run("document.documentElement.scrollWidth") == 360


def test_it_prints_without_the_tools(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.send("Emulation.setEmulatedMedia", media="print")
    for selector in ("nav", "#review"):
        shown = page.run(f"getComputedStyle(document.querySelector({selector!r})).display")
        assert shown == "none", selector
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20


def test_it_reads_the_same_without_scripts(browser: Browser, report: Path) -> None:
    page = browser.open(report)
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.reload()
    page.send("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.getElementById('review').hidden")
    assert page.run("document.querySelectorAll('.images img').length") == 90


def test_hostile_names_run_nothing(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    evaluation = sample.evaluation(sample.HOSTILE, num_images=100)
    path.write_text(
        render_report(evaluation, sample.pictures(sample.HOSTILE, per_class=2)), "utf-8"
    )
    page = browser.open(path, before="window.alert = () => { throw new Error('it ran'); };")
    focus_first(page)
    page.press("d")
    keys = page.run("JSON.parse(document.getElementById('marked').textContent).keys")
    assert keys[0] == "<script>alert(1)</script>-00000000"
    assert (
        page.run(
            "document.querySelectorAll('.images script, main script, main svg [onload]').length"
        )
        == 0
    )
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.problems == []
