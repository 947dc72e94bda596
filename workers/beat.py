"""Beat: sends a tick every few seconds, and does nothing else. Two of them are as good as one.

Called by the command line of this package.
"""

from __future__ import annotations

import signal
from types import FrameType

from celery.beat import Scheduler, Service

from datagen.settings import Settings
from workers.app import TICK, TICKS, create_celery


def run_beat(settings: Settings) -> None:
    """Until SIGINT or SIGTERM."""
    app = create_celery(settings.broker_url)
    # An old tick is worth nothing: where no worker takes them, they do not pile up.
    options = {"queue": TICKS, "expires": 2 * settings.sweep_s}
    app.conf.beat_schedule = {
        "tick": {"task": TICK, "schedule": settings.sweep_s, "options": options}
    }
    app.conf.beat_max_loop_interval = settings.sweep_s
    service = Service(app, scheduler_cls=Scheduler)  # its schedule is kept in memory alone

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    service.start()
