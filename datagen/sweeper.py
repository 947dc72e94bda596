"""What keeps jobs moving when messages are lost: called from time to time by every worker.

A message only wakes. It names a queue and a job; whoever gets it asks the catalog for a unit. So a
lost message costs at most one sweep, and a doubled one nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import claim_wake, running_jobs
from datagen.catalog.training_claims import claim_training_wake, requeue_expired
from datagen.catalog.trainings import TRAIN_QUEUE
from datagen.catalog.units import advance_job, claimable

# (queue, job id, number of messages). Must not raise when the broker is down.
Wake = Callable[[str, int, int], None]

# Messages of one job and stage at a time. A worker that has done a unit sends its message on, so
# that this bounds how many workers a job gets, not how many units.
MAX_MESSAGES = 64


def wake_job(catalog: Catalog, job_id: int, wake: Wake) -> None:
    """Tells the queues of a job's units that nobody works on."""
    for waiting in claimable(catalog, job_id):
        wake(waiting.queue, job_id, min(waiting.num_units, MAX_MESSAGES))
    claim_wake(catalog, job_id, not_after_s=0.0)


def sweep(catalog: Catalog, wake: Wake, *, wake_after_s: float) -> int:
    """Moves every running job on, and wakes those whose units wait. Any number of sweepers may run
    at once: of those that find a job within wake_after_s, one wakes it. Returns jobs woken."""
    for job_id in running_jobs(catalog):
        advance_job(catalog, job_id)
    waiting = claimable(catalog)
    due = {
        job_id
        for job_id in dict.fromkeys(each.job_id for each in waiting)
        if claim_wake(catalog, job_id, not_after_s=wake_after_s)
    }
    for each in waiting:
        if each.job_id in due:
            wake(each.queue, each.job_id, min(each.num_units, MAX_MESSAGES))
    return len(due)


def sweep_trainings(catalog: Catalog, wake: Wake, *, max_tries: int, wake_after_s: float) -> None:
    """Those whose worker fell silent wait again, and workers are told of all that wait."""
    requeue_expired(catalog, max_tries=max_tries)
    for training_id in claim_training_wake(catalog, not_after_s=wake_after_s):
        wake(TRAIN_QUEUE, training_id, 1)
