"""The rows of Headrace's own layers are what a worker would serve: same state, same lists, same parts."""

import numpy as np
import pytest

from made_up_clicks import random_pairs, recording
from models.evaluate.recording import Recording
from models.evaluate.served import Served, ServedSettings
from models.taste import actions
from models.taste.best import top_k
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.choose import rank
from models.taste.lists.rank import RankSettings
from models.taste.lists.scores import layer_scores
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

NOW_MS = 300_000
REPEAT = RankSettings(repeat=True)


@pytest.fixture
def clicks() -> Recording:
    return recording(random_pairs(4, 150, users=8, items=30))


@pytest.fixture
def layer(clicks: Recording) -> Served:
    made = Served(clicks.item_names, ServedSettings())
    for number in range(len(clicks)):
        events = list(clicks.events(np.array([number])))
        made.follow(events)
        made.learn(events)
    return made


def worker(clicks: Recording) -> tuple[ItemTable, UserRows]:
    """What a worker holds after these clicks, in one batch, without the evaluation's code."""
    index = ItemIndex()
    items = index.lookup([clicks.item_names[i] for i in clicks.items.tolist()])
    users, n = UserRows(index), len(clicks)
    kinds, ones = np.full(n, actions.CODES["click"], np.int8), np.ones(n, np.float32)
    offsets = np.arange(n)
    folded = users.fold(
        [str(u) for u in clicks.users.tolist()], items, kinds, ones, clicks.at_ms, offsets, window=10
    )
    columns, table = ItemColumns(index, 1, keep=100), ItemTable(index)
    moved = transitions(folded, items, kinds, ones, clicks.at_ms, offsets, 0)
    changed = columns.fold(moved, offsets)
    table.apply(columns.names(changed), list(columns.encode(changed)))
    return table, users


def test_the_blend_is_the_list_that_a_worker_serves(clicks: Recording, layer: Served) -> None:
    table, users = worker(clicks)
    for user in range(8):
        number = int(np.flatnonzero(clicks.users == user)[-1])
        moment = next(clicks.events(np.array([number]))).moment
        scores = layer.scores(type(moment)(user, NOW_MS, moment.history, moment.times_ms))
        lists = rank(table, users, users.rows_of([str(user)]), NOW_MS, 10, REPEAT)

        places, best = top_k(scores[layer.rows.index("blend")][None], 10)
        served = [table.items.names[i] for i in lists.items[0].tolist()]
        assert [clicks.item_names[i] for i in places[0].tolist()] == served
        assert best[0] == pytest.approx(lists.scores[0], rel=1e-4)
        parts = scores[: len(lists.layers[0, 0]), places[0]].T
        assert np.where(np.isfinite(parts), parts, 0) == pytest.approx(lists.layers[0], rel=1e-3, abs=1e-5)


def test_parts_add_up_to_the_score(clicks: Recording) -> None:
    table, users = worker(clicks)
    rows = users.rows_of([str(u) for u in range(8)])
    parts, listable = layer_scores(table, users, rows, NOW_MS, REPEAT)
    lists = rank(table, users, rows, NOW_MS, 10, REPEAT)

    assert listable.tolist() == [False] + [True] * len(clicks.item_names)
    found = np.take_along_axis(parts.sum(axis=0), lists.items.astype(np.int64), axis=1)
    assert found == pytest.approx(lists.scores, rel=1e-5)


def test_what_has_not_come_yet_cannot_be_listed(clicks: Recording) -> None:
    made = Served(clicks.item_names, ServedSettings())
    events = list(clicks.events(np.arange(3)))
    made.follow(events)
    made.learn(events)
    scores = made.scores(clicks.moment(3))

    known = {event.item for event in events}
    for row in ("counts", "taste", "trending", "blend"):
        listed = set(np.flatnonzero(np.isfinite(scores[made.rows.index(row)])).tolist())
        assert listed <= known, row


def test_own_first_puts_the_readers_items_before_all_others_latest_first(
    clicks: Recording, layer: Served
) -> None:
    moment = clicks.moment(len(clicks) - 1)
    own = layer.scores(moment)[layer.rows.index("own-first")]
    latest = list(dict.fromkeys(moment.history[::-1].tolist()))

    assert np.argsort(-own, kind="stable")[: len(latest)].tolist() == latest


def test_an_item_that_was_only_shown_is_not_trending() -> None:
    shown = recording([("a", "x"), ("a", "y"), ("b", "x")], kinds=["click", "impression", "click"])
    made = Served(shown.item_names, ServedSettings())
    events = list(shown.events(np.arange(2)))
    made.follow(events)
    made.learn(events)
    trending = made.scores(shown.moment(2))[made.rows.index("trending")]

    assert np.isfinite(trending).tolist() == [True, False]
