"""When to send a request again, and when to give up. Called by both senders."""

from __future__ import annotations

import random
from collections.abc import Mapping

from datagen.client.problems import DAMAGED, QUOTA, error_of, kind_of, unreachable

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
LONGEST_RETRY_AFTER_S = 120.0

# 502 and 504 come from proxies before a service that restarts.
_PASSING = (502, 503, 504)
_TOO_MANY = 429
_CONFLICT = 409
_LASTING = (QUOTA, DAMAGED)


class Patience:
    """The retries of one request. is_repeatable: sending it twice does what sending it once does.

    has_key: an Idempotency-Key. Then a 409 means that an earlier try, whose answer was lost, is
    still being answered.

    Each method returns the seconds to wait before the next try, or raises what the request comes
    to. A used-up quota or a damaged object is an answer, not a passing fault.
    """

    def __init__(
        self, *, is_repeatable: bool, max_retries: int, url: str, has_key: bool = False
    ) -> None:
        self._left = max_retries if is_repeatable else 0
        self._max_retries = max_retries
        self._pause_s = FIRST_PAUSE_S
        self._url = url
        self._passing = (*_PASSING, _CONFLICT) if has_key else _PASSING

    def refresh(self) -> None:
        """Something came through: the next failure is the first again."""
        self._left = self._max_retries
        self._pause_s = FIRST_PAUSE_S

    def after_failure(self, error: Exception) -> float:
        if self._left == 0:
            raise unreachable(self._url, error) from error
        return self._next_pause_s()

    def after_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> float:
        """status: no success."""
        retry_after_s = _retry_after_s(headers)
        is_passing = status in (*self._passing, _TOO_MANY) and kind_of(body) not in _LASTING
        too_long = retry_after_s is not None and retry_after_s > LONGEST_RETRY_AFTER_S
        if not is_passing or too_long or self._left == 0:
            raise error_of(status, body, url=self._url)
        pause_s = self._next_pause_s()
        if retry_after_s is None or (status == _CONFLICT and self._left > 0):
            return pause_s  # the other try is answered long before its lock ends, as a rule
        return retry_after_s

    def _next_pause_s(self) -> float:
        """Doubling, and spread, so that many clients do not come back at once."""
        self._left -= 1
        pause_s = self._pause_s * random.uniform(0.5, 1.0)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return pause_s


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds; the form with a date is not used by this service."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() and len(text) < 10 else None
