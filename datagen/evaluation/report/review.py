"""The tools to mark images with: what script.js fills with life. Called by gallery.py."""

from __future__ import annotations

from datagen.evaluation.report.markup import Markup, tag


def _key(letter: str) -> Markup:
    return tag("kbd", None, letter)


def _choice(value: str, label: str, *, is_chosen: bool = False) -> Markup:
    attributes = {"type": "radio", "name": "brush", "value": value}
    box = tag("input", {**attributes, "checked": "" if is_chosen else None})
    return tag("label", None, box, " ", label)


_BRUSHES = tag(
    "fieldset",
    None,
    tag("legend", None, "A click marks as"),
    _choice("drop", "drop", is_chosen=True),
    _choice("wrong_label", "wrong label"),
    _choice("keep", "keep"),
    _choice("", "nothing"),
)


def _button(id_: str, label: str) -> Markup:
    return tag("button", {"type": "button", "id": id_}, label)


# Hidden until script.js runs: without it nothing here would work.
TOOLBAR = tag(
    "div",
    {"id": "review", "class": "toolbar", "hidden": "", "role": "group", "aria-label": "Review"},
    _BRUSHES,
    tag("p", {"id": "tally", "class": "tally"}),
    tag(
        "div",
        {"class": "buttons"},
        _button("save-marks", "Download marks.json"),
        _button("load-marks", "Load marks…"),
        _button("clear-marks", "Clear all"),
        _button("show-keys", "Keys (?)"),
        tag(
            "input",
            {
                "type": "file",
                "id": "marks-file",
                "accept": ".json,application/json",
                "aria-label": "A marks.json file",
                "hidden": "",
            },
        ),
    ),
    tag("p", {"id": "current", "class": "muted", "role": "status"}),
    tag("p", {"id": "problem", "class": "notice bad", "role": "alert", "hidden": ""}),
)
HELP = tag(
    "dialog",
    {"id": "keys", "aria-labelledby": "keys-title"},
    tag("h3", {"id": "keys-title"}, "Keys, while an image is selected"),
    tag(
        "dl",
        None,
        *[
            tag("div", None, tag("dt", None, *map(_key, keys)), tag("dd", None, what))
            for keys, what in (
                ("←→↑↓", "the next image in that direction"),
                ("k", "keep"),
                ("d", "drop"),
                ("w", "wrong label"),
                ("u", "clear the mark"),
                ("?", "this help"),
            )
        ],
    ),
    _button("hide-keys", "Close"),
)
