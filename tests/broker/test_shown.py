"""What was listed and not taken is not listed again for a time, on a broker."""

import asyncio
import json
from typing import Any

import pytest

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from settled import table_settled
from streams.agents.clicks import ClicksAgent


@pytest.mark.parametrize("by", ["lists", "impressions"])
def test_what_was_shown_and_not_taken_makes_room(embedded_broker: Any, topic_prefix: str, by: str) -> None:
    bootstrap = embedded_broker.bootstrap
    taste = {"list_size": 3, "served": {"lists": 1, "for_s": 100.0, "by": by}}
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"), taste=taste)

    async def main() -> None:
        async with running(settings) as worker:
            applied, sent = worker.metrics.applied.labels("clicks")._value, 0

            async def listed(user: str, item: str, kind: str = "click", at_s: int = 0) -> set[str]:
                """The list that this click causes; the query's answer is the same."""
                nonlocal sent
                value = click(sent, user=user, item=item, kind=kind, at=NOW_MS + 1000 * at_s)
                await produce(bootstrap, f"{topic_prefix}clicks", [(user.encode(), value)])
                sent += 1
                await until(lambda: applied.get() == sent, 20, "the click is applied")
                log = await read_all(bootstrap, f"{topic_prefix}recommendations")
                newest = max((r for r in log if r.key == user.encode()), key=lambda r: r.offset)
                found = {one["item"] for one in json.loads(newest.value)["items"]}
                rows, names = agent._state.rows, agent._items.names
                (row,) = [n for n, name in enumerate(rows.names) if name == user]
                assert {names[n] for n in agent._lists.now(row).items[0].tolist() if n >= 0} == found
                return found

            agent = worker._lines[0].agent
            assert isinstance(agent, ClicksAgent)
            crowd: list[tuple[bytes | None, bytes | None]] = [
                (b"crowd", click(1000 + n, user="crowd", item=f"i{n}", at=NOW_MS)) for n in range(9)
            ]
            await produce(bootstrap, f"{topic_prefix}clicks", crowd)
            sent = len(crowd)
            await until(lambda: applied.get() == sent, 20, "the crowd's clicks are applied")
            await table_settled(worker)
            assert len(agent._table) == 9  # all items have rows
            first = await listed("bob", "i0")
            assert len(first) == 3
            if by == "impressions":
                assert await listed("bob", "i0", at_s=1) == first  # nobody looked
                for item in sorted(first):
                    await listed("bob", item, "impression", at_s=2)
            second = await listed("bob", "i0", at_s=3)
            assert len(second) == 3 and not second & first
            assert await listed("bob", "i0", at_s=200) & first  # the time is over

    asyncio.run(main())
