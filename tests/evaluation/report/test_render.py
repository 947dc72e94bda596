"""The page as text: complete, escaped, bounded, and what it says."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from datagen.evaluation.measure import Measure
from datagen.evaluation.report.gallery import MAX_PER_CLASS
from datagen.evaluation.report.pictures import GalleryItem, Pictures
from datagen.evaluation.report.render import MAX_BYTES, render_report
from datagen.evaluation.results import (
    Arm,
    AttributeFairness,
    Control,
    CurvePoint,
    Evaluation,
    Fidelity,
    Funnel,
    LabelAgreement,
    NearCopy,
    Privacy,
    Suspect,
    Utility,
)
from tests.evaluation.report import sample

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import html5lib


def parse(page: str) -> Any:
    """By the rules of HTML5, where any fault is an error. Elements have no namespace."""
    page.encode()
    parser = html5lib.HTMLParser(
        html5lib.getTreeBuilder("etree"), strict=True, namespaceHTMLElements=False
    )
    root = parser.parse(page)
    for element in root.iter():
        element.tag = str(element.tag).removeprefix("{http://www.w3.org/2000/svg}")
    return root


def text_of(element: Any) -> str:
    """As it is read: what is inline runs on."""

    def parts(inside: Any) -> Iterator[str]:
        space = "" if inside.tag in ("bdi", "strong", "span", "code") else " "
        yield from (space, inside.text or "")
        for child in inside:
            yield from (*parts(child), child.tail or "")
        yield space

    return " ".join("".join(parts(element)).split())


def keys_of(page: str) -> list[str]:
    """Without a parser, which takes long for a large page."""
    content = re.search(r'<script type="application/json" id="marked">(.*?)</script>', page)
    assert content
    keys: list[str] = json.loads(content[1])["keys"]
    return keys


def by_id(root: Any, id_: str) -> Any:
    return next(element for element in root.iter() if element.get("id") == id_)


def embedded(root: Any, id_: str) -> Any:
    return json.loads(by_id(root, id_).text)


@pytest.fixture(scope="module")
def root() -> Any:
    return parse(render_report(sample.evaluation(), sample.pictures()))


def test_sections_come_in_the_order_of_their_weight(root: Any) -> None:
    headings = [text_of(h) for h in root.iter("h2")]
    assert headings == [
        "Verdict", "Gallery", "Copy pairs", "Acceptance funnel", "Fidelity against the floor",
        "Utility", "Learning curve", "Privacy", "Fairness", "Provenance", "Limits",
    ]  # fmt: skip
    links = [a.get("href") for a in root.find("body/nav").iter("a")]
    assert links == [f"#{section.get('id')}" for section in root.iter("section")]


def test_headings_skip_no_level(root: Any) -> None:
    levels = [int(e.tag[1]) for e in root.iter() if re.fullmatch("h[1-6]", str(e.tag))]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_verdict_is_in_words_with_its_interval(root: Any) -> None:
    verdict = text_of(by_id(root, "verdict"))
    for said in (
        sample.evaluation().headline,
        "✓ Helps +1.4 points of accuracy, 95% interval +0.8 to +2.0",
        "About 2,400 real labels 90% interval 1,500 to 3,400",
        "94.3% 95% interval 93.8% to 94.8%",
        "On held-out real images it is right in 91.2%",
        "70 near copies flagged −0.25 points against chance, 95% interval −0.71 to +0.18",
        "Chance alone flags 0.95%",
        "worse for coat.",
        "Added to 1,250 real images, they do as much as about 2,200 more.",
        "Variety by LPIPS: needs the weights of LPIPS",
        "not for performance claims",
    ):
        assert said in verdict


def test_every_class_stands_in_the_verdict(root: Any) -> None:
    rows = by_id(root, "verdict").find(".//tbody")
    assert [text_of(row[0]) for row in rows] == list(sample.GARMENTS)
    assert text_of(rows[4]) == (
        "coat 1,000 89.5% 88.0% to 91.0% −1.9 −3.1 to −0.7 ✕ Harms 0.70% 0.10% to 1.30%"
    )


def test_a_blind_check_says_so_before_its_figures() -> None:
    full = sample.evaluation()
    blind = replace(full, privacy=replace(full.privacy, is_blind=True, sentence=""))
    page = parse(render_report(blind, Pictures()))
    assert "Not known: the check is blind" in text_of(by_id(page, "verdict"))
    assert "near copies flagged" not in text_of(by_id(page, "verdict"))
    assert text_of(by_id(page, "privacy")).startswith("Privacy This check is blind")


def test_what_is_withheld_is_named_with_its_reason() -> None:
    page = parse(render_report(sample.withheld(), Pictures()))
    verdict = text_of(by_id(page, "verdict"))
    assert "Utility verdict: the classifier never learned: 11% on held-out real images" in verdict
    for label in ("FID", "Label agreement", "Near copies above chance", "Worth in real labels"):
        assert label in verdict.split("What is withheld, and why")[1]
    assert "No copies were planted" in text_of(by_id(page, "privacy"))
    assert "No attribute" in text_of(by_id(page, "fairness"))


def test_the_curve_marks_where_the_data_set_stands(root: Any) -> None:
    curve = text_of(by_id(root, "curve"))
    assert (
        "By themselves the synthetic images train a classifier as well as about 2,400 labelled "
        "real images do (90% interval 1,500 to 3,400)." in curve
    )
    assert "synthetic alone: as about 2,400" in curve
    assert "1,250 real + synthetic: as 3,500" in curve


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (Measure(12_000, 10, low=9000), "At least 9,000 real labels 90% interval at least 9,000"),
        (Measure(12_000, 10, low=9000, high=math.inf), "90% interval at least 9,000"),
        (Measure(0, 10, low=0, high=100), "Less than 100 real labels 90% interval 0 to 100"),
    ],
)
def test_worth_beyond_the_curve_is_not_given_as_a_number(worth: Measure, said: str) -> None:
    full = sample.evaluation()
    page = render_report(
        replace(full, utility=replace(full.utility, worth_real_labels=worth)), Pictures()
    )
    assert said in text_of(by_id(parse(page), "verdict"))


def test_the_largest_gap_between_groups_is_named(root: Any) -> None:
    assert "Largest gap: label agreement: f 91.2%, m 96.8%" in text_of(by_id(root, "fairness"))


def test_who_may_see_the_pairs_is_said_where_real_images_are(root: Any) -> None:
    assert "Whoever may not see them must not see this page" in text_of(by_id(root, "pairs"))
    without = parse(render_report(sample.evaluation(), Pictures()))
    assert "There are no pairs to show" in text_of(by_id(without, "pairs"))


def test_the_funnel_adds_up(root: Any) -> None:
    funnel = text_of(by_id(root, "funnel"))
    assert "14,125 attempts, 10,000 kept. label_agreement rejected 2,700" in funnel


def test_every_chart_has_words_and_a_table(root: Any) -> None:
    charts = [svg for svg in root.iter("svg") if svg.get("class") == "chart"]
    assert len(charts) == 6
    for svg in charts:
        assert text_of(svg.find("title"))
        assert text_of(svg.find("desc"))
    figures = [f for f in root.iter("figure") if f.find(".//svg[@class='chart']") is not None]
    assert all(f.find("details//table") is not None for f in figures)


def test_every_table_says_what_its_cells_are(root: Any) -> None:
    for table in root.iter("table"):
        assert text_of(table.find("caption"))
        assert all(th.get("scope") == "col" for th in table.find("thead/tr"))
        for row in table.find("tbody"):
            assert (row[0].tag, row[0].get("scope")) == ("th", "row")
            assert len(row) == len(table.find("thead/tr"))


def test_the_figures_are_there_for_machines(root: Any) -> None:
    full = sample.evaluation()
    assert embedded(root, "evaluation") == json.loads(json.dumps(full.to_json()))


def test_images_arrive_as_they_are() -> None:
    image = sample.drawn(3, side=28, channels=1)
    pictures = Pictures({"cat": [GalleryItem("cat-00000000", image)]})
    page = parse(render_report(sample.evaluation(("cat",)), pictures))
    shown = next(page.iter("img")).get("src")
    data = base64.b64decode(shown.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)))[..., None], image)


def test_the_policy_names_exactly_our_style_and_script(root: Any) -> None:
    head = root.find("head")
    policy = next(
        m.get("content") for m in head.iter("meta") if m.get("http-equiv", "").endswith("Policy")
    )
    style, script = head.find("style").text, root.findall("body/script")[-1].text
    digests = [
        base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        for source in (style, script)
    ]
    assert policy == (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'"
    )


def test_nothing_points_outside(root: Any) -> None:
    for element in root.iter():
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            address = element.get(name, "#")
            assert address.startswith(("#", "data:image/")), address
        assert not [name for name in element.attrib if str(name).startswith(("on", "style"))]
    style = root.find("head/style").text
    assert set(re.findall(r"url\(([^)]*)\)", style)) == {"#slash", "#dotted", "#upright", "#level"}
    assert "@import" not in style


def luminance(colour: str) -> float:
    """Relative luminance. Source: WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("scheme", [0, 1])
