"""One agent of this worker as queries and the page see it."""

from dataclasses import dataclass
from typing import Any

from streams.agents.base import Agent
from streams.clock import Clock
from streams.query.answers import Staleness
from streams.transport.reader import BatchReader


@dataclass(frozen=True, slots=True)
class Served:
    """An agent and its reader."""

    agent: Agent[Any]
    reader: BatchReader

    def staleness(self, partition: int | None, clock: Clock) -> Staleness:
        """Of an owned partition; of the whole agent where the partition is None: the worst of what it owns."""
        numbers = self.reader.owned if partition is None else [partition]
        found = [one for number in numbers if (one := self.reader.standing(number)) is not None]
        ages = [one.applied_at_ms for one in found if one.applied_at_ms is not None]
        records = [one.lag_records for one in found if one.lag_records is not None]
        seconds = [one.lag_s for one in found if one.lag_s is not None]
        return Staleness(
            partition,
            found[0].applied_offset if partition is not None and found else None,
            round(max(0.0, (clock.wall_ms() - min(ages)) / 1000), 3) if ages else None,
            sum(records) if records else None,
            max(seconds) if seconds else None,
        )
