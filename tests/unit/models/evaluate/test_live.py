"""The live meters: the same figures as an evaluation of the same events, a sample, and what is left out."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from made_up_clicks import random_pairs, recording
from models.evaluate import meters, summary
from models.evaluate.live import METERS, TOGETHER, Asked, Means, ask, judge, places
from models.evaluate.parts import ROWS
from models.evaluate.prequential import Judge, Run
from models.evaluate.protocols import Protocol, plan
from models.evaluate.recording import Recording
from models.evaluate.served import Served, ServedSettings
from models.taste.actions import codes_of
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.rank import RankSettings
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

TOP = 3


class Worker:
    """Both sides of a worker without Kafka: events go in by groups, each judged before it is folded."""

    def __init__(self, half_life: float = math.inf, repeats: bool = False) -> None:
        self.index = ItemIndex()
        self.users = UserRows(self.index)
        self.columns = ItemColumns(self.index, 1, keep=100)
        self.table = ItemTable(self.index)
        self.rank = RankSettings(repeat=repeats)
        self.means = Means(len(ROWS), TOP, half_life)
        self.left_out: dict[str, int] = {}
        self.events: list[int] = []

    def play(self, given: Recording, groups: Sequence[NDArray[np.int64]], sampled: NDArray[np.bool_]) -> None:
        for group in groups:
            rows = self.users.rows_of([f"u{user}" for user in given.users[group].tolist()])
            items = self.index.lookup([given.item_names[item] for item in given.items[group].tolist()])
            kinds, weights, at_ms = given.kinds[group], given.weights[group], given.at_ms[group]
            fresh = group > self.users.fence[rows]
            asked = ask(self.users, rows, items, kinds, at_ms, fresh, sampled[group], self.rank.repeat)
            asked, ranks = judge(self.table, self.users, asked, self.rank)
            self.means.add(ranks)
            self.events += group[asked.events].tolist()
            for why, count in asked.left_out.items():
                self.left_out[why] = self.left_out.get(why, 0) + count
            folded = self.users.fold_rows(rows, items, kinds, weights, at_ms, group, window=10)
            moved = transitions(folded, items, kinds, weights, at_ms, group, 0)
            changed = self.columns.fold(moved, moved.source_offsets)
            if len(changed):
                self.table.apply(self.columns.names(changed), list(self.columns.encode(changed, 100)))


def made_up(events: int = 400, kinds: bool = True) -> Recording:
    rng = np.random.default_rng(11)
    pairs = random_pairs(5, events, users=20, items=30)
    names = rng.choice(["click", "like", "skip", "impression", "hide"], events, p=[0.6, 0.1, 0.1, 0.15, 0.05])
    return recording(pairs, kinds=names.tolist() if kinds else None)


def offline(given: Recording, protocol: Protocol, settings: RankSettings) -> list[summary.Row]:
    layers = [Served(given.item_names, ServedSettings(rank=settings))]
    vectors = np.zeros((len(given.item_names), 1), np.float32)
    scored = Run(given, plan(given, protocol, share=0.0), layers).score(Judge(layers, ROWS, TOP, vectors))
    return summary.rows(given, scored, TOP, seed=1)


@pytest.mark.parametrize(("protocol", "repeats"), [("all", False), ("next-click", True)])
def test_live_figures_are_those_of_an_evaluation_of_the_same_events(
    protocol: Protocol, repeats: bool
) -> None:
    given = made_up()
    worker = Worker(repeats=repeats)
    worker.play(given, list(np.arange(len(given))[:, None]), np.ones(len(given), np.bool_))

    asked = np.flatnonzero(plan(given, protocol, share=0.0).asked)
    assert worker.events == asked.tolist()
    found = dict(zip(METERS, worker.means.decayed(), strict=True))
    for place, row in enumerate(offline(given, protocol, worker.rank)):
        assert row.layer == ROWS[place]
        assert found["recall"][place] == pytest.approx(row.recall[0], abs=1e-12)
        assert found["mrr"][place] == pytest.approx(row.mrr[0], abs=1e-12)
        assert found["ndcg"][place] == pytest.approx(row.ndcg[0], abs=1e-12)
    assert 0.1 < found["recall"][ROWS.index("blend")] < 1
    np.testing.assert_allclose(worker.means.total() / worker.means.scored, worker.means.decayed())


def test_what_is_not_scored_is_counted_with_its_reason() -> None:
    given = made_up()
    worker = Worker()
    worker.play(given, np.array_split(np.arange(len(given)), 40), np.ones(len(given), np.bool_))

    wanted = plan(given, "all", share=0.0)
    positive = int(np.count_nonzero(given.positive))
    assert worker.left_out["group"] > 10
    assert set(worker.left_out) == {"group", "first", "repeat"}
    assert len(worker.events) + sum(worker.left_out.values()) == positive
    assert set(worker.events) <= set(np.flatnonzero(wanted.asked).tolist())


def test_the_same_sample_is_scored_however_the_stream_is_read_again() -> None:
    given = made_up()
    sampled = np.random.default_rng(3).random(len(given)) < 0.3
    once, again = Worker(), Worker()
    groups = list(np.arange(len(given))[:, None])
    once.play(given, groups, sampled)
    again.play(given, [*groups[:200], *groups[150:]], sampled)  # offsets read twice are below their fence

    assert once.events == again.events and len(once.events) > 30
    assert set(once.events) <= set(np.flatnonzero(sampled).tolist())
    np.testing.assert_array_equal(once.means.decayed(), again.means.decayed())


def test_an_item_that_nobody_chose_before_is_a_miss_in_a_catalogue_of_any_size() -> None:
    given = recording([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")])
    worker = Worker()
    worker.play(given, list(np.arange(4)[:, None]), np.ones(4, np.bool_))

    recall = dict(zip(ROWS, worker.means.total()[0].tolist(), strict=True))
    assert worker.events == [1, 3]
    assert recall["blend"] == 1  # b's y, but not a's, which no list could hold


def test_what_there_is_no_time_for_is_left_out_and_counted() -> None:
    given = made_up(kinds=False)
    worker = Worker()
    worker.play(given, list(np.arange(300)[:, None]), np.zeros(len(given), np.bool_))
    count = 2 * TOGETHER + 5
    rows = worker.users.rows_of([f"u{n % 20}" for n in range(count)])
    new = np.repeat(worker.index.lookup(["new"]), count)
    asked = Asked(np.arange(count), rows, new, np.full(count, 1000), {"first": 2})

    kept, ranks = judge(worker.table, worker.users, asked, worker.rank, late=lambda: True)

    assert kept.left_out == {"first": 2, "time": count - TOGETHER}
    assert ranks.shape == (len(ROWS), TOGETHER) == (len(ROWS), len(kept.events))
    every = judge(worker.table, worker.users, asked, worker.rank)[1]
    assert every.shape == (len(ROWS), count)
    np.testing.assert_array_equal(every[:, :TOGETHER], ranks)


def test_an_events_weight_halves_with_each_half_life_of_further_events() -> None:
    means = Means(1, 10, half_life=4)
    assert np.isnan(means.decayed()).all()
    found = np.where(np.random.default_rng(1).random(50) < 0.5, 2.0, 99.0)[None]
    for start in range(0, 50, 7):
        means.add(found[:, start : start + 7])

    weights = 0.5 ** (np.arange(49, -1, -1) / 4)
    assert means.decayed()[0, 0] == pytest.approx((weights * (found[0] < 11)).sum() / weights.sum())
    assert means.decayed()[1, 0] == pytest.approx(means.decayed()[0, 0] / 2)
    assert means.total()[0, 0] == meters.hits(found, 10).sum() and means.scored == 50
    with pytest.raises(ValueError, match="half-life"):
        Means(1, 10, 0)


def test_places_in_lists() -> None:
    lists = np.array([[5, 7, 9], [5, -1, -1], [1, 2, 3]], np.int32)
    assert places(lists, np.array([9, 7, 1], np.int32)).tolist() == [3, math.inf, 1]
    assert places(lists, np.array([-1, -1, -1], np.int32)).tolist() == [math.inf] * 3


def test_kinds_that_say_nothing_good_are_never_scored() -> None:
    given = made_up(kinds=False)
    worker = Worker()
    worker.play(given, list(np.arange(100)[:, None]), np.zeros(len(given), np.bool_))
    rows = worker.users.rows_of(["u1", "u2"])
    every = np.ones(2, np.bool_)
    asked = ask(
        worker.users,
        rows,
        np.array([1, 1], np.int32),
        codes_of(["skip", "undo"]),
        np.zeros(2, np.int64),
        every,
        every,
        False,
    )
    assert not len(asked.events) and asked.left_out == {}
