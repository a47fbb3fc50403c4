"""Recorded clicks through a real worker: how good the lists were that stood when each click came, and exactness.

A click is scored against the reader's newest list that an *earlier click of the reader* caused (`because.offset`), so
a list never knows the click it is scored on. `by the clock` is stricter: the list must also have been published no
later than the click was written. Other readers' clicks may be ahead by what the worker had read by then.
Unscorable clicks (no list yet, an item never listed) are misses. Figures from a fixed place of the stream on.
"""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from played_figures import ratio
from played_stage import Stage

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.readers.users import UserRows
from streams.clock import SystemClock
from streams.events import Click
from streams.feed.clicks import BadLines, read_clicks
from streams.feed.player import Player
from streams.feed.records import outgoing
from streams.topology import admin
from streams.topology.topics import CLICKS, INPUTS
from streams.transport.producer import BatchProducer

SETTLED_WITHIN_S = 300.0
TOPS = (10, 20)


@dataclass(frozen=True, slots=True)
class Recording:
    """A file and its protocol: clicks before `start` (a share, or a number of clicks) are learnt, not scored."""

    name: str
    file: str
    form: str
    start: float


RECORDINGS = (
    Recording("MovieLens-100K", "clicks/ml-100k.inter", "movielens", 20_000),
    Recording("yoochoose", "clicks/yoochoose-100k-train.tsv", "yoochoose", 0.2),
)


class _Named(msgspec.Struct):
    item: str


class _Because(msgspec.Struct):
    partition: int
    offset: int


class _List(msgspec.Struct):
    user: str
    items: list[_Named]
    because: _Because


@dataclass(slots=True)
class _Reader:
    """One reader's clicks (offset, written at, place in the file, click) and lists, each in log order."""

    clicks: list[tuple[int, int, int, Click]] = field(default_factory=list)
    lists: dict[int, tuple[int, list[str]]] = field(default_factory=dict)  # because.offset -> (at, items)


def play(
    stage: Stage, data: Path, recording: Recording, clicks_per_s: float | None, limit: int | None
) -> dict[str, Any]:
    """Feed the recording, or its first `limit` clicks, wait for the worker, judge what it published."""
    path = data / recording.file
    played = islice(read_clicks(path, recording.form, BadLines()), limit)
    order = {click.id: n for n, click in enumerate(played)}
    with stage.worker() as ready_s:
        began = time.monotonic()
        with stage.watching("items") as items_lag:
            if clicks_per_s is None:
                only = ("--limit", str(limit)) if limit else ()
                stage.feed(str(path), "--format", recording.form, "--speed", "max", *only)
            else:
                asyncio.run(_paced(stage, path, recording.form, clicks_per_s, limit))
        fed_s = time.monotonic() - began
        lag_at_end = stage.metric("headrace_consumer_lag_records", "clicks")
        settle_s = stage.settle("clicks", len(order), SETTLED_WITHIN_S)
        stage.settle("items", int(stage.metric("headrace_outputs_total", "clicks") > 0), SETTLED_WITHIN_S)
        decided_s = {agent: stage.metric("headrace_decide_seconds_sum", agent) for agent in stage.agents}
        lag_after = sum(stage.metric("headrace_consumer_lag_records", agent) for agent in stage.agents)
    clicks, lists, refused = stage.read(CLICKS), stage.read("recommendations"), stage.read("clicks.dlt")
    readers = _readers(clicks, lists, order)
    last_list_ms = max((r.timestamp for r in lists), default=0)
    seconds = (last_list_ms - min(r.timestamp for r in clicks)) / 1000
    waits_ms = [
        at - c[1] for r in readers.values() for c in r.clicks if c[0] in r.lists for at in [r.lists[c[0]][0]]
    ]
    return {
        "data": recording.name,
        "mode": "--speed max" if clicks_per_s is None else f"{clicks_per_s:g} clicks/s",
        "worker_ready_s": round(ready_s, 1),
        "fed_per_s": round(len(order) / fed_s),
        "clicks_in": len(clicks),
        "lists_out": len(lists),
        "readers": len(readers),
        "clicks_per_s": round(len(clicks) / seconds, 1),
        "click_to_list_ms": {f"p{p}": float(np.percentile(waits_ms, p)) for p in (50, 99)},
        "dead_letters": len(refused),
        "lag_when_fed": lag_at_end,
        "settled_after_s": round(settle_s, 2),
        "lag_at_end": lag_after,
        "item_table_lag_most": max(items_lag, default=0),
        "deciding_s": {agent: round(spent, 2) for agent, spent in decided_s.items()},
        "empty_lists": sum(not items for r in readers.values() for _, items in r.lists.values()),
        "exact": _exact(stage, clicks, refused, readers, order),
        **_quality(readers, recording, len(order)),
    }