def test_every_ink_is_legible_on_every_ground(root: Any, scheme: int) -> None:
    """AA: 4.5 to 1. Also inside the charts, where axe does not look."""
    blocks = re.findall(r":root \{(.*?)\}", root.find("head/style").text, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for ink in ("ink", "muted", "main", "good", "bad", "warn"):
        for ground in ("page", "card", f"{ink}-page"):
            if ground in colours:
                a, b = sorted(luminance(colours[each]) for each in (ink, ground))
                assert (b + 0.05) / (a + 0.05) >= 4.5, (ink, ground)


def test_hostile_names_stay_text() -> None:
    page = render_report(
        sample.evaluation(sample.HOSTILE, num_images=100),
        sample.pictures(sample.HOSTILE, per_class=2),
    )
    root = parse(page)
    assert [e.tag for e in root.iter("script")] == ["script"] * 3
    assert "<script>alert(1)</script>" in text_of(by_id(root, "verdict"))
    assert embedded(root, "evaluation")["subject"]["counts"]["__proto__"] == 10
    assert "\u202e" not in page
    keys = embedded(root, "marked")["keys"]
    assert set(keys) == {f"{c}-{i:08d}" for c in sample.HOSTILE for i in range(2)}


@pytest.mark.parametrize(
    ("num_classes", "side", "channels", "per_class"), [(10, 28, 1, 1000), (100, 256, 3, 12)]
)
def test_a_large_data_set_stays_below_the_limit(
    num_classes: int, side: int, channels: int, per_class: int
) -> None:
    """Noise, which no codec can shrink. Every class is seen."""
    names = [f"class {i}" for i in range(num_classes)]
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (16, side, side, channels), dtype=np.uint8)
    gallery = {
        c: [GalleryItem(f"{c}-{i:08d}", noise[(i + j) % 16], "train") for i in range(per_class)]
        for j, c in enumerate(names)
    }
    pairs = sample.pictures(side=side, channels=channels, per_class=0, num_pairs=40).pairs
    page = render_report(
        sample.evaluation(names, num_images=num_classes * 1000), Pictures(gallery, pairs)
    )
    assert len(page.encode()) < MAX_BYTES
    keys = keys_of(page)
    assert len(keys) >= min(num_classes * 2, 10 * MAX_PER_CLASS)
    assert {key.rpartition("-")[0] for key in keys} == set(names)


