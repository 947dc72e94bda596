"""Prompts as rules read them: disguises taken off, then words. Called by prompt_rules.py.

What a reader takes for the same word is to be the same word: other scripts' lookalike letters,
accents, digits for letters, invisible characters, marks between letters, letters spaced out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

# Letters and what they look like: Cyrillic, Greek, Latin ones with a bar, and small capitals.
_PAIRS = (
    "аa вb еe кk мm нh оo рp сc тt уy хx іi јj ѕs ԁd ԛq ԝw ѵv гr пn ьb "
    "АA ВB ЕE КK МM НH ОO РP СC ТT УY ХX ІI ЈJ ЅS "
    "αa βb εe ηn ιi κk νv οo ρp τt υu χx ωw γy ςc "
    "ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX "
    "ıi øo łl đd ħh ŧt ɑa ɡg ɩi ʟl ɪi ɴn ʀr ʏy ʙb ɢg ʜh ØO ŁL ĐD "
    "ᴀa ᴄc ᴅd ᴇe ᴊj ᴋk ᴍm ᴏo ᴘp ꜱs ᴛt ᴜu ᴠv ᴡw ᴢz"
)
_LOOKALIKES = str.maketrans({pair[0]: pair[1] for pair in _PAIRS.split()})
# Letters in boxes and discs, and those that flags are made of: each row runs from A to Z.
_ROWS = (0x1F150, 0x1F170, 0x1F1E6)
_BOXED = {row + i: chr(ord("A") + i) for row in _ROWS for i in range(26)}
_DIGITS = "013457@$!|"
_DIGITS_AS = ("oieastasii", "oleastasil")

_WORD = re.compile(r"[^\W_]+")
_CASED_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")
_LONG_RUN = re.compile(r"(.)\1{2,}")
# Three or more letters on their own, whatever stands between them; more of it parts two words.
_SPACED_OUT = re.compile(r"(?<![^\W_])[^\W\d_](?:[\W_][^\W\d_]){2,}(?![^\W_])")
_CHUNK = re.compile(r"\S+")
_LETTER = re.compile(r"[^\W\d_]")


def undisguised(text: str) -> str:
    """Latin letters without accents where there are any like it, in their case."""
    if text.isascii():
        return "".join(filter(str.isprintable, text))
    text = unicodedata.normalize("NFKC", text).translate(_BOXED)
    text = unicodedata.normalize("NFD", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Mn", "Me", "Cc"))
    return re.sub("[\u2018\u2019`\u02bc\u00b4]", "'", text.translate(_LOOKALIKES))


def readings(text: str) -> list[tuple[str, ...]]:
    """The words of an undisguised text, lower-case, in each way that it may be read."""
    folded = text.casefold().replace("'", "")
    spelled = {folded: None}
    if any(c in folded for c in _DIGITS):
        for letters in _DIGITS_AS:
            spelled[_CHUNK.sub(partial(_with_letters, letters), folded)] = None
    for each in list(spelled):
        if _LONG_RUN.search(each):
            spelled[_LONG_RUN.sub(r"\1", each)] = None
            spelled[_LONG_RUN.sub(r"\1\1", each)] = None
    found: dict[tuple[str, ...], None] = {}
    for each in spelled:
        words = tuple(_WORD.findall(each))
        found[words] = None
        found[tuple("".join(_WORD.findall(chunk)) for chunk in each.split())] = None
        found[tuple(_WORD.findall(_SPACED_OUT.sub(_close_up, each)))] = None
    return list(found)


def _with_letters(letters: str, chunk: re.Match[str]) -> str:
    """Digits and marks as letters, unless there is no letter beside them: 12 stays 12."""
    if not _LETTER.search(chunk[0]):
        return chunk[0]
    return chunk[0].translate(str.maketrans(_DIGITS, letters))


def _close_up(match: re.Match[str]) -> str:
    return "".join(_WORD.findall(match[0]))


def cased_words(text: str) -> list[list[str]]:
    """Runs of words of an undisguised text, with nothing but spaces and points between them."""
    runs: list[list[str]] = []
    end = 0
    for match in _CASED_WORD.finditer(text):
        gap = text[end : match.start()]
        ends_sentence = "." in gap and runs and len(runs[-1][-1]) > 2
        if not runs or gap.strip(" .") or ends_sentence:
            runs.append([])
        runs[-1].append(match[0])
        end = match.end()
    return runs


class Found(NamedTuple):
    """words[start:end] is the phrase."""

    start: int
    end: int
    phrase: str


class Phrases:
    """Phrases to be found in words: whole words, or their beginning where a phrase ends in '*'."""

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        self._beginnings: tuple[str, ...] = ()
        for phrase in phrases:
            words = words_of(phrase)
            if not words:
                continue
            if phrase.endswith("*") and len(words) == 1:
                self._beginnings += (words[0],)
            else:
                self._by_first.setdefault(words[0], []).append(words)
        self._compact = {"".join(w): " ".join(w) for each in self._by_first.values() for w in each}

    def find(self, words: tuple[str, ...]) -> Iterator[Found]:
        for start, word in enumerate(words):
            for phrase in self._by_first.get(word, ()):
                if words[start : start + len(phrase)] == phrase:
                    yield Found(start, start + len(phrase), " ".join(phrase))
            if self._beginnings and word.startswith(self._beginnings):
                yield Found(start, start + 1, word)
            elif word in self._compact:  # a phrase without its spaces
                yield Found(start, start + 1, self._compact[word])


@lru_cache(maxsize=4096)
def words_of(phrase: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(undisguised(phrase).casefold().replace("'", "")))