async def _paced(stage: Stage, path: Path, form: str, clicks_per_s: float, limit: int | None) -> None:
    """The product's own reader and player, with the recording's time replaced by an even pace."""
    partitions = await admin.require_topics(stage.settings, INPUTS)
    producer = BatchProducer(stage.settings.kafka)
    await producer.start()
    try:
        clicks = enumerate(islice(read_clicks(path, form, BadLines()), limit))
        records = (outgoing(click, play_ms=int(n * 1000 / clicks_per_s)) for n, click in clicks)
        await Player(producer, partitions, SystemClock()).play(records, 1.0)
    finally:
        await producer.stop(stage.settings.kafka.request_timeout_s)


def _readers(clicks: list[Any], lists: list[Any], order: dict[str, int]) -> dict[str, _Reader]:
    decode, decode_list = msgspec.json.Decoder(Click).decode, msgspec.json.Decoder(_List).decode
    readers: defaultdict[str, _Reader] = defaultdict(_Reader)
    for record in clicks:
        click = decode(record.value)
        readers[click.user].clicks.append((record.offset, record.timestamp, order.get(click.id, -1), click))
    for record in lists:
        found = decode_list(record.value)
        items = [named.item for named in found.items]
        readers[found.user].lists[found.because.offset] = (record.timestamp, items)
    return readers


def _exact(
    stage: Stage, clicks: list[Any], refused: list[Any], readers: dict[str, _Reader], order: dict[str, int]
) -> dict[str, Any]:
    """Counts that must be 0: clicks missing or twice, readers whose last list is not their last click's, states that
    differ from a replay of the log."""
    dead = {(record.partition, int(dict(record.headers)["__connect.errors.offset"])) for record in refused}
    logged = sorted(place for reader in readers.values() for *_, place, _ in reader.clicks)
    stale = sum(max(r.lists, default=-1) != r.clicks[-1][0] for r in readers.values())
    changelog: dict[tuple[int, bytes], bytes] = {}
    for record in stage.read("taste-changelog"):
        changelog[record.partition, record.key] = record.value
    replayed = _replayed(stage, clicks, dead)
    differing = sum(changelog.get(key) != value for key, value in replayed.items())
    return {
        "clicks_missing_or_twice": 0
        if logged == list(range(len(order)))
        else abs(len(logged) - len(order)) or 1,
        "last_list_is_not_last_click": stale,
        "states_compared": len(replayed),
        "states_that_differ": differing + len(changelog.keys() - replayed.keys()),
    }


def _replayed(stage: Stage, clicks: list[Any], dead: set[tuple[int, int]]) -> dict[tuple[int, bytes], bytes]:
    """(partition, user) -> state after a plain fold of the log from nothing."""
    taste, decode = stage.settings.taste, msgspec.json.Decoder(Click).decode
    states: dict[tuple[int, bytes], bytes] = {}
    for partition in sorted({record.partition for record in clicks}):
        mine = [r for r in clicks if r.partition == partition and (partition, r.offset) not in dead]
        events = [decode(record.value) for record in mine]
        index = ItemIndex(dim=taste.dim, max_items=taste.max_items)
        rows = UserRows(index, half_lives_s=taste.half_lives_s, ring=taste.ring)
        kinds = actions.codes_of(event.kind for event in events)
        dwell_s = np.array([np.nan if e.dwell_s is None else e.dwell_s for e in events])
        rows.fold(
            [event.user for event in events],
            index.lookup([event.item for event in events]),
            kinds,
            actions.weights_of(kinds, dwell_s),
            np.array([event.at for event in events], np.int64),
            np.array([record.offset for record in mine], np.int64),
        )
        users = rows.users()
        values = rows.encode(rows.rows_of(users))
        states |= {(partition, user.encode()): value for user, value in zip(users, values, strict=True)}
    return states


