"""YAML or JSON bytes to plain values and the line of each: bounded, and nothing is ever guessed.

Called by recipe.py; whoever reads the file of another schema calls load_bytes. Input is hostile: it
is bounded before it is read, and only ever becomes plain values or a RecipeError.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from datagen.errors import RecipeError
from datagen.faults import MAX_PROBLEMS, InvalidRecipe, Problem, member, show

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # 10,000 classes with five attributes each are 90,000
MAX_DEPTH = 16

# Scalars are read as YAML 1.2 and JSON read them. What YAML 1.1 takes for a truth value or for
# another number is refused, not guessed: NO may be Norway, 010 may be 8.
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_DISPUTED_BOOL = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_DISPUTED_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+"
    r"|[0-9]+_[0-9_]*(\.[0-9_]*)?|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)"
)
_UNREADABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_SURROGATE_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


def load_bytes(path: Path) -> bytes:
    """Raises RecipeError; never waits for a pipe and never reads more than MAX_BYTES + 1."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RecipeError(f"{path}: not a plain file; give the path of a YAML or JSON file")
        check_size(status.st_size, str(path))
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"{str(path)!r}: cannot be read ({reason}); give the path of a YAML or JSON file"
        ) from None


def check_size(size_bytes: int, source: str) -> None:
    if size_bytes > MAX_BYTES:
        size = f"{size_bytes} bytes"
        problem = Problem("", size, f"at most {MAX_BYTES} bytes", text=size)
        raise InvalidRecipe([problem], source=source)


class Reader:
    """YAML events to plain values: bounded, without anchors, tags or objects.

    lines: the line of each field. texts: the spelling of scalars that are not read as text.
    """

    def __init__(self, source: str) -> None:
        self.lines: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._source = source
        self._num_nodes = 0
        self._last_line = 0  # what is missing at the end, libyaml puts a line below it

    def read(self, text: bytes) -> Any:
        decoded = self._decode(text)
        self._last_line = len(_LINE_END.findall(decoded.rstrip()))
        # libyaml scans 1 MB in a fraction of a second, the Python scanner in ten.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(decoded)
        try:
            loader.get_event()  # the stream's start
            if isinstance(loader.get_event(), yaml.StreamEndEvent):
                return None
            value = self._build(loader, loader.get_event(), "", 0)
            loader.get_event()  # the document's end
            after = loader.get_event()
            if not isinstance(after, yaml.StreamEndEvent):
                self._fail(after.start_mark.line, "a second document", "one document in the file")
            return value
        except yaml.YAMLError as error:
            self._fail_syntax(decoded, error)
        finally:
            loader.dispose()

    def refusal(self, more: Iterable[Problem], *, num_hidden: int = 0) -> InvalidRecipe:
        """All problems by line. At each field the first one stands: others follow from it."""
        by_field: dict[str, Problem] = {}
        for problem in [*self.problems, *more]:
            by_field.setdefault(problem.field, problem)
        ranked = sorted(by_field.values(), key=lambda problem: problem.line or 0)
        return InvalidRecipe(
            ranked[:MAX_PROBLEMS], source=self._source, num_problems=len(ranked) + num_hidden
        )

    def _decode(self, text: bytes) -> str:
        try:
            decoded = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start)
            self._fail(line, f"byte 0x{error.object[error.start]:02x}", "UTF-8 text")
        odd = _UNREADABLE.search(decoded)
        if odd:
            line = decoded.count("\n", 0, odd.start())
            self._fail(line, show(odd[0]), "text without control characters")
        return _SURROGATE_PAIR.sub(_join_surrogates, decoded)

    def _fail_syntax(self, text: str, error: yaml.YAMLError) -> NoReturn:
        """The scanner notices late: where it began to look is said as well."""
        mark, start = (getattr(error, f"{m}_mark", None) for m in ("problem", "context"))
        line = min(mark.line if mark else 0, self._last_line)
        near = _LINE_END.split(text, line + 1)[line]
        reason = getattr(error, "problem", None) or "a character cannot be read"
        if start and start.line < line:
            reason += f", {getattr(error, 'context', '')} that begins in line {start.line + 1}"
        if near.lstrip(" ").startswith("\t"):
            reason = "a tab indents this line, where only spaces may"
        self._fail(line, show(near), f"valid YAML or JSON; {reason}")

    def _fail(self, line: int, found: str, expected: str) -> NoReturn:
        raise self.refusal([Problem("", found, expected, line + 1, found)]) from None

    def _note(
        self, field: str, line: int, value: Any, expected: str, *, text: str | None = None
    ) -> None:
        self.problems.append(Problem(field, value, expected, line + 1, text))

    def _build(self, loader: Any, event: Any, field: str, depth: int) -> Any:
        line = min(event.start_mark.line, self._last_line)
        self.lines.setdefault(field, line + 1)
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            self._fail(line, "more values", f"at most {MAX_NODES} values in the file")
        if depth > MAX_DEPTH:
            self._fail(line, "deeper nesting", f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            alias = f"*{event.anchor}"
            self._note(field, line, alias, "the value itself: aliases are refused", text=alias)
            return None
        if event.anchor is not None:
            anchor = f"&{event.anchor}"
            self._note(field, line, anchor, "no anchor: anchors are refused", text=anchor)
        if event.tag is not None:
            self._note(field, line, event.tag, "no tag: tags are refused; quotes make text")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(loader, field, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loader, field, depth)
        return self._scalar(event.value, field, line) if event.implicit[0] else event.value

    def _sequence(self, loader: Any, field: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._build(loader, event, member(field, len(items)), depth + 1))
        return items

    def _mapping(self, loader: Any, field: str, depth: int) -> dict[str, Any]:
        """Keys are text as the file spells it, whatever type they would have as values."""
        values: dict[str, Any] = {}
        while not isinstance(event := loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                self._fail(line, "a key that is not plain text", "the name of a field before ':'")
            name = member(field, event.value)
            first = self.lines.setdefault(name, line + 1)
            value = self._build(loader, loader.get_event(), name, depth + 1)
            if event.value in values:
                self._note(name, line, value, f"this field once; line {first} has it already")
            values.setdefault(event.value, value)
        return values

    def _scalar(self, text: str, field: str, line: int) -> Any:
        """A scalar without quotes. None stands in for a refused one."""
        value: Any
        if text in _NULL:
            value = None
            if not text:
                return None
        elif text in _BOOL:
            value = _BOOL[text]
        elif _DISPUTED_BOOL.fullmatch(text):
            taken = text.lower() in ("yes", "on")
            expected = (
                f"'{text}' in quotes, or true or false: YAML readers disagree on the bare word"
            )
            self._note(field, line, taken, expected, text=text)
            return None
        elif _INT.fullmatch(text):
            value = int(text)
        elif _DISPUTED_NUMBER.fullmatch(text):
            expected = (
                "a plain decimal number, or text in quotes: YAML readers disagree on this one"
            )
            self._note(field, line, text, expected, text=text)
            return None
        elif _FLOAT.fullmatch(text):
            value = float(text)
        elif special := _NOT_FINITE.fullmatch(text):
            value = float(special[1] + special[2])
        else:
            return text
        self.texts[field] = text
        return value


def _join_surrogates(match: re.Match[str]) -> str:
    r"""JSON writes what lies above U+FFFF as two \u escapes; YAML knows \U alone."""
    high, low = int(match[2], 16), int(match[3], 16)
    return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"
