"""Wake-ups against a real Valkey that is up, down, and hung."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator

import pytest
import redis

from datagen.stack.servers import Valkey
from datagen.stack.supervisor import Supervisor
from workers.waker import ENOUGH_MESSAGES, Waker

QUEUE = "cpu.abc.batch"


@pytest.fixture
def waker(valkey: Valkey) -> Iterator[Waker]:
    waker = Waker(valkey.url)
    yield waker
    waker.close()


@pytest.fixture
def client(valkey: Valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as client:
        yield client


def test_a_message_carries_the_number_of_the_job_and_nothing_else(
    waker: Waker, client: redis.Redis
) -> None:
    waker.wake(QUEUE, 17, 1)
    message = json.loads(client.lindex(QUEUE, 0))
    arguments, options, _ = json.loads(base64.b64decode(message["body"]))
    assert arguments == [17]
    assert options == {}
    assert message["headers"]["task"] == "datagen.step"


def test_as_many_messages_are_sent_as_are_asked_for(waker: Waker, client: redis.Redis) -> None:
    waker.wake(QUEUE, 1, 5)
    assert client.llen(QUEUE) == 5


def test_a_full_queue_gets_one_message_so_that_no_job_is_shut_out(
    waker: Waker, client: redis.Redis
) -> None:
    for job_id in range(8):
        waker.wake(QUEUE, job_id, 64)
    assert client.llen(QUEUE) == ENOUGH_MESSAGES + 4
    waker.wake(QUEUE, 99, 64)
    assert client.llen(QUEUE) == ENOUGH_MESSAGES + 5


def test_an_overfull_queue_shrinks_as_messages_are_passed_on(
    waker: Waker, client: redis.Redis
) -> None:
    client.rpush(QUEUE, *["x"] * (2 * ENOUGH_MESSAGES))
    waker.pass_on(QUEUE, 1)
    assert client.llen(QUEUE) == 2 * ENOUGH_MESSAGES
    client.rpop(QUEUE)
    waker.pass_on(QUEUE, 1)
    assert client.llen(QUEUE) == 2 * ENOUGH_MESSAGES


def test_a_broker_that_is_down_is_no_error_of_the_sender(
    waker: Waker, supervisor: Supervisor, valkey: Valkey
) -> None:
    waker.ping()
    supervisor.stop("valkey")
    waker.wake(QUEUE, 1, 64)
    with pytest.raises(Exception, match=r"[Cc]onnect"):
        waker.ping()
    supervisor.start(valkey.program)
    waker.ping()


def test_messages_flow_again_when_the_broker_is_back(
    waker: Waker, supervisor: Supervisor, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.waker.SILENCE_S", 0.0)
    waker.wake(QUEUE, 1, 1)
    supervisor.restart("valkey")
    waker.wake(QUEUE, 1, 1)  # over a connection that is dead
    waker.wake(QUEUE, 2, 2)
    with redis.Redis.from_url(valkey.url) as client:
        assert client.llen(QUEUE) >= 2


def test_a_broker_that_hangs_holds_nobody_up_twice(
    waker: Waker, supervisor: Supervisor, valkey: Valkey
) -> None:
    waker.wake(QUEUE, 1, 1)
    pid = supervisor.pid("valkey")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        waker.wake(QUEUE, 1, 64)  # gives up after one timeout, not after 64
        assert waker.is_silent
        waker.wake(QUEUE, 1, 64)
    finally:
        os.kill(pid, signal.SIGCONT)
