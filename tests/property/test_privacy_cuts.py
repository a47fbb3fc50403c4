"""Privacy orders between clicks: however the log is cut, and wherever a worker dies, the end is a clean pass's."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from models.taste.readers.layout import fence_of
from streams.agents.base import Services
from streams.agents.clicks import ClicksAgent
from streams.clock import SystemClock
from streams.codecs import decode_clicks
from streams.effects import Emit
from streams.events import Privacy
from streams.observe.catalogue import Metrics
from streams.privacy.orders import HEADERS, order_of
from streams.privacy.register import MARK
from streams.settings import load
from streams.state.snapshotfile import Image
from streams.topology.topics import PRIVACY, RECOMMENDATIONS, TASTE_CHANGELOG
from streams.transport.batch import PartitionBatch
from streams.transport.durable import Submission

START_MS = 1_767_225_600_000
BLOCK_MS = 2_000
STEP_MS = 100
USERS = ("ada", "ben", "cyd")


@dataclass
class Record:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


class Standing(SystemClock):
    """The time of the records."""

    def wall_ms(self) -> int:
        return START_MS


class Log:
    """The changelog, as recovery reads it; `image`: through a snapshot."""

    def __init__(self, rows: list[tuple[bytes, bytes | None]], image: bool) -> None:
        self.rows, self.image = rows, image

    async def replay(self, partition: int, apply: Callable[..., None], tell: Any = None) -> int:
        rows = self.rows
        if self.image:
            image = Image(fence_of)
            image.add([key for key, _ in rows], [value for _, value in rows])
            for keys, values in image.over(()):
                apply(keys, values)
        else:
            apply([key for key, _ in rows], [value for _, value in rows])
        return len(rows)

    def spoiled(self, partition: int) -> None: ...
    def leave(self, partition: int) -> None: ...


def agent_over(rows: list[tuple[bytes, bytes | None]], image: bool = False) -> ClicksAgent:
    given_settings = load(overrides={"topics": {"partitions": 1}, "privacy": {"block_s": BLOCK_MS / 1000}})
    inference: Any = None
    agent = ClicksAgent(Services(given_settings, Standing(), Metrics("test"), inference, "test"))
    log: Any = Log(rows, image)
    agent._changelog = log
    asyncio.run(agent.recover(0))
    healing = agent.healing(0)
    if healing is not None:
        write(rows, [healing])
    return agent


def write(rows: list[tuple[bytes, bytes | None]], emits: Sequence[Emit]) -> None:
    for emit in emits:
        assert emit.topic == TASTE_CHANGELOG
        values = [None if value is None else bytes(value) for value in emit.values]
        rows += zip([key or b"" for key in emit.keys], values, strict=True)


def made_up(seed: int, length: int) -> list[Record]:
    draw = random.Random(seed)
    records = []
    for offset in range(length):
        user, stamp = draw.choice(USERS), START_MS + STEP_MS * offset + draw.randrange(-500, 500)
        if draw.random() < 0.15:
            event = Privacy(f"p{offset}", user, draw.choice(["forget", "forget", "opt_out", "opt_in"]), stamp)
            value = order_of(event, 0, stamp + BLOCK_MS)
            records.append(Record(offset, stamp, user.encode(), value, list(HEADERS)))
            continue
        click = {
            "id": f"c{offset}",
            "user": user,
            "item": f"i{draw.randrange(9)}",
            "kind": draw.choice(["click", "like", "hide", "impression"]),
            "at": stamp,
        }
        value = b"{" if draw.random() < 0.05 else json.dumps(click).encode()
        records.append(Record(offset, stamp, user.encode(), value))
    return records


@dataclass
class End:
    """What is left when all was read."""

    states: dict[str, bytes]
    register: dict[bytes, bytes]
    listed: dict[bytes, Any]  # of the compacted topic of lists: which click made the last one
    asked_for: set[tuple[str, bytes]]


def submitted(records: Sequence[Record]) -> Submission[Any]:
    entry: Any = None
    return Submission(PartitionBatch("clicks", 0, records, entry, 0.0), decode_clicks(0, records, 10**9))


def played(records: list[Record], cuts: Sequence[int], deaths: dict[int, int], image: bool = False) -> End:
    """Groups of `cuts` batches' sizes; after group n the worker dies and its successor begins `deaths[n]` records
    before where it stood."""
    changelog: list[tuple[bytes, bytes | None]] = []
    lists: dict[bytes, Any] = {}
    asked: set[tuple[str, bytes]] = set()
    agent, at, group = agent_over(changelog), 0, 0
    while at < len(records):
        size = cuts[group % len(cuts)]
        parts = [records[at : at + size], records[at + size : at + 2 * size]]
        effects = agent.decide([submitted(part) for part in parts if part])
        for emit in effects.outputs:
            for key, value, headers in zip(
                emit.keys, emit.values, emit.headers or [[] for _ in emit.keys], strict=True
            ):
                if emit.topic == RECOMMENDATIONS:
                    lists[key or b""] = None if value is None else json.loads(bytes(value))
                elif emit.topic == PRIVACY:
                    asked.add((dict(headers)["privacy.request"].decode(), key or b""))
        write(changelog, effects.changelog)
        at = min(at + 2 * size, len(records))
        if group in deaths:
            agent, at = agent_over(changelog, image), max(0, at - deaths[group])
        group += 1
    agent = agent_over(changelog, image)  # what a takeover would see
    rows = agent._state.rows
    users = rows.users(0)
    last = dict(changelog)
    return End(
        dict(zip(users, rows.encode(rows.rows_of(users)), strict=True)),
        {key: value for key, value in last.items() if key[:1] == MARK and value is not None},
        {key: made and (made["because"], len(made["items"])) for key, made in lists.items()},
        asked,
    )


# not shrunk: an example takes a third of a second, and says by its seed what it is
@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate])
@example(seed=18, cuts=[6, 4, 22], deaths={3: 21}, image=True)  # let in again, and read again from before
@given(
    seed=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 25), min_size=1, max_size=5),
    deaths=st.dictionaries(st.integers(0, 8), st.integers(0, 60), max_size=3),
    image=st.booleans(),
)
def test_cuts_and_deaths_change_nothing(
    seed: int, cuts: list[int], deaths: dict[int, int], image: bool
) -> None:
    records = made_up(seed, 70)
    clean = played(records, [1], {})
    found = played(records, cuts, deaths, image)

    assert found.states == clean.states
    assert found.register == clean.register
    assert found.asked_for == clean.asked_for
    assert {k: v and v[0] for k, v in found.listed.items()} == {
        k: v and v[0] for k, v in clean.listed.items()
    }


def test_the_made_up_logs_have_what_they_are_about() -> None:
    agent = agent_over([])
    agent.decide([submitted(made_up(7, 400))])
    metrics = agent.services.metrics

    assert metrics.forgotten.labels("clicks")._value.get() > 10
    assert all(
        metrics.privacy_orders.labels("clicks", kind)._value.get() > 3
        for kind in ("forget", "opt_out", "opt_in")
    )


def test_no_byte_of_who_is_forgotten_is_in_the_compacted_changelog_and_a_late_click_does_not_bring_it_back() -> (
    None
):
    changelog: list[tuple[bytes, bytes | None]] = []
    agent = agent_over(changelog)
    records = [r for r in made_up(3, 60) if r.headers == [] and r.value != b"{"]
    write(changelog, agent.decide([submitted(records)]).changelog)
    assert any(b"ada" in key for key, value in dict(changelog).items() if value)

    now = records[-1].timestamp
    value = order_of(Privacy("p", "ada", "forget", now), 0, now + BLOCK_MS)
    order = Record(1000, now, b"ada", value, list(HEADERS))
    late = Record(1001, now + 100, b"ada", records[0].value and records[0].value.replace(b"ben", b"ada"))
    bad = Record(1002, now + 100, b"ada", b"{")
    effects = agent.decide([submitted([order, late, bad])])
    write(changelog, effects.changelog)

    left = {key: value for key, value in dict(changelog).items() if value is not None}
    assert not any(b"ada" in key or b"ada" in value for key, value in left.items())
    assert any(b"ben" in key for key in left)
    tombstones = [emit for emit in effects.outputs if emit.topic == RECOMMENDATIONS and emit.keys == [b"ada"]]
    assert [emit.values for emit in tombstones] == [[None]]
    assert not any(emit.topic == "clicks.dlt" for emit in effects.outputs)
    assert agent.services.metrics.forgotten.labels("clicks")._value.get() == 2

    after = Record(1003, now + BLOCK_MS, b"ada", late.value and late.value.replace(b'"c', b'"d'))
    write(changelog, agent.decide([submitted([after])]).changelog)
    assert dict(changelog)[b"ada"] is not None  # a new start, once the block is over


def test_who_opted_out_gets_lists_without_a_profile_until_they_opt_in() -> None:
    changelog: list[tuple[bytes, bytes | None]] = []
    agent = agent_over(changelog)
    clicks = [r for r in made_up(5, 80) if r.headers == [] and r.value != b"{"]
    write(changelog, agent.decide([submitted(clicks)]).changelog)

    def wished(agent: ClicksAgent) -> list[bool]:
        found = agent._privacy.anonymous(np.zeros(2, np.int32), ["ben", "ada"])
        return [False, False] if found is None else found.tolist()

    def order(kind: Any, offset: int) -> list[Any]:
        value = order_of(Privacy("p", "ben", kind, START_MS), 0, START_MS)
        effects = agent.decide([submitted([Record(offset, START_MS, b"ben", value, list(HEADERS))])])
        write(changelog, effects.changelog)
        return [emit.values for emit in effects.outputs if emit.topic == RECOMMENDATIONS]

    assert wished(agent) == [False, False]
    assert order("opt_out", 1000) == [[None]]  # the list there was made of the profile
    assert wished(agent) == wished(agent_over(changelog)) == [True, False]
    assert order("opt_in", 1001) == []
    assert wished(agent) == wished(agent_over(changelog)) == [False, False]


def test_a_row_that_lands_after_the_tombstone_is_taken_away_again() -> None:
    changelog: list[tuple[bytes, bytes | None]] = []
    agent = agent_over(changelog)
    clicks = [r for r in made_up(3, 60) if r.headers == [] and r.value != b"{"]
    write(changelog, agent.decide([submitted(clicks)]).changelog)
    late = dict(changelog)[b"ada"]
    value = order_of(Privacy("p", "ada", "forget", START_MS), 0, START_MS + BLOCK_MS)
    order = Record(1000, START_MS, b"ada", value, list(HEADERS))
    write(changelog, agent.decide([submitted([order])]).changelog)
    changelog.append((b"ada", late))  # of a worker that had lost the partition

    assert "ada" not in agent_over(changelog)._state.rows.users(0)
    assert dict(changelog)[b"ada"] is None
