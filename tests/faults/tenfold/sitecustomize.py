"""On PYTHONPATH, this makes a process send every message to a worker ten times. One byte for each
goes into TENFOLD_LOG. Started by test_service.py.
"""

import os
from pathlib import Path

from workers.waker import Waker

_publish_once = Waker._publish


def _publish(self: Waker, *arguments: object) -> None:
    for _ in range(10):
        _publish_once(self, *arguments)  # type: ignore[arg-type]
    with Path(os.environ["TENFOLD_LOG"]).open("ab") as log:
        log.write(b"." * 10)


Waker._publish = _publish  # type: ignore[assignment,method-assign]
