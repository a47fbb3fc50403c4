"""What an experiment says, read back from the topics: lists that were published, and the clicks that followed each.

A click is a point for the arm (of an interleaved list: the team) that put the item on the reader's newest list before
that click; once an item and list. `recommendations` is compacted, so of old lists only each reader's newest is left:
how many lists were found is part of the result. Nothing is committed.
"""

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec
import numpy as np

from models.experiments.preference import Preference, Rate, mismatch, preference, rates
from models.taste.actions import CODES, codes_of, is_positive
from streams.errors import UserMistake
from streams.events import Click
from streams.feed.tail import records
from streams.heartbeat import KEY
from streams.settings import Settings
from streams.topology.topics import CLICKS, RECOMMENDATIONS

_GOOD = {kind for kind in CODES if is_positive(codes_of([kind]))[0]}

Reader = tuple[int, str]
"""Partition of topic `clicks`, and user."""


@dataclass(slots=True)
class List:
    """One published list of the experiment."""

    reader: Reader
    offset: int  # of the click that caused it
    arm: str | None  # None: interleaved
    items: dict[str, str | None]  # item -> team, those not yet clicked
    points: dict[str, int] = field(default_factory=dict)  # by arm


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one experiment. `preference` is of the first arm over the second, where lists are interleaved; `rates` by arm
    where they are not."""

    name: str
    arms: tuple[str, ...]
    lists: int
    readers: int
    clicks: dict[str, int]  # points by arm
    beside: int  # clicks of these readers after a list on nothing of it, or on what has no team
    preference: Preference | None
    rates: list[Rate]
    mismatch: float | None = None  # p-value of readers a weight; None where weights are not known


class Join:
    """Lists first, then clicks, partition by partition in the order of their offsets."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: dict[str, int] = {}  # lists by experiment, all of them
        self.without = 0  # lists of readers in none
        self.beside = 0
        self._lists: dict[Reader, dict[int, List]] = {}
        self._offsets: dict[Reader, list[int]] = {}

    def list(self, value: bytes) -> None:
        """A record of `recommendations`; one that was written twice counts once."""
        try:
            given = _recommendation(value)
        except msgspec.DecodeError:
            return
        if given.experiment is None:
            self.without += 1
            return
        self.seen[given.experiment] = self.seen.get(given.experiment, 0) + 1
        if given.experiment != self.name:
            return
        reader, offset = (given.because.partition, given.user), given.because.offset
        items = {item.item: item.team for item in given.items}
        self._lists.setdefault(reader, {})[offset] = List(reader, offset, given.arm, items)

    def click(self, partition: int, offset: int, value: bytes) -> None:
        """A record of `clicks`."""
        try:
            click = _click(value)
        except msgspec.DecodeError:
            return
        reader = (partition, click.user)
        lists = self._lists.get(reader)
        if not lists or click.kind not in _GOOD:
            return
        offsets = self._offsets.get(reader)
        if offsets is None:
            offsets = self._offsets[reader] = sorted(lists)
        place = bisect_left(offsets, offset) - 1
        if place < 0:
            return
        shown = lists[offsets[place]]
        listed = click.item in shown.items
        team = shown.items.pop(click.item, None)
        arm = shown.arm if listed and shown.arm is not None else team
        if arm is None:
            self.beside += 1
            return
        shown.points[arm] = shown.points.get(arm, 0) + 1

    def outcome(self, arms: Sequence[str], seed: int, weights: Sequence[float] = ()) -> Outcome:
        """`arms` in the order of the settings with their `weights`, where they are known. Raises UserMistake where
        there is no list."""
        lists = [one for of_reader in self._lists.values() for one in of_reader.values()]
        if not lists:
            others = ", ".join(f"{name} ({count:,} lists)" for name, count in sorted(self.seen.items()))
            raise UserMistake(
                f"{RECOMMENDATIONS} holds no list of experiment {self.name}; there are {others or 'none of any'}, and "
                f"{self.without:,} lists of readers in none"
            )
        found = {one.arm for one in lists} | {
            team for one in lists for team in (*one.items.values(), *one.points)
        }
        names = (*arms, *sorted(name for name in found if name is not None and name not in arms))
        readers = {reader: number for number, reader in enumerate(self._lists)}
        users = np.array([readers[one.reader] for one in lists], np.int64)
        points = np.array([[one.points.get(arm, 0) for arm in names] for one in lists], np.int64)
        mixed = np.array([one.arm is None for one in lists])
        liking = (
            preference(users[mixed], points[mixed][:, :2], seed) if mixed.any() and len(names) > 1 else None
        )
        by_arm: list[Rate] = []
        if not mixed.all():
            own = np.array([names.index(one.arm) if one.arm is not None else -1 for one in lists])
            by_arm = rates(users[~mixed], own[~mixed], points[~mixed].sum(axis=1), len(names), seed)
        return Outcome(
            name=self.name,
            arms=names,
            lists=len(lists),
            readers=len(readers),
            clicks=dict(zip(names, points.sum(axis=0).tolist(), strict=True)),
            beside=self.beside,
            preference=liking,
            rates=by_arm,
            mismatch=_mismatch(by_arm, weights, seed),
        )


def _mismatch(by_arm: Sequence[Rate], weights: Sequence[float], seed: int) -> float | None:
    """None as well where lists are of arms that the settings do not have (any more)."""
    if not by_arm or len(by_arm) != len(weights):
        return None
    return mismatch(np.array([rate.readers for rate in by_arm], np.int64), np.array(weights), seed)


async def read(settings: Settings, name: str, partitions: dict[str, int], seed: int) -> Outcome:
    """`partitions` of the two topics. Raises KafkaError, UserMistake."""
    join = Join(name)
    lists = records(settings, RECOMMENDATIONS, partitions[RECOMMENDATIONS], from_beginning=True, follow=False)
    async with aclosing(lists):
        async for record in lists:
            if record.value:
                join.list(record.value)
    clicks = records(settings, CLICKS, partitions[CLICKS], from_beginning=True, follow=False)
    async with aclosing(clicks):
        async for record in clicks:
            if record.value and record.key != KEY:
                join.click(record.partition, record.offset, record.value)
    known = settings.experiments.get(name)
    if known is None:
        return join.outcome((), seed)
    return join.outcome(tuple(arm.name for arm in known.arms), seed, tuple(arm.weight for arm in known.arms))


class _Place(msgspec.Struct):
    item: str
    team: str | None = None


class _Because(msgspec.Struct):
    partition: int
    offset: int


class _Recommendation(msgspec.Struct):
    """What is looked at of a list: its reasons are most of its bytes."""

    user: str
    items: list[_Place]
    because: _Because
    experiment: str | None = None
    arm: str | None = None


_recommendation = msgspec.json.Decoder(_Recommendation).decode
_click = msgspec.json.Decoder(Click).decode
