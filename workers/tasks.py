"""The tasks: one unit of a job, one training, a tick. Called by Celery, in the worker's main
thread."""

from __future__ import annotations

from celery import Celery, Task

from workers.app import STEP, TICK, TRAIN
from workers.duties import Duties
from workers.process import WorkerProcess


def register(app: Celery, process: WorkerProcess, duties: Duties) -> None:
    def step(task: Task, job_id: int) -> None:
        """One unit; then the message goes to the end of its queue, so that others get their turn
        and those of higher priority go first."""
        if process.step(job_id):
            process.waker.pass_on(task.request.delivery_info["routing_key"], job_id)

    def train(task: Task, training_id: int) -> None:
        """The training that waits longest, whichever the message was sent for; then the message
        is of use to the next."""
        if process.train():
            process.waker.pass_on(task.request.delivery_info["routing_key"], training_id)

    def tick() -> None:
        duties.ask()

    app.task(step, name=STEP, bind=True)
    app.task(train, name=TRAIN, bind=True)
    app.task(tick, name=TICK)
