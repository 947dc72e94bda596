"""On PYTHONPATH, this makes a process whose host's clock is SKEW_S seconds off: the clock that
Python shows, and the one that S3 requests are signed with. The mark says that it did.

Started by test_workers.py.
"""

import datetime
import os
import time
from pathlib import Path

import botocore.compat

_SKEW_S = float(os.environ["SKEW_S"])
_right, _right_ns, _right_date = time.time, time.time_ns, botocore.compat.get_current_datetime


def _date(remove_tzinfo: bool = True) -> datetime.datetime:
    right: datetime.datetime = _right_date(remove_tzinfo)
    return right + datetime.timedelta(seconds=_SKEW_S)


time.time = lambda: _right() + _SKEW_S
time.time_ns = lambda: _right_ns() + int(_SKEW_S * 1e9)
botocore.compat.get_current_datetime = _date
_marks = Path(os.environ["SKEW_MARKS"])
_marks.mkdir(parents=True, exist_ok=True)
(_marks / f"skewed.{os.getpid()}").touch()
