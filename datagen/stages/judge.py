"""Judge: picks each sample's attempt, by a deterministic pass over scores in ordinal order.

The image of an ordinal is its first attempt that passes every filter; cross-sample filters look
backwards within the class only. A pass is repeated, from the start, after every round of new
attempts: it is a pure function of the scores, whatever order they came in.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from datagen.catalog.attempts import commit_judged, iterate_scores, replace_rejections
from datagen.catalog.rows import GENERATE, PACK, NewUnit, Unit
from datagen.errors import JobError
from datagen.failpoints import failpoint
from datagen.filters import FILTERS
from datagen.filters.interface import ClassJudge
from datagen.stages.job import JobWork

# At most this many attempts of one sample are made ahead, however rarely one passes.
MAX_AHEAD = 8


@dataclass
class ClassVerdict:
    """One class, judged with at most `cap` attempts a sample.

    absent: ordinal -> its first attempt that is allowed but not made, or not scored, yet.
    unfilled: ordinals none of whose allowed attempts passes. num_considered: attempts looked at.
    """

    cap: int
    rejections: list[tuple[int, int, str]] = field(default_factory=list)
    absent: dict[int, int] = field(default_factory=dict)
    unfilled: list[int] = field(default_factory=list)
    num_considered: int = 0


def judge(work: JobWork, unit: Unit, check_abort: Callable[[], None]) -> None:
    started = time.monotonic()
    refills: list[tuple[int, int, int]] = []
    shortfall: dict[str, list[int]] = {}
    for class_index, class_name in enumerate(work.plan.class_names):
        if not work.resolved.filters:
            break  # every first attempt passes
        check_abort()
        verdict = _judge_class(work, class_index)
        replace_rejections(work.catalog, unit, class_name, verdict.rejections)
        if verdict.absent:
            refills += _next_attempts(work, class_index, verdict)
        elif verdict.unfilled:
            _fail_unless_publishable(work, class_name, verdict)
            shortfall[class_name] = verdict.unfilled
    following = _refill_units(work, unit, refills) if refills else _pack_units(work, unit)
    failpoint("judge.before_commit")
    commit_judged(
        work.catalog,
        unit,
        next_stage=GENERATE if refills else PACK,
        next_units=following,
        shortfall=json.dumps(shortfall) if shortfall and not refills else None,
        seconds=time.monotonic() - started,
    )
    failpoint("judge.after_commit")


def _judge_class(work: JobWork, class_index: int) -> ClassVerdict:
    """The cap on attempts a sample rises until every sample has its image, an attempt is absent,
    or a limit is met: so a verdict depends on the scores alone, and not on which attempts happen
    to be in the cache. A pass that fills every sample is the same under every higher cap, and
    under the first one here no class can be past its budget: the lower caps need no pass.
    """
    limits = work.resolved.recipe.limits
    count = work.plan.counts[class_index]
    budget = math.floor(limits.max_attempts_per_class * count)
    cap = max(1, min(limits.max_attempts_per_sample, budget // count - 1))
    while True:
        verdict = _judge_under_cap(work, class_index, cap)
        if verdict.absent or not verdict.unfilled:
            return verdict
        over_budget = verdict.num_considered + len(verdict.unfilled) > budget
        if over_budget or cap >= limits.max_attempts_per_sample:
            return verdict
        cap += 1


def _judge_under_cap(work: JobWork, class_index: int, cap: int) -> ClassVerdict:
    resolved, class_name = work.resolved, work.plan.class_names[class_index]
    judges = {
        resolved.score_keys[name]: FILTERS[name].judge(
            options, class_name, resolved.reference_of(name)
        )
        for name, options in resolved.filters.items()
    }
    verdict = ClassVerdict(cap)
    rows = iterate_scores(
        work.catalog,
        work.job.context_id,
        class_name,
        num_ordinals=work.plan.counts[class_index],
    )
    for ordinal, attempts in groupby(rows, key=itemgetter(0)):
        made = {attempt: scores for _, attempt, scores in attempts}
        _judge_sample(verdict, judges, ordinal, made)
    return verdict


def _judge_sample(
    verdict: ClassVerdict, judges: dict[str, ClassJudge], ordinal: int, made: dict[int, str]
) -> None:
    """judges: by score key. made: attempt -> its scores.

    One that a filter has not scored, as another job of the context left it, is asked for like one
    not made: what is asked for is scored.
    """
    for attempt in range(verdict.cap):
        scores = json.loads(made.get(attempt, "{}"))
        if attempt not in made or not judges.keys() <= scores.keys():
            verdict.absent[ordinal] = attempt
            return
        verdict.num_considered += 1
        reason = _reason(judges, scores)
        if reason is None:
            for key, rule in judges.items():
                rule.accept(scores[key])
            return
        verdict.rejections.append((ordinal, attempt, reason))
    verdict.unfilled.append(ordinal)


def _reason(judges: dict[str, ClassJudge], scores: dict[str, float | str]) -> str | None:
    for key, rule in judges.items():
        reason = rule.reject(scores[key])
        if reason is not None:
            return reason
    return None


def _fail_unless_publishable(work: JobWork, class_name: str, verdict: ClassVerdict) -> None:
    limits = work.resolved.recipe.limits
    if limits.on_shortfall == "publish":
        return
    reasons: dict[str, int] = {}
    for _, _, reason in verdict.rejections:
        reasons[reason] = reasons.get(reason, 0) + 1
    told = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    missing = len(verdict.unfilled)
    raise JobError(
        f"class {class_name}: {missing} {'image is' if missing == 1 else 'images are'} missing "
        f"after {verdict.num_considered} attempts (rejected by {told}); relax the filter, raise "
        f"limits.max_attempts_per_class ({limits.max_attempts_per_class:g}) or "
        f"max_attempts_per_sample ({limits.max_attempts_per_sample}), or set on_shortfall: publish"
    )


def _next_attempts(
    work: JobWork, class_index: int, verdict: ClassVerdict
) -> Iterator[tuple[int, int, int]]:
    """(class index, ordinal, attempt) to make next: several at once where few pass. How many
    changes the number of rounds, never the result."""
    num_passed = work.plan.counts[class_index] - len(verdict.absent) - len(verdict.unfilled)
    per_image = verdict.num_considered / max(1, num_passed)
    ahead = max(1, min(MAX_AHEAD, round(per_image)))
    for ordinal, first in verdict.absent.items():
        for attempt in range(first, min(first + ahead, verdict.cap)):
            yield class_index, ordinal, attempt


def _refill_units(
    work: JobWork, unit: Unit, refills: list[tuple[int, int, int]]
) -> Iterator[NewUnit]:
    size = work.plan.unit_size
    for position, first in enumerate(range(0, len(refills), size)):
        payload = json.dumps(refills[first : first + size], separators=(",", ":"))
        yield NewUnit(GENERATE, unit.round + 1, position, payload)


def _pack_units(work: JobWork, unit: Unit) -> Iterator[NewUnit]:
    for position in range(work.plan.num_shards):
        yield NewUnit(PACK, unit.round, position, None)
