"""Strange clicks on a broker: each is taken by its rule and counted, and the catalogue may be swapped under them."""

import asyncio
import json
from typing import Any

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from sending import value_of

DAY_MS = 86_400_000
Sent = list[tuple[bytes | None, bytes | None]]


def entries(names: list[str], available: bool = True) -> Sent:
    made = [{"id": "x", "item": name, "at": NOW_MS, "available": available} for name in names]
    return [(str(one["item"]).encode(), json.dumps(one).encode()) for one in made]


def test_each_is_counted_and_the_rest_goes_on(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(
        bootstrap,
        topic_prefix,
        ("clicks", "items"),
        taste={"max_items": 6, "list": {"only_catalogued": True}},
    )
    old, new = ["a", "b", "c"], ["d", "e", "f"]

    async def main() -> None:
        async with running(settings) as worker:
            metrics = worker.metrics
            applied, sent = metrics.applied.labels("clicks"), 0

            async def send(*some: dict[str, Any]) -> None:
                nonlocal sent
                values: Sent = []
                for one in some:
                    values.append((one["user"].encode(), click(sent, **one)))
                    sent += 1
                await produce(bootstrap, f"{topic_prefix}clicks", values)
                await until(lambda: applied._value.get() == sent, 20, "the clicks are applied")

            async def listed(user: str) -> set[str]:
                log = await read_all(bootstrap, f"{topic_prefix}recommendations", 1)
                last = max((r for r in log if r.key == user.encode()), key=lambda r: r.offset)
                return {one["item"] for one in json.loads(last.value)["items"]}

            async def swap(away: list[str], there: list[str]) -> None:
                records = metrics.catalogue_records._value
                wanted = records.get() + len(away) + len(there)  # before they can have been read
                await produce(
                    bootstrap,
                    f"{topic_prefix}items",
                    [*((one.encode(), None) for one in away), *entries(there)],
                )
                await until(lambda: records.get() == wanted, 20, "the catalogue is swapped")

            await swap([], old)
            await send({"user": "u", "item": "a"})
            await send({"user": "u", "item": "b", "at": NOW_MS - 5})  # a clock that ran backwards
            await send({"user": "u", "item": "c", "at": NOW_MS - 2000 * DAY_MS})
            await send({"user": "u", "item": "c", "kind": "dwell", "dwell_s": -1})
            await send({"user": "u", "item": "c", "kind": "dwell", "dwell_s": 1e12})
            counted = {what: metrics.odd.labels(what)._value.get() for what in ("late", "too_late", "dwell")}
            assert counted == {"late": 1, "too_late": 1, "dwell": 2}

            await send({"user": "v", "item": "a"})
            assert await listed("v") == {"b", "c"}
            await swap(old, new)  # the whole catalogue
            await send({"user": "v", "item": "a"})
            assert await listed("v") == set(new)
            await swap(new, old)
            await send({"user": "v", "item": "d"})
            assert await listed("v") == {"b", "c"}

            assert value_of(worker, "headrace_items_beyond") == 0
            await send(*({"user": "w", "item": f"more-{n}"} for n in range(20)))
            assert value_of(worker, "headrace_items_beyond") >= 20
            assert value_of(worker, "headrace_items") == 6
            assert await listed("w") == {"a", "b", "c"}
            assert not (metrics.dead_letters.collect()[0].samples)  # none of them is a mistake

    asyncio.run(main())
