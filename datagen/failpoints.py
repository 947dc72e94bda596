"""Named places where a fault can be injected, so that tests can show what the engine survives.

Called by engine and stages; armed by worker processes from settings. Unarmed, a call costs a look
into an empty dict. Each firing leaves a file in the folder, which also counts it over processes.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from datagen.errors import CatalogUnavailableError, InputError

_RULE = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>kill|segv|stop|sleep|error|memory|unavailable)"
    r"(?::(?P<argument>[^*;]+))?(?:\*(?P<times>[0-9]{1,6}))?"
)
# Processes that may have armed a rule share its count through files; this bounds their number.
_MAX_FIRINGS = 1_000_000


@dataclass(frozen=True)
class _Rule:
    action: str
    argument: str
    times: int
    folder: Path | None


_armed: dict[str, _Rule] = {}


def arm(text: str, folder: Path | None) -> None:
    """text: NAME=ACTION[:ARGUMENT][*TIMES], several separated by ";". Replaces what was armed.

    kill, segv, stop: the signal, to this process. sleep:SECONDS. error:TEXT raises RuntimeError.
    memory raises MemoryError. unavailable raises CatalogUnavailableError. Raises InputError.
    """
    rules = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        match = _RULE.fullmatch(part)
        if match is None:
            raise InputError(
                f"DATAGEN_FAILPOINTS {part!r}: expected NAME=ACTION, such as "
                "generate.before_commit=kill*1 or generate.batch=sleep:1"
            )
        times = int(match["times"] or _MAX_FIRINGS)
        rules[match["name"]] = _Rule(match["action"], match["argument"] or "", times, folder)
    _armed.clear()
    _armed.update(rules)


def failpoint(name: str) -> None:
    rule = _armed.get(name)
    if rule is not None and _counts(rule, name):
        _act(rule, name)


def _counts(rule: _Rule, name: str) -> bool:
    """Whether this firing is one of the rule's times; leaves its file."""
    if rule.folder is None:
        return True
    rule.folder.mkdir(parents=True, exist_ok=True)
    for number in range(rule.times):
        try:
            os.close(os.open(rule.folder / f"{name}.{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def _act(rule: _Rule, name: str) -> None:
    signals = {"kill": signal.SIGKILL, "segv": signal.SIGSEGV, "stop": signal.SIGSTOP}
    if rule.action in signals:
        os.kill(os.getpid(), signals[rule.action])
    elif rule.action == "sleep":
        time.sleep(float(rule.argument))
    elif rule.action == "memory":
        raise MemoryError(f"failpoint {name}")
    elif rule.action == "unavailable":
        raise CatalogUnavailableError(f"failpoint {name}: the reply was lost")
    else:
        raise RuntimeError(rule.argument or f"failpoint {name}")
