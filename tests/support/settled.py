"""Waiting until the item table of workers says all that their clicks told: lists made before it hang on the moment."""

from typing import Any

from running import read_all, until
from streams.agents.clicks import ClicksAgent
from streams.worker.app import Worker


def clicks_agent(worker: Worker) -> ClicksAgent:
    """A worker's, which has the item table in memory."""
    (agent,) = (line.agent for line in worker._lines if isinstance(line.agent, ClicksAgent))
    return agent


async def table_settled(*workers: Worker, within_s: float = 60.0) -> None:
    """Return once each of these workers' tables has every item's row of its last transition. To be called when their
    clicks are applied, since then the transitions are durable; some worker must run the agent `items`."""
    settings = workers[0].settings
    told = await read_all(
        settings.kafka.bootstrap,
        f"{settings.kafka.topic_prefix}transitions",
        partitions=settings.topics.partitions,
    )
    newest = {record.key.decode(): record.offset for record in told}
    for worker in workers:
        table = clicks_agent(worker)._table
        rows, offsets = table.items.lookup(list(newest)), list(newest.values())

        def there(table: Any = table, rows: Any = rows, offsets: Any = offsets) -> bool:
            table.cover()
            return bool((table.fence[rows] >= offsets).all())

        await until(there, within_s, "the item table has settled")
