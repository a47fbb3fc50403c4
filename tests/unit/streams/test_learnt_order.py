"""The learnt order in a worker: its meter is that of an evaluation of the same clicks, and what it knows comes back
from readers' rings."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_up_clicks import recording
from models.evaluate import summary
from models.evaluate.listed import Listed, ListedSettings
from models.evaluate.prequential import Judge, Run
from models.evaluate.protocols import plan
from models.evaluate.recording import Recording
from models.evaluate.served import ServedSettings
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.learnt.knowledge import NAMES, Past
from models.taste.lists.explore import draws
from models.taste.lists.ordering import Ordering, OrderSettings
from models.taste.lists.pipeline import lists
from models.taste.lists.request import Requests
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows
from running import until
from streams.observe.catalogue import Metrics
from streams.observe.quality import BlendMetrics, QualityMetrics
from streams.sections.taste import Blend, Listing, Quality
from streams.settings import Settings
from streams.taste.beside import _ordering
from streams.taste.experiments import Experiments
from streams.taste.learning import Learning
from streams.taste.maker import list_settings
from streams.taste.quality import LiveQuality, Served

TOP = 5
READERS, ITEMS, EVENTS = 10, 24, 200


class Still:
    """A clock that stands."""

    def monotonic_s(self) -> float:
        return 0.0

    def wall_ms(self) -> int:
        return 0


class Worker:
    """What the clicks agent does with each click, without Kafka: judge, fold, learn, make the list."""

    def __init__(self, listing: Listing, file: Path | None = None, anonymous: Sequence[str] = ()) -> None:
        self.index = ItemIndex()
        self.users, self.table = UserRows(self.index), ItemTable(self.index)
        self.columns, self.catalogue = ItemColumns(self.index, 1, keep=100), Catalogue(self.index)
        self.how = list_settings(listing)
        ordering = Ordering(OrderSettings(own_first=listing.own_first))
        metrics = Metrics("test")

        def without(partitions: Any, users: Sequence[str]) -> Any:
            return np.array([user in anonymous for user in users], np.bool_)

        self.learning = Learning(
            Blend(sample=1), self.users, without, file, 1.0, BlendMetrics(metrics), ordering
        )
        served = Served(self.users, self.table, self.catalogue, self.how, TOP, ordering=ordering)
        none = Experiments({}, Listing(), list_settings, 1, metrics)
        quality = Quality(sample=1, top=TOP, half_life_events=np.inf, time_share=1)
        self.quality = LiveQuality(quality, served, none, QualityMetrics(metrics), Still())
        self.metrics = metrics

    @property
    def known(self) -> Any:
        assert self.learning.ordering is not None
        return self.learning.ordering.known

    def play(self, given: Recording, group: int = 1, first: int = 0, until: int = EVENTS) -> None:
        for start in range(first, until, group):
            numbers = np.arange(start, min(start + group, until))
            rows = self.users.rows_of([str(user) for user in given.users[numbers].tolist()])
            items = self.index.lookup([given.item_names[item] for item in given.items[numbers].tolist()])
            kinds, weights, at_ms = given.kinds[numbers], given.weights[numbers], given.at_ms[numbers]
            nowhere = np.zeros(len(numbers), np.int32)
            self.quality.judge(rows, items, kinds, at_ms, nowhere, numbers)
            folded = self.users.fold_rows(rows, items, kinds, weights, at_ms, numbers, 10)
            self.quality.settle(folded.applied)
            self.learning.chosen(rows, items, kinds, nowhere, folded.applied)
            self.learning.follow(rows, items, kinds, at_ms, nowhere, folded.applied)
            moved = transitions(folded, items, kinds, weights, at_ms, numbers, 0)
            changed = self.columns.fold(moved, moved.source_offsets)
            if len(changed):
                self.table.apply(self.columns.names(changed), list(self.columns.encode(changed, 100)))
            last = folded.last
            made = lists(
                self.table,
                self.catalogue,
                self.users,
                Requests(folded.rows, draws(nowhere[last], numbers[last])),
                int(at_ms.max()),
                TOP,
                self.how,
                ordering=self.learning.ordering,
            )
            self.learning.shown(made.candidates, folded.rows, nowhere[last], numbers[last])


def walkers() -> Recording:
    """Readers who go on to the item behind most of the time, some coming back to what they had."""
    rng = np.random.default_rng(4)
    at, pairs, kinds = rng.integers(0, ITEMS, READERS), [], []
    for reader in rng.integers(0, READERS, EVENTS).tolist():
        chance = rng.random()
        step = 1 if chance < 0.6 else 0 if chance < 0.75 else int(rng.integers(ITEMS))
        at[reader] = (at[reader] + step) % ITEMS
        pairs.append((f"r{reader}", f"i{at[reader]}"))
        kinds.append("skip" if rng.random() < 0.1 else "click")
    names = [f"i{n}" for n in range(ITEMS)]
    return recording(
        pairs, at_ms=list(range(10**12, 10**12 + 7_000 * EVENTS, 7_000)), kinds=kinds, items=names
    )


@pytest.mark.parametrize("own_first", [False, True])
def test_the_meter_of_the_list_is_that_of_an_evaluation_of_the_same_clicks(own_first: bool) -> None:
    given = walkers()
    worker = Worker(Listing(order=True, own_first=own_first))
    worker.index.lookup(given.item_names)  # equal scores stand by index
    worker.play(given)

    stages = list_settings(Listing(order=True, own_first=own_first))
    asked = replace(stages.rank, repeat=False)  # own items that lead may come again all the same
    layer = Listed(given.item_names, ServedSettings(rank=asked), ListedSettings(stages, TOP))
    vectors = np.zeros((len(given.item_names), 1), np.float32)
    todo = plan(given, "next-click" if own_first else "all", share=0.0)
    run = Run(given, todo, [layer])
    (row,) = summary.rows(given, run.score(Judge([layer], ["list"], TOP, vectors)), TOP, seed=1)
    run.advance(len(given))
    means = dict(zip(("recall", "mrr", "ndcg"), worker.quality._means.decayed()[:, -1], strict=True))
    assert worker.quality._means.scored == todo.asked.sum() > 50
    assert means["recall"] == pytest.approx(row.recall[0], abs=1e-12)
    assert means["mrr"] == pytest.approx(row.mrr[0], abs=1e-12)
    assert means["ndcg"] == pytest.approx(row.ndcg[0], abs=1e-12)
    assert layer._ordering is not None and worker.learning.ordering is not None
    assert layer._ordering.encode() == worker.learning.ordering.encode()  # to the last bit
    assert layer._ordering.choices > 60 and means["recall"] > 0.35


def test_what_is_known_comes_back_from_the_rings_and_is_not_counted_twice() -> None:
    given, worker, again = walkers(), Worker(Listing(order=True)), Worker(Listing(order=True))
    for one in (worker, again):
        one.index.lookup(given.item_names)
    for first, last in ((0, EVENTS // 2), (EVENTS // 2, EVENTS), (EVENTS, EVENTS)):  # it comes back twice
        worker.play(given, 9, first, last)
        names = worker.users.users(0)
        again.users.load(names, worker.users.encode(worker.users.rows_of(names)))
        asyncio.run(again.learning.read_back(0))
    past = Past(-1, worker.index.lookup(["i3", "i4"]), np.array([10**12, 10**12]))
    wanted, found = (one.known.scores(past, len(one.index)) for one in (worker, again))
    for name in ("next", "skip", "pair", "follows", "steps"):
        line = NAMES.index(name)
        assert found[line].any()
        np.testing.assert_allclose(found[line], wanted[line], rtol=1e-5, err_msg=name)


def test_what_foretells_what_is_solved_beside_the_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.taste.learnt.knowledge.RIDGE_EVENTS", 120)
    monkeypatch.setattr("streams.taste.learning.SOLVE_S", 0.01)
    given, worker = walkers(), Worker(Listing(order=True))
    worker.play(given, group=20)
    past = Past(-1, worker.index.lookup(["i3"]), np.array([10**12]))

    def foretold() -> Any:
        return worker.known.scores(past, len(worker.index))[NAMES.index("ridge")]

    async def until_solved() -> None:
        assert worker.learning.goes_on
        running = asyncio.create_task(worker.learning.run())
        await until(lambda: bool(foretold().any()), 20, "a solution is taken up")
        running.cancel()

    assert not foretold().any()  # no click waits for it
    asyncio.run(until_solved())
    found, own = foretold(), int(past.items[0])
    assert found[own] == found[0] == 0 < np.delete(found, [0, own]).min()  # nothing foretells itself
    assert worker.known.unsolved() is None


def test_the_weights_outlive_the_worker_and_a_damaged_file_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "test.blend.weights"
    worker = Worker(Listing(order=True), file)
    worker.play(walkers(), group=20)
    asyncio.run(worker.learning.keep())
    again = Worker(Listing(order=True), file)
    asyncio.run(again.learning.start())
    assert again.learning.ordering is not None and worker.learning.ordering is not None
    assert again.learning.ordering.encode() == worker.learning.ordering.encode()
    assert again.learning.ordering.choices > 30
    (order,) = set(tmp_path.iterdir()) - {file}
    order.write_bytes(order.read_bytes()[:-1])
    third = Worker(Listing(order=True), file)
    asyncio.run(third.learning.start())
    assert third.learning.ordering is not None and third.learning.ordering.choices == 0


def test_nothing_is_learnt_of_who_wishes_no_profile() -> None:
    given = walkers()
    worker = Worker(Listing(order=True), anonymous=[str(user) for user in range(READERS)])
    worker.play(given, group=50)
    past = Past(-1, np.array([3, 4], np.int32), np.array([10**12, 10**12]))
    assert not worker.known.scores(past, len(worker.index)).any()
    asyncio.run(worker.learning.read_back(0))
    assert not worker.known.scores(past, len(worker.index)).any()


def test_a_worker_learns_an_order_where_some_reader_is_given_one() -> None:
    def found(**taste: Any) -> Ordering | None:
        return _ordering(Settings.model_validate(taste))

    arms = [{"name": "a"}, {"name": "b", "list": {"order": True, "own_first": True}}]
    in_an_arm = found(experiments={"try": {"arms": arms}})
    assert in_an_arm is not None and in_an_arm._how.own_first
    alone = found(taste={"list": {"order": True}})
    assert alone is not None and not alone._how.own_first
    assert found() is None
    assert found(taste={"list": {"order": True, "profile": "off"}}) is None
