"""Sends messages to queues: a wake-up, never the truth. Nobody waits for a broker that is down.

Called by the API after a submit, by the sweeper, and by a worker that passes its message on.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Celery

from datagen.catalog.trainings import TRAIN_QUEUE
from workers.app import CONNECT_TIMEOUT_S, STEP, TICK, TICKS, TRAIN, create_celery

logger = logging.getLogger(__name__)

# A queue with so many messages needs no more: workers pass on each that still has work.
ENOUGH_MESSAGES = 256
# After a failure the broker is left alone for so long: the sweeper sends again.
SILENCE_S = 2.0


class Waker:
    """Of one process, for all of its threads."""

    def __init__(self, broker_url: str) -> None:
        self._app: Celery = create_celery(broker_url)
        self._app.conf.broker_transport_options |= {
            "socket_timeout": CONNECT_TIMEOUT_S,
            "max_retries": 0,
        }
        self._silent_until = 0.0

    def wake(self, queue: str, job_id: int, num_messages: int) -> None:
        """At least one, and fewer than asked for where many wait already. job_id: on the queue of
        trainings, the number of one."""
        self._send(queue, job_id, num_messages, at_least=1, enough=ENOUGH_MESSAGES)

    def pass_on(self, queue: str, job_id: int) -> None:
        """For one that was received. An overfull queue shrinks to what the sweeper fills."""
        self._send(queue, job_id, 1, at_least=0, enough=2 * ENOUGH_MESSAGES)

    def tick(self) -> None:
        self._publish(TICK, (), TICKS)

    def ping(self) -> None:
        """Raises OperationalError if the broker does not answer."""
        with self._app.pool.acquire(block=True, timeout=CONNECT_TIMEOUT_S) as connection:
            self._client(connection).ping()

    @property
    def is_silent(self) -> bool:
        """Whether the broker failed just now, and is asked nothing."""
        return time.monotonic() < self._silent_until

    def close(self) -> None:
        self._app.close()

    def _send(
        self, queue: str, job_id: int, num_messages: int, *, at_least: int, enough: int
    ) -> None:
        if self.is_silent:
            return
        try:
            with self._app.pool.acquire(block=True, timeout=CONNECT_TIMEOUT_S) as connection:
                room = enough - self._client(connection).llen(queue)
            for _ in range(min(num_messages, max(at_least, room))):
                self._publish(TRAIN if queue == TRAIN_QUEUE else STEP, (job_id,), queue)
        except Exception as error:  # whatever the broker's library raises: it is never the truth
            self._silent_until = time.monotonic() + SILENCE_S
            logger.warning("the broker takes no message: %s; the sweeper will send again", error)

    def _publish(self, task: str, arguments: tuple[int, ...], queue: str) -> None:
        """By the nameless exchange: bindings of named ones would be lost with a flushed broker."""
        self._app.send_task(task, arguments, queue=queue, retry=False)

    def _client(self, connection: Any) -> Any:
        return connection.default_channel.client
