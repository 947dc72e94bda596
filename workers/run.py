"""Runs one Celery worker in this very process, until it is told to stop.

Called by the command line of this package, after the threads of the libraries were pinned.
"""

from __future__ import annotations

from celery.worker import state

from datagen.settings import Settings
from datagen.store import open_store
from workers.app import create_celery
from workers.caretaker import Caretaker, Patience
from workers.duties import Duties
from workers.process import Role, open_process
from workers.tasks import register


def run_worker(settings: Settings, role: Role, patience: Patience) -> int:
    """Returns the exit code."""
    process = open_process(settings, role, _stop_asked)
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    duties = Duties(process.catalog, store, settings, process.waker.wake)
    app = create_celery(settings.broker_url, queues=role.queues)
    register(app, process, duties)
    caretaker = Caretaker(process, patience)
    caretaker.start()
    if role.takes_ticks:
        duties.start()
    worker = app.Worker(
        hostname=process.name,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    try:
        worker.start()
    finally:
        caretaker.end()
    return int(worker.exitcode or 0)


def _stop_asked() -> bool:
    """What Celery's handlers of SIGTERM, SIGINT and SIGQUIT leave behind."""
    wishes = (state.should_stop, state.should_terminate)
    return any(wish is not None and wish is not False for wish in wishes)  # 0 is a wish
