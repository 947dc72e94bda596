"""kombu's Redis transport, with one fault of it healed: a worker that nobody can reach any more.

kombu 5.7 keeps a message whose acknowledgement failed, because the broker was gone just then, among
those being worked on. With a prefetch of 1 the worker then waits for ever for a free place, and
since it reads nothing, it never finds out that its connection is dead. Named in app.py.
"""

from __future__ import annotations

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    def ack(self, delivery_tag: str) -> None:
        """The place is free whether or not the broker hears of it; at worst it sends the message
        once more, which is harmless here."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)
            raise


class Channel(redis.Channel):
    QoS = QoS


class Transport(redis.Transport):
    Channel = Channel
