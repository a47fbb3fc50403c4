"""The catalogue on a broker: items are published, then clicks; no list holds an item that may not be shown."""

import asyncio
import json
import random
from collections import Counter

import pytest

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from settled import table_settled

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
ITEMS, AUTHORS = 120, 12
DAY_MS = 86_400_000


def entry(n: int) -> tuple[bytes, bytes | None]:
    """By number: every tenth is unavailable, every eleventh old, every seventh of a blocked author."""
    item = {
        "id": f"e{n}",
        "item": f"i{n}",
        "at": NOW_MS,
        "author": "blocked" if n % 7 == 0 else f"a{n % AUTHORS}",
        "topics": [f"t{n % 5}"],
        "available": n % 10 != 0,
        "published_at": NOW_MS - (40 * DAY_MS if n % 11 == 0 else DAY_MS),
    }
    return f"i{n}".encode(), json.dumps(item).encode()


def barred(n: int) -> bool:
    return n % 10 == 0 or n % 11 == 0 or n % 7 == 0


def clicks(count: int, seed: int) -> list[tuple[bytes | None, bytes | None]]:
    draw = random.Random(seed)
    made: list[tuple[bytes | None, bytes | None]] = []
    for n in range(count):
        user = f"u{draw.randrange(15)}"
        made.append((user.encode(), click(n + 10_000 * seed, user=user, item=f"i{draw.randrange(ITEMS)}")))
    return made


@pytest.mark.parametrize("lane", LANES)
def test_no_list_holds_an_item_that_may_not_be_shown(
    lane: str, request: pytest.FixtureRequest, topic_prefix: str
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    rules = {
        "max_age_s": 30 * 86_400.0,
        "blocked_authors": ("blocked", "nobody"),
        "author_most": 2,
        "author_decay": 0.8,
        "diversity": "calibration",
        "explore_below": 1e6,
    }
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"), taste={"list": rules})

    async def main() -> None:
        # the table is learnt first, without a word from the catalogue
        async with running(settings) as worker:
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(600, 1))
            applied = worker.metrics.applied.labels("clicks")
            await until(lambda: applied._value.get() == 600, 20, "first clicks applied")
            await table_settled(worker)
            before = len(await read_all(bootstrap, f"{topic_prefix}recommendations"))
            entries: list[tuple[bytes | None, bytes | None]] = [entry(n) for n in range(ITEMS)]
            await produce(bootstrap, f"{topic_prefix}items", [*entries, (b"i1", b"{"), (b"i2", None)])
            read, bad = worker.metrics.catalogue_records._value, worker.metrics.catalogue_bad
            await until(lambda: read.get() == ITEMS + 1, 20, "catalogue read")
            await until(lambda: bad.labels("undecodable")._value.get() == 1, 20, "bad one")
            assert worker.metrics.catalogue_items._value.get() == ITEMS - 1
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(150, 2))
            await until(lambda: applied._value.get() == 750, 20, "clicks applied")
            first = _check(await _lists(bootstrap, topic_prefix, before))
        # a worker that starts later has read the catalogue before it makes its first list
        after = len(await read_all(bootstrap, f"{topic_prefix}recommendations"))
        async with running(settings) as worker:
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(50, 3))
            applied = worker.metrics.applied.labels("clicks")
            await until(lambda: applied._value.get() == 50, 20, "clicks applied")
            second = _check(await _lists(bootstrap, topic_prefix, after))
        assert first > 200 and second > 100

    asyncio.run(main())


async def _lists(bootstrap: str, prefix: str, skip: int) -> list[list[str]]:
    """All lists but those of the first `skip` records, by the click that caused them."""
    log = await read_all(bootstrap, f"{prefix}recommendations")
    assert len(log) > skip
    ordered = sorted(log, key=lambda record: record.timestamp)
    return [[one["item"] for one in json.loads(r.value)["items"]] for r in ordered[skip:]]


def _check(lists: list[list[str]]) -> int:
    """How many items were listed."""
    for items in lists:
        numbers = [int(name[1:]) for name in items]
        assert not [n for n in numbers if barred(n) or n == 2]
        authors = Counter(n % AUTHORS for n in numbers[:10])
        assert max(authors.values(), default=0) <= 2
        assert max(Counter(n % AUTHORS for n in numbers).values(), default=0) <= 4
    return sum(map(len, lists))