def test_any_number_of_classes_and_findings_stays_below_the_limit() -> None:
    """2,500 classes of names longer than they may be, everything flagged."""
    names = [f"{i:05d} " + "<&>" * 100 for i in range(2500)]
    full = sample.evaluation(names)
    copies = tuple(NearCopy(f"{i} {'x' * 200}", names[i], "y" * 200, "", 0.9) for i in range(2500))
    many = replace(full, privacy=replace(full.privacy, near_copies=copies))
    tiny = np.zeros((8, 8, 1), np.uint8)
    page = render_report(many, Pictures({c: [GalleryItem(c, tiny)] for c in names[:1500]}))
    assert len(page.encode()) < MAX_BYTES
    content = re.search(r'id="evaluation">(.*?)</script>', page)
    assert content
    figures = json.loads(content[1])
    assert figures["utility"]["verdict"] == "helps"
    assert any(re.match(r"near_copies.items: \d+ of 2500", cut) for cut in figures["shortened"])


texts = st.text(max_size=40) | st.sampled_from(sample.HOSTILE)
figures = st.floats(-1e12, 1e12) | st.floats(-1, 1) | st.sampled_from([0.0, 1.0, 1e-9, 0.9999])
ends = st.none() | st.floats(allow_nan=False)
sizes = st.integers(0, 10**9)
inner = st.one_of(
    st.builds(Measure.absent, texts, n=sizes),
    st.builds(
        Measure, value=figures, n=sizes, low=ends, high=ends, floor=st.none() | figures, note=texts
    ),
)
measures = st.builds(
    lambda measure, per_class: replace(measure, per_class=per_class),
    inner,
    st.dictionaries(texts, inner, max_size=2),
)
verdicts = st.sampled_from(["helps", "no_difference", "harms", "inconclusive"])
scores = st.lists(st.floats(), max_size=5).map(tuple)
fidelities = st.builds(Fidelity, texts, *[measures] * len(Fidelity.NAMES))
agreements = st.builds(
    LabelAgreement,
    measures,
    measures,
    st.lists(st.builds(Suspect, texts, texts, texts, figures), max_size=2).map(tuple),
)
utilities = st.builds(
    Utility,
    verdict=st.none() | verdicts,
    withheld=st.none() | texts,
    gap=measures,
    worth_real_labels=inner,
    margin=st.floats(0, 1),
    sentence=texts,
    arms=st.lists(
        st.builds(Arm, texts, sizes, st.dictionaries(texts, inner, max_size=2)), max_size=2
    ).map(tuple),
    class_gaps=st.dictionaries(texts, inner, max_size=2),
    class_verdicts=st.dictionaries(texts, verdicts, max_size=2),
    rarest=st.none() | inner,
    few_shot=st.dictionaries(st.integers(1, 1000), inner, max_size=2),
    learning_curve=st.lists(st.builds(CurvePoint, sizes, inner), max_size=4).map(tuple),
    added_worth=st.none() | inner,
)
privacies = st.builds(
    Privacy,
    near_copies=st.lists(
        st.builds(NearCopy, texts, texts, texts, texts, st.floats(), texts), max_size=2
    ).map(tuple),
    rate=measures,
    false_positive_rate=inner,
    excess=inner,
    threshold=st.floats(),
    controls=st.lists(st.builds(Control, texts, sizes, figures), max_size=2).map(tuple),
    is_blind=st.booleans(),
    membership=inner,
    synthetic_scores=scores,
    held_out_scores=scores,
    sentence=texts,
)
fairnesses = st.builds(
    AttributeFairness,
    texts,
    st.dictionaries(texts, st.dictionaries(texts, inner, max_size=2), max_size=2),
    inner,
    texts,
)
funnels = st.builds(
    Funnel,
    st.dictionaries(
        texts,
        st.dictionaries(st.sampled_from(["attempts", "kept"]) | texts, sizes, max_size=4),
        max_size=3,
    ),
)
evaluations = st.builds(
    Evaluation,
    subject=st.builds(
        lambda name, counts, facts, lines: replace(
            sample.evaluation().subject,
            name=name, counts=counts, provenance=facts, notes=lines, limits=lines,
        ),
        texts,
        st.dictionaries(texts, sizes, max_size=3),
        st.dictionaries(texts, texts, max_size=2),
        st.lists(texts, max_size=2).map(tuple),
    ),
    headline=texts,
    fidelity=fidelities,
    label_agreement=agreements,
    utility=utilities,
    privacy=privacies,
    fairness=st.lists(fairnesses, max_size=2).map(tuple),
    funnel=st.none() | funnels,
    seconds=st.dictionaries(texts, st.floats(0, 1e6), max_size=2),
)  # fmt: skip


def test_scores_without_a_threshold_are_drawn() -> None:
    full = sample.evaluation()
    unknown = replace(full, privacy=replace(full.privacy, threshold=float("nan")))
    section = by_id(parse(render_report(unknown, Pictures({}))), "privacy")
    drawn = [" ".join(map(str, line.attrib.values())) for line in section.iter("line")]
    assert drawn
    assert not any("nan" in each for each in drawn)


SHAPES = {"circle", "line", "path", "rect"}


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(evaluation=evaluations, key=texts)
def test_any_evaluation_becomes_a_page_that_parses(evaluation: Evaluation, key: str) -> None:
    item = GalleryItem(key, np.zeros((4, 4, 3), np.uint8), split=key, suspicion=key)
    root = parse(render_report(evaluation, Pictures({key: [item]})))
    assert len(list(root.iter("section"))) == 11
    assert embedded(root, "marked")["keys"] == [key]
    assert embedded(root, "evaluation")["format"] == 1
    for shape in root.iter():
        assert shape.tag not in SHAPES or not re.search(
            "nan|inf", " ".join(map(str, shape.attrib.values()))
        )
