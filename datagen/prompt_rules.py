"""Which prompts a deployment refuses: words that none may have, and the names of real people.

Called by deployment_rules.py. Rules of words stop mistakes and plain misuse; whoever wants to get
around them can, so images are moderated as well (filters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from datagen.person_names import GIVEN_NAMES, PUBLIC_FIGURES
from datagen.prompt_vocabulary import (
    ALWAYS,
    EPONYMS,
    HARMLESS,
    MINORS,
    NO_SURNAMES,
    PARTICLES,
    SAINTS,
    SEXUAL,
)
from datagen.prompt_words import Found, Phrases, cased_words, readings, undisguised, words_of
from datagen.recipe import load_bytes, parse_as

_Words = tuple[str, ...]

_OLD = r"(?:years?|yrs?|months?|mos?|weeks?|days?)"
_YOUNG = (
    "0?[0-9]|1[0-7]|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
    "fourteen|fifteen|sixteen|seventeen"
)
_AGE = re.compile(
    rf"(?<![^ ])(?:{_YOUNG}) ?(?:{_OLD} ?(?:old|of age)|y ?o|yo)(?![^ ])|"
    rf"(?<![^ ])(?:aged?|age of) (?:{_YOUNG})(?![^ ])"
)


# --- the rules ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PromptRules:
    """blocklist: words and phrases that no prompt may have, 'word*' for all that begin so, beside
    those that are always refused. allowlist: phrases that blocklist and names do not apply to.
    allowed_names: of people who agreed. refuses_names: whether real people's names are refused."""

    blocklist: _Words = ()
    allowlist: _Words = ()
    allowed_names: _Words = ()
    refuses_names: bool = True

    def fault(self, text: str) -> str | None:
        """What is wrong with a prompt, with the rule and the words; None if nothing is."""
        plain = undisguised(text)
        for words in readings(plain):
            fault = self._fault_of(words)
            if fault is not None:
                return fault
        return self._unknown_person(plain) if self.refuses_names else None

    def _fault_of(self, words: _Words) -> str | None:
        harmless = [*_FIXED.harmless.find(words)]
        for found in _outside(_FIXED.always.find(words), harmless):
            return f"no '{found.phrase}' (always refused)"
        minor = next(_outside(_minors(words), harmless), None)
        sexual = next(_outside(_FIXED.sexual.find(words), harmless), None)
        if minor is not None and sexual is not None:
            return f"no '{sexual.phrase}' beside '{minor.phrase}' (always refused)"
        allowed = [*harmless, *self._allowed.find(words)]
        for found in _outside(self._blocked.find(words), allowed):
            return f"no '{found.phrase}' (blocklist of this deployment)"
        if self.refuses_names:
            for found in _outside(_FIXED.figures.find(words), allowed):
                return _named(found.phrase)
        return None

    def _unknown_person(self, plain: str) -> str | None:
        """A given name and a capitalised word after it that may be a surname."""
        for run in cased_words(plain):
            words = tuple(word.casefold().replace("'", "") for word in run)
            parts = tuple(part for word in words for part in words_of(word))
            allowed = [*_FIXED.harmless.find(parts), *self._allowed.find(parts)]
            for index, word in enumerate(run):
                last = _surname(run, words, index)
                if last is None:
                    continue
                start = sum(len(words_of(each)) for each in words[:index])
                end = sum(len(words_of(each)) for each in words[: last + 1])
                if any(_outside(iter([Found(start, end, word)]), allowed)):
                    return _named(" ".join(run[index : last + 1]))
        return None

    @cached_property
    def _blocked(self) -> Phrases:
        return Phrases(self.blocklist)

    @cached_property
    def _allowed(self) -> Phrases:
        return Phrases((*self.allowlist, *self.allowed_names))


class _Fixed:
    """The built-in phrases, in the form in which they are looked for."""

    def __init__(self) -> None:
        pairs = ((a, b) for a in MINORS for b in SEXUAL if " " not in b)
        run_together = (text for a, b in pairs for text in (a + b.rstrip("*"), b.rstrip("*") + a))
        self.always = Phrases((*ALWAYS, *run_together))
        self.minors = Phrases(MINORS)
        self.sexual = Phrases(SEXUAL)
        self.harmless = Phrases(HARMLESS)
        turned = (
            f"{name.split()[1]} {name.split()[0]}" for name in PUBLIC_FIGURES if _is_pair(name)
        )
        self.figures = Phrases((*PUBLIC_FIGURES, *turned))


def _is_pair(name: str) -> bool:
    return len(name.split()) == 2


_FIXED = _Fixed()


def _minors(words: _Words) -> Iterator[Found]:
    yield from _FIXED.minors.find(words)
    age = _AGE.search(" ".join(words))
    if age is not None:
        yield Found(-1, -1, age[0])


def _outside(found: Iterator[Found], allowed: list[Found]) -> Iterator[Found]:
    """Those that do not touch a phrase that is allowed."""
    for each in found:
        if not any(each.start < other.end and other.start < each.end for other in allowed):
            yield each


def _surname(run: list[str], words: _Words, index: int) -> int | None:
    """Where the surname is that follows the given name at the index; None if there is none."""
    if not _is_given(run[index], words[index]) or (index and words[index - 1] in SAINTS):
        return None
    last = index + 1
    while last < len(run) and (
        words[last] in PARTICLES or len(run[last]) == 1 or _is_given(run[last], words[last])
    ):
        last += 1
    if last == len(run) or not run[last][0].isupper() or words[last] in NO_SURNAMES:
        # Two given names, and nothing after them, are a name too: Maria Helena.
        last -= 1
        return last if last > index and _is_given(run[last], words[last]) else None
    after = words[last + 1 : last + 3]
    return None if any(word in EPONYMS for word in after) else last


def _is_given(word: str, folded: str) -> bool:
    """Short words in capitals are abbreviations: SAM, TIM."""
    if not word[0].isupper() or (len(word) <= 3 and word.isupper()):
        return False
    return all(part in GIVEN_NAMES for part in folded.split("-"))


def _named(name: str) -> str:
    return (
        f"no name of a real person: '{name}' (real_names; the rules of this deployment may list it "
        "under allowed_names)"
    )


# --- the file -------------------------------------------------------------------------------------

_Phrase = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\S")]
_Phrases = Annotated[tuple[_Phrase, ...], Field(max_length=10_000)]


class _RulesFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    blocklist: _Phrases = Field(
        default=(), description="a list of words and phrases, like [gore, weapon*]"
    )
    allowlist: _Phrases = Field(
        default=(), description="a list of phrases that blocklist and names do not apply to"
    )
    allowed_names: _Phrases = Field(
        default=(), description="a list of names of people who agreed, like [Maria Schneider]"
    )
    refuse_real_names: bool = Field(default=True, strict=True, description="true or false")


def load_prompt_rules(path: Path) -> PromptRules:
    """The rules of a YAML file, beside the built-in ones. Raises RecipeError with file and line."""
    rules, _ = parse_as(_RulesFile, load_bytes(path), source=str(path))
    return PromptRules(
        rules.blocklist, rules.allowlist, rules.allowed_names, rules.refuse_real_names
    )
