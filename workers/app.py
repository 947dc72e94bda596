"""The Celery application: one broker, JSON messages that carry a job's or training's number alone.

Called by the command line of this package and by the API's process, which only sends.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery import Celery
from kombu.entity import Queue

STEP, TRAIN, TICK = "datagen.step", "datagen.train", "datagen.tick"
TICKS = "ticks"

# Above the longest unit. A message that comes back too early, as a training's may, only wakes
# somebody for nothing.
VISIBILITY_TIMEOUT_S = 3600
CONNECT_TIMEOUT_S = 1.0


def create_celery(broker_url: str, *, queues: Sequence[str] = ()) -> Celery:
    """queues: to be served, in the order in which messages are taken from them."""
    app = Celery("datagen", broker=broker_url, set_as_current=False)
    app.conf.update(
        broker_transport="workers.broker:Transport",
        task_queues=[Queue(name) for name in queues],
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        # One task at a time in the process that was started, no fork and no child: CUDA survives
        # no fork, and whoever kills the worker kills the work. A stop signal is seen by the engine
        # between two batches, so that a warm shutdown gives the unit back at once. Celery's own
        # soft shutdown is for pools of children: here it would make the worker sleep.
        worker_pool="solo",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        # Nothing runs when a lost connection is noticed; this only says so, once and for all.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_TIMEOUT_S,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "queue_order_strategy": "priority",  # of `queues`: interactive work goes first
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_keepalive": True,
            "health_check_interval": 5,
        },
    )
    return app
