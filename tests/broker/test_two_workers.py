"""Two workers give the same lists as one on the same clicks, once the item table has settled."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from settled import clicks_agent, table_settled
from streams.settings import Settings
from streams.worker.app import Worker

READERS, ITEMS = 40, 80
LEARN, PROBES = 1500, READERS
LIST, CLOSE = 20, 5e-5


def learnt() -> list[tuple[bytes | None, bytes | None]]:
    draw = random.Random(4)
    made: list[tuple[bytes | None, bytes | None]] = []
    for n in range(LEARN):
        user, kind = (
            f"u{draw.randrange(READERS)}",
            draw.choice(("click", "like", "save", "impression", "undo")),
        )
        item = f"i{int(ITEMS * draw.random() ** 2)}"
        made.append((user.encode(), click(n, user=user, item=item, kind=kind, at=NOW_MS + 50 * n)))
    return made


def entries() -> list[tuple[bytes | None, bytes | None]]:
    return [
        (f"i{n}".encode(), json.dumps({"id": "x", "item": f"i{n}", "at": 1, "author": f"a{n % 7}"}).encode())
        for n in range(ITEMS)
    ]


def probes() -> list[tuple[bytes | None, bytes | None]]:
    """One more click of each reader, all of one time."""
    at = NOW_MS + 50 * LEARN
    return [
        (f"u{n}".encode(), click(LEARN + n, user=f"u{n}", item=f"i{n % ITEMS}", at=at)) for n in range(PROBES)
    ]


@contextlib.asynccontextmanager
async def workers(settings: Settings, count: int) -> AsyncIterator[list[Worker]]:
    """So many workers, each with partitions of its own."""
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(running(settings)) for _ in range(count)]
        readers = [line.reader for worker in found for line in worker._lines]
        await until(lambda: all(reader.owned for reader in readers), 30, "each owns partitions")
        await until(lambda: all(worker.ready for worker in found), 30, "all are ready")
        yield found


async def lists_of(bootstrap: str, prefix: str, count: int) -> dict[str, list[tuple[str, float]]]:
    """Reader -> the list of the last click."""
    settings = settings_for(bootstrap, prefix, ("clicks",), taste={"list_size": LIST})
    items = settings_for(bootstrap, prefix, ("items",))

    async with workers(settings, count) as found:

        def applied(of: Sequence[Worker]) -> int:
            agent = of[0]._lines[0].agent.name
            return int(sum(worker.metrics.applied.labels(agent)._value.get() for worker in of))

        # Its worker stops before the probes: they are answered from one and the same table, however slowly.
        async with running(items):
            await produce(bootstrap, f"{prefix}items", entries())
            await produce(bootstrap, f"{prefix}clicks", learnt())
            await until(lambda: applied(found) == LEARN, 30, "all clicks applied")
            await table_settled(*found)
            for worker in found:
                known = worker.metrics.catalogue_items._value
                await until(lambda known=known: known.get() == ITEMS, 20, "the catalogue is read")
        await produce(bootstrap, f"{prefix}clicks", probes())
        await until(lambda: applied(found) == LEARN + PROBES, 30, "all probes applied")
        owned = [len(worker._lines[0].reader.owned) for worker in found]
        assert sum(owned) == 4 and min(owned) > 0
        assert all(len(clicks_agent(worker)._state.rows) for worker in found)
    made: dict[str, list[tuple[str, float]]] = {}
    for record in await read_all(bootstrap, f"{prefix}recommendations"):
        value = json.loads(record.value)
        made[value["user"]] = [(one["item"], one["score"]) for one in value["items"]]
    return made


def test_two_workers_give_the_same_lists_as_one(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    one = asyncio.run(lists_of(bootstrap, f"{topic_prefix}one-", 1))
    two = asyncio.run(lists_of(bootstrap, f"{topic_prefix}two-", 2))
    assert one.keys() == two.keys() and len(one) == READERS
    for user, alone in one.items():
        shared = two[user]
        assert [score for _, score in shared] == pytest.approx([score for _, score in alone], abs=CLOSE)
        ours, theirs = dict(alone), dict(shared)
        last = alone[-1][1]  # of equal scores at the end either item may have the place
        for item in ours.keys() ^ theirs.keys():
            assert ours.get(item, theirs.get(item)) == pytest.approx(last, abs=CLOSE)
        for item in ours.keys() & theirs.keys():
            assert ours[item] == pytest.approx(theirs[item], abs=CLOSE)
    assert len({tuple(item for item, _ in alone) for alone in one.values()}) > READERS // 2  # personal ones