class _Popularity:
    """The script's own rival: the most clicked items so far, in the file's order, one count table for all."""

    def __init__(self, readers: dict[str, _Reader]) -> None:
        names = sorted({click.item for reader in readers.values() for *_, click in reader.clicks})
        self._items = {name: n for n, name in enumerate(names)}
        self._counts = np.zeros(len(names), np.int64)
        self._had = {user: np.zeros(len(names), np.bool_) for user in readers}

    def ranks(self, click: Click) -> tuple[float, float]:
        """The item's rank from 0, ties in their middle: among all items, and among those new to the reader."""
        item, counts = self._items[click.item], self._counts
        better, ties = counts > counts[item], counts == counts[item]
        new = ~self._had[click.user]
        everywhere = better.sum() + (ties.sum() - 1) / 2
        return everywhere, (better & new).sum() + ((ties & new).sum() - 1) / 2

    def learn(self, click: Click) -> bool:
        """Whether the item was new to the reader."""
        item = self._items[click.item]
        new = not self._had[click.user][item]
        self._counts[item] += 1
        self._had[click.user][item] = True
        return bool(new)


def _quality(readers: dict[str, _Reader], recording: Recording, total: int) -> dict[str, Any]:
    start = recording.start if recording.start >= 1 else recording.start * total
    movies = recording.form == "movielens"
    popularity = _Popularity(readers)
    stream = sorted(
        (place, user, nth) for user, r in readers.items() for nth, (*_, place, _) in enumerate(r.clicks)
    )
    begun = {user: sorted(reader.lists) for user, reader in readers.items()}
    tallies: defaultdict[str, _Tally] = defaultdict(_Tally)
    behind: list[int] = []
    had: defaultdict[str, set[str]] = defaultdict(set)
    places = repeated = without = 0
    for place, user, nth in stream:
        reader = readers[user]
        offset, at_ms, _, click = reader.clicks[nth]
        everywhere, among_new = popularity.ranks(click)
        new = popularity.learn(click)
        had[user].add(click.item)
        if offset in reader.lists:
            places += len(reader.lists[offset][1])
            repeated += sum(item in had[user] for item in reader.lists[offset][1])
        if nth == 0 or place < start:
            continue
        known = begun[user]
        newest = bisect_left(known, offset) - 1
        newest_of_all = newest
        known_fresh = newest >= 0 and known[newest] == reader.clicks[nth - 1][0]
        listed = reader.lists[known[newest]][1] if newest >= 0 else []
        if newest >= 0:
            behind.append(sum(known[newest] < c[0] < offset for c in reader.clicks[max(0, nth - 64) : nth]))
        while newest >= 0 and reader.lists[known[newest]][0] > at_ms:
            newest -= 1
        on_time = reader.lists[known[newest]][1] if newest >= 0 else []
        row = (
            listed.index(click.item) if click.item in listed else np.inf,
            on_time.index(click.item) if click.item in on_time else np.inf,
            among_new if movies else everywhere,
        )
        without += newest_of_all < 0
        tallies["every rating" if movies else "every click"].add(user, row)
        if known_fresh and (movies or new):
            name = "every rating" if movies else "items new to the visit"
            tallies[f"{name}, the click before has a list"].add(user, (*row[:2], among_new))
        if movies and click.kind == "like":
            tallies["ratings of 4 and 5"].add(user, row)
        if not movies and new:
            tallies["items new to the visit"].add(user, (*row[:2], among_new))
    return {
        "scored_without_a_list": without,
        "listed_but_had_already": round(repeated / max(places, 1), 4),
        "clicks_behind": {
            "mean": round(sum(behind) / len(behind), 2),
            "none": round(behind.count(0) / len(behind), 3),
        }
        if behind
        else None,
        "quality": {name: tally.figures() for name, tally in tallies.items()},
    }


@dataclass(slots=True)
class _Tally:
    """Ranks of the clicked items: in the served list, in the list served by then, by popularity."""

    rows: defaultdict[str, list[tuple[float, float, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add(self, user: str, row: tuple[float, float, float]) -> None:
        self.rows[user].append(row)

    def figures(self) -> dict[str, Any]:
        scored = [len(rows) for rows in self.rows.values()]
        figures: dict[str, Any] = {"scored": sum(scored)}
        for column, name in enumerate(("served", "served_by_the_clock", "popularity")):
            for top in TOPS:
                hits = [sum(row[column] < top for row in rows) for rows in self.rows.values()]
                figures[f"{name}_hit_at_{top}"] = ratio(hits, scored)
        return figures
