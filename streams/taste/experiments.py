"""Experiments on lists: which readers get which variant, two variants in one list, and whose the clicks are.

The numbers are in `models.experiments`; settings, names and metrics are here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.experiments import arms
from models.experiments.credit import Credits
from models.experiments.interleave import team_draft
from models.taste import actions
from models.taste.lists.explore import draws
from models.taste.lists.request import ListSettings
from streams.events import Recommended
from streams.observe.catalogue import Metrics
from streams.sections.experiments import Experiment
from streams.sections.taste import Listing

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

SALT = 2  # coins of interleaving know nothing of what is explored or sampled

Make = Callable[[I64, ListSettings], list[list[Recommended]]]
"""The lists of readers by place, as these settings make them."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One arm of one experiment."""

    experiment: str
    arm: str
    settings: ListSettings
    place: tuple[int, int]  # of the experiment, and of the arm in it


@dataclass(frozen=True, slots=True)
class Published:
    """One reader's list, and what the recommendation says of it."""

    items: list[Recommended]
    experiment: str | None = None
    arm: str | None = None


class Experiments:
    """All experiments of a worker, in the order of the settings."""

    def __init__(
        self,
        settings: Mapping[str, Experiment],
        base: Listing,
        made_of: Callable[[Listing], ListSettings],
        remembered: int,
        metrics: Metrics,
    ) -> None:
        self._base = made_of(base)
        self._metrics = metrics
        self._plans = [
            arms.Experiment(
                name,
                one.salt or name,
                tuple(arm.name for arm in one.arms),
                tuple(arm.weight for arm in one.arms),
                one.share,
            )
            for name, one in settings.items()
        ]
        self.variants = [
            [
                Variant(
                    name,
                    arm.name,
                    made_of(Listing.model_validate({**base.model_dump(), **arm.list})),
                    (number, nth),
                )
                for nth, arm in enumerate(one.arms)
            ]
            for number, (name, one) in enumerate(settings.items())
        ]
        self._interleaved = [one.show == "interleaved" for one in settings.values()]
        self._credits = Credits(remembered)

    def __bool__(self) -> bool:
        return bool(self._plans)

    def groups(self, users: Sequence[str]) -> list[tuple[I64, list[Variant]]]:
        """Readers by place, with the variants that they see: none, one, or two of an interleaved list."""
        which, drawn = arms.place(self._plans, users)
        found: list[tuple[I64, list[Variant]]] = [(np.flatnonzero(which < 0), [])]
        for number, variants in enumerate(self.variants):
            if self._interleaved[number]:
                found.append((np.flatnonzero(which == number), variants))
                continue
            for arm, variant in enumerate(variants):
                found.append((np.flatnonzero((which == number) & (drawn == arm)), [variant]))
        return [(places, variants) for places, variants in found if len(places)]

    def settings_of(self, user: str) -> ListSettings:
        """What a reader's lists are made with; for one of interleaved lists, what they would be without."""
        for _, variants in self.groups([user]):
            if len(variants) == 1:
                return variants[0].settings
        return self._base

    def lists(
        self, users: Sequence[str], partitions: I32, offsets: I64, size: int, make: Make
    ) -> list[Published]:
        """A list for each reader, caused by the record at `partitions`, `offsets`; (n,) each."""
        if not self:
            return [Published(items) for items in make(np.arange(len(users)), self._base)]
        found: list[Published | None] = [None] * len(users)
        for places, variants in self.groups(users):
            made = [make(places, variant.settings) for variant in variants]
            if not variants:
                some = [Published(items) for items in make(places, self._base)]
            elif len(variants) == 1:
                some = [Published(items, variants[0].experiment, variants[0].arm) for items in made[0]]
            else:
                coins = draws(partitions[places], offsets[places], SALT)
                some = _interleaved(variants, made[0], made[1], coins, size)
            for place, one in zip(places.tolist(), some, strict=True):
                found[place] = one
            self._remember([users[place] for place in places.tolist()], partitions[places], variants, some)
        return [one for one in found if one is not None]

    def credit(self, users: Sequence[str], items: Sequence[str], kinds: I8, applied: Bools) -> None:
        """Points for the clicks of a group, in its order, before its lists are made."""
        if not self:
            return
        chosen = np.flatnonzero(applied & actions.is_positive(kinds)).tolist()
        which, _ = arms.place(self._plans, [users[place] for place in chosen])
        for place, experiment in zip(chosen, which.tolist(), strict=True):
            if experiment < 0:
                continue
            found = self._credits.click(users[place], items[place])
            if found is None or found[0] != experiment:
                self._metrics.arm_uncredited.labels(self._plans[experiment].name).inc()
                continue
            variant = self.variants[experiment][found[1]]
            self._metrics.arm_clicks.labels(variant.experiment, variant.arm).inc()

    def forget(self, user: str) -> None:
        """Forget one reader's list."""
        self._credits.forget(user)

    def drop(self, partition: int) -> None:
        """Forget the lists of a partition's readers."""
        self._credits.drop(partition)

    def _remember(
        self, users: Sequence[str], partitions: I32, variants: Sequence[Variant], lists: Sequence[Published]
    ) -> None:
        if not variants:
            return
        for variant in variants:
            self._metrics.arm_lists.labels(variant.experiment, variant.arm).inc(len(lists))
        arm_of = {variant.arm: variant.place[1] for variant in variants}
        experiment = variants[0].place[0]
        for user, partition, one in zip(users, partitions.tolist(), lists, strict=True):
            shown = {item.item: arm_of.get(one.arm or item.team or "") for item in one.items}
            self._credits.show(user, partition, experiment, shown)


def _interleaved(
    variants: Sequence[Variant],
    first: list[list[Recommended]],
    second: list[list[Recommended]],
    coins: NDArray[np.float64],
    size: int,
) -> list[Published]:
    numbers: dict[str, int] = {}
    columns = []
    for made in (first, second):
        column = np.full((len(made), size), -1, np.int32)
        for place, items in enumerate(made):
            column[place, : len(items)] = [numbers.setdefault(one.item, len(numbers)) for one in items]
        columns.append(column)
    drafted = team_draft(columns[0], columns[1], coins, size)
    names = (variants[0].arm, variants[1].arm, None)  # the last one is NO_TEAM, -1
    found = []
    for place, (origins, teams, at) in enumerate(
        zip(drafted.origins.tolist(), drafted.teams.tolist(), drafted.places.tolist(), strict=True)
    ):
        items = [
            msgspec.structs.replace((first, second)[origin][place][nth], team=names[team])
            for origin, team, nth in zip(origins, teams, at, strict=True)
            if origin >= 0
        ]
        found.append(Published(items, variants[0].experiment))
    return found
