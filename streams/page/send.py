"""Clicks that a person makes on the page: sent to the topic as any client would, so that all else is as always."""

import asyncio
from collections import deque

from streams.clock import Clock
from streams.errors import Retry
from streams.events import Click
from streams.feed.player import Player
from streams.feed.records import outgoing
from streams.settings import Settings
from streams.topology.topics import CLICKS
from streams.transport.producer import BatchProducer

PER_S = 20
SOURCE = "headrace/page"


class ClickSender:
    """At most `PER_S` clicks a second. The connection is made with the first one."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._turn = asyncio.Lock()
        self._producer: BatchProducer | None = None
        self._player: Player | None = None
        self._sent_s: deque[float] = deque(maxlen=PER_S)

    async def send(self, click: Click) -> bool:
        """False when it is too soon for another one. Raises Retry when the broker does not take it."""
        async with self._turn:
            now_s = self._clock.monotonic_s()
            if len(self._sent_s) == PER_S and now_s - self._sent_s[0] < 1.0:
                return False
            self._sent_s.append(now_s)
            try:
                player = await self._connected()
                await player.send([outgoing(click, source=SOURCE)])
            except OSError as error:
                raise Retry(f"no broker: {error}") from error
            return True

    async def _connected(self) -> Player:
        if self._player is None:
            producer = BatchProducer(self._settings.kafka)
            await producer.start()
            self._producer = producer
            self._player = Player(producer, {CLICKS: self._settings.topics.partitions}, self._clock)
        return self._player

    async def stop(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            await self._producer.stop(timeout_s=2.0)
