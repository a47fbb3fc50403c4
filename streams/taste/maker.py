"""Lists for the readers who moved, as records: who asks for what, in which arm, with which sources and how much time.

The numbers are `models.taste.lists.pipeline`'s; what a list looks like on the wire is `streams.taste.lists`'.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.learnt.calibrated import Candidates
from models.taste.lists.alike import ContentSource
from models.taste.lists.choose import TOGETHER
from models.taste.lists.explore import draws
from models.taste.lists.pipeline import lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.reasons import Lists
from models.taste.lists.request import ListSettings, Requests
from models.taste.lists.sources import Weighted
from models.taste.readers.users import UserRows
from streams.clock import Clock
from streams.effects import Header
from streams.events import ListWishes, Recommended
from streams.observe.catalogue import Metrics
from streams.sections.taste import Listing, Taste
from streams.taste.beside import Beside
from streams.taste.experiments import Experiments
from streams.taste.learning import Anonymous
from streams.taste.lists import listed_by, named, recommendation, touched
from streams.taste.moved import Moved
from streams.taste.revisions import Revisions
from streams.taste.wishes import requests_of
from streams.topology.topics import CLICKS, RECOMMENDATIONS
from streams.traces import Tracing


def list_settings(listing: Listing) -> ListSettings:
    """The pipeline's settings from the worker's."""
    return ListSettings(
        rank=RankSettings(
            counts=listing.counts,
            taste=listing.taste,
            popularity=listing.popularity,
            walk=listing.walk,
            repeat=listing.repeat or listing.own_first,
        ),
        own_first=listing.own_first,
        candidates=listing.candidates,
        author_decay=listing.author_decay,
        author_floor=listing.author_floor,
        author_most=listing.author_most,
        diversity=listing.diversity,
        calibration=listing.calibration,
        max_age_ms=int(listing.max_age_s * 1000),
        blocked_authors=listing.blocked_authors,
        only_catalogued=listing.only_catalogued,
        blend=listing.blend,
        order=listing.order,
        theta=listing.theta,
        alike=listing.alike,
        explore_below=listing.explore_below,
        explore_place=listing.explore_place,
        ctr0=listing.ctr0,
    )


class ListMaker:
    """Reads the worker's readers, items and catalogue; changes none of them."""

    def __init__(
        self,
        taste: Taste,
        rows: UserRows,
        table: ItemTable,
        catalogue: Catalogue,
        experiments: Experiments,
        revisions: Revisions,
        without_profile: Anonymous,
        beside: Beside,
        metrics: Metrics,
        clock: Clock,
        tracing: Tracing,
    ) -> None:
        self.settings = list_settings(taste.list)
        self._taste = taste
        self._rows = rows
        self._table = table
        self._items = table.items
        self._catalogue = catalogue
        self._experiments = experiments
        self._revisions = revisions
        self._without_profile = without_profile
        self._beside = beside
        self._metrics = metrics
        self._clock = clock
        self._tracing = tracing
        self._content = Weighted(ContentSource(table.contents), taste.list.content)

    def outputs(self, moved: Moved, users: Sequence[str]) -> tuple[list[bytes], list[list[Header]] | None]:
        """A value (and headers) for each reader that moved."""
        last = moved.folded.last
        at_ms = moved.at_ms[last]
        causes = zip(
            users, moved.partitions[last].tolist(), moved.offsets[last].tolist(), at_ms.tolist(), strict=True
        )
        if self._taste.output == "touched":
            return [touched(*cause) for cause in causes], None
        values: list[bytes] = []
        headers: list[list[Header]] = []
        partitions, offsets, late = moved.partitions[last], moved.offsets[last], self._deadline()

        def make(places: NDArray[np.int64], how: ListSettings) -> list[list[Recommended]]:
            asked: dict[int, ListWishes] = {}
            if moved.wishes:
                asked = {
                    i: moved.wishes[at] for i, at in enumerate(last[places].tolist()) if at in moved.wishes
                }
            requests = requests_of(
                moved.folded.rows[places],
                draws(partitions[places], offsets[places]) if how.explore_below else np.zeros(len(places)),
                [users[i] for i in places.tolist()],
                asked,
                self._catalogue,
                self._without_profile(partitions[places], [users[i] for i in places.tolist()]),
                self._beside.barred(moved.folded.rows[places], at_ms[places]),
            )
            requests = replace(requests, asked_ms=at_ms[places])
            found, candidates = self._lists(requests, at_ms[places], how, late)
            self._beside.learning.shown(candidates, requests.rows, partitions[places], offsets[places])
            return found

        started_s = self._clock.monotonic_s()
        model = listed_by(self._revisions.name if self.further() else None)
        made = self._experiments.lists(users, partitions, offsets, self._taste.list_size, make)
        took_s = self._clock.monotonic_s() - started_s
        for cause, one, at in zip(causes, made, last.tolist(), strict=True):
            value, extra = recommendation(*cause, one.items, one.experiment, one.arm, model)
            values.append(value)
            traced = self._tracing.begin(CLICKS, CLICKS, cause[1], moved.records[at])
            traced.step("list", took_s)
            headers.append([*extra, *traced.sending(RECOMMENDATIONS)])
        if self._beside.remembers_lists:
            self._remember(moved.folded.rows, users, partitions, at_ms, [one.items for one in made])
        return values, headers

    def _remember(
        self,
        rows: NDArray[np.int32],
        users: Sequence[str],
        partitions: NDArray[np.int32],
        at_ms: NDArray[np.int64],
        made: Sequence[Sequence[Recommended]],
    ) -> None:
        """What readers with a profile are shown now."""
        names = [item.item for items in made for item in items]
        listed = np.full((len(rows), self._taste.list_size), -1, np.int32)
        counts = np.fromiter(map(len, made), np.int64, len(made))
        listed[np.arange(listed.shape[1]) < counts[:, None]] = self._items.find(names)
        kept = np.flatnonzero(~np.broadcast_to(self._without_profile(partitions, users), len(rows)))
        self._beside.listed(rows[kept], listed[kept], at_ms[kept])

    def _lists(
        self, requests: Requests, at_ms: NDArray[np.int64], how: ListSettings, late: Callable[[], bool]
    ) -> tuple[list[list[Recommended]], list[Candidates]]:
        """A list for each request, at `at_ms` (n,), and what they were chosen from."""
        rows = requests.rows
        found: list[list[Recommended]] = []
        candidates: list[Candidates] = []
        for start in range(0, len(rows), TOGETHER):
            stop = start + TOGETHER
            made = lists(
                self._table,
                self._catalogue,
                self._rows,
                requests.part(start, stop),
                int(at_ms[start:stop].max()),
                self._taste.list_size,
                how,
                late,
                self.further(),
                self._beside.learning.weights,
                self._beside.learning.ordering,
            )
            for stage, count in made.left_out.items():
                self._metrics.stages_left_out.labels(stage).inc(count)
            found += named(made.lists, self._items.names)
            candidates += made.candidates
        return found, candidates

    def now(self, row: int) -> Lists:
        """The list of one reader from the state of this moment, at the time of the reader's newest event: the one
        that was published last, unless the item table has moved on, its click wished for something or it was
        interleaved."""
        rows = np.array([row], np.int32)
        users = self._rows
        numbers = draws(users.partition_of[rows], users.fence[rows])
        anonymous = self._without_profile(users.partition_of[rows], [users.names[row]])
        at_ms = int(users.newest_at_ms[row])
        shown = self._beside.was_barred(rows, users.newest_at_ms[rows])
        requests = requests_of(rows, numbers, [users.names[row]], {}, self._catalogue, anonymous, shown)
        size, how = self._taste.list_size, self._experiments.settings_of(users.names[row])
        return lists(
            self._table,
            self._catalogue,
            users,
            requests,
            at_ms,
            size,
            how,
            further=self.further(),
            learnt=self._beside.learning.weights,
            ordering=self._beside.learning.ordering,
        ).lists

    def _deadline(self) -> Callable[[], bool]:
        """Whether the time for the lists of a group that begins now is spent."""
        clock, budget_s = self._clock, self._taste.list.budget_s
        began_s = clock.monotonic_s()
        return lambda: clock.monotonic_s() - began_s > budget_s

    def further(self) -> Sequence[Weighted]:
        """Sources beside counts, taste and popularity."""
        if self._taste.list.profile == "off":
            return ()
        known = len(self._table.contents) and self._content.weight  # a source costs a pass over all scores
        content = (self._content,) if known else ()
        return (*self._revisions.further, *content, *self._beside.sources)
