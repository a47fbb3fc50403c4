"""Sends heartbeats into the partitions that this worker owns. Knows nothing of what becomes of them.

One producer of its own, beside those of the agents: exactly-once delivery has only transactions, and a heartbeat that
waits behind a group that failed would say nothing. At most one is unconfirmed a partition.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.heartbeat import HEADERS, KEY, encoded
from streams.sections.kafka import Kafka
from streams.topology.topics import prefixed
from streams.transport.client import client_options, close, refusal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One agent's part: where its heartbeats go, and whom to tell."""

    topic: str  # without prefix
    owned: Callable[[], Sequence[int]]
    began: Callable[[int, int], None]  # (partition, now in ms): from now on heartbeats are to be expected
    failed: Callable[[], None]  # one was not confirmed


class Heart:
    """Beats every `interval_s` until stopped; without a broker it tries again, and says so once."""

    def __init__(self, kafka: Kafka, interval_s: float, clock: Clock, pulses: Sequence[Pulse]) -> None:
        self._kafka = kafka
        self._interval_s = interval_s
        self._clock = clock
        self._pulses = pulses
        self._unconfirmed: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """No more beats; closes the connection."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running], timeout=2.0)

    async def _run(self) -> None:
        producer: AIOKafkaProducer | None = None
        try:
            while True:
                began_s = self._clock.monotonic_s()
                try:
                    if producer is None:
                        producer = await self._connected()
                    await self._beat(producer)
                except (KafkaError, OSError, asyncio.TimeoutError) as error:
                    log.warning("no heartbeat can be sent: %r", error)
                await asyncio.sleep(max(0.0, self._interval_s - (self._clock.monotonic_s() - began_s)))
        finally:
            if producer is not None:
                await close(producer)

    async def _connected(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(**client_options(self._kafka), acks="all")
        try:
            await producer.start()
        except BaseException:
            await close(producer)
            raise
        return producer

    async def _beat(self, producer: AIOKafkaProducer) -> None:
        """One a partition, but for those whose last is not confirmed yet. Raises TimeoutError."""
        now_ms = self._clock.wall_ms()
        for pulse in self._pulses:
            owned = pulse.owned()
            for (
                partition
            ) in owned:  # before anything is waited for: one that has left meanwhile must not begin again
                pulse.began(partition, now_ms)
            for partition in owned:
                if (pulse.topic, partition) not in self._unconfirmed:
                    await self._send(producer, pulse, partition, now_ms)

    async def _send(self, producer: AIOKafkaProducer, pulse: Pulse, partition: int, now_ms: int) -> None:
        """A topic that is refused to us is no reason to leave the others out. Raises TimeoutError."""
        name = prefixed(self._kafka.topic_prefix, pulse.topic)
        sending = producer.send(name, encoded(now_ms), KEY, partition, headers=HEADERS)
        try:
            confirmed = await asyncio.wait_for(sending, self._kafka.request_timeout_s)
        except KafkaError as error:
            pulse.failed()
            log.warning("no heartbeat can be sent to %s: %s", name, refusal(error) or repr(error))
            return
        except asyncio.TimeoutError:
            pulse.failed()
            raise
        place = pulse.topic, partition
        self._unconfirmed[place] = confirmed
        confirmed.add_done_callback(self._ended(place, pulse))

    def _ended(self, place: tuple[str, int], pulse: Pulse) -> Callable[["asyncio.Future[Any]"], None]:
        def ended(confirmed: "asyncio.Future[Any]") -> None:
            self._unconfirmed.pop(place, None)
            error = None if confirmed.cancelled() else confirmed.exception()
            if confirmed.cancelled() or error is not None:
                pulse.failed()
                words = refusal(error) if error is not None else None
                log.warning("a heartbeat to %s was not confirmed: %s", place[0], words or repr(error))

        return ended
