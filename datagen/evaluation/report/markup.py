"""HTML and SVG from Python: text is escaped unless it is Markup. Called by the rest of report/."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html import escape

# Void elements of HTML have no end tag; SVG shapes without content close themselves.
_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_SHAPES = frozenset({"circle", "line", "path", "rect"})

# What no HTML text may hold (control characters, halves of surrogate pairs, noncharacters), and
# the marks that turn the direction of the text after them, so that a name could rewrite a sentence.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | end) for plane in range(1, 17) for end in (0xFFFE, 0xFFFF))
    + "]"
)
MAX_TEXT = 300


class Markup(str):
    """HTML that is ready: never escaped again. Only this module makes it."""

    __slots__ = ()


Child = str | None


def clean(text: str, *, limit: int = MAX_TEXT) -> str:
    """Without what is unfit for HTML, at most `limit` characters."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return _UNFIT.sub("\ufffd", short.replace("\r", " "))


def tag(name: str, attributes: Mapping[str, str | None] | None = None, *children: Child) -> Markup:
    """<name attributes>children</name>. An attribute of None, and a child of None, is left out."""
    given = (attributes or {}).items()
    pairs = [f' {key}="{_escaped(value)}"' for key, value in given if value is not None]
    start = f"<{name}{''.join(pairs)}"
    if name in _VOID:
        return Markup(f"{start}>")
    if name in _SHAPES and not children:
        return Markup(f"{start}/>")
    return Markup(f"{start}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    return Markup("".join(_escaped(child) for child in children if child is not None))


def ready(source: str) -> Markup:
    """Our own style, script and JSON, which must not be escaped."""
    return Markup(source)


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else escape(clean(text, limit=4000))
