"""The learnt order as it is served: candidates of its own behind the filters, shares that add up, what it learns from
choices, and a state that is kept."""

from dataclasses import replace

import numpy as np
import pytest

from models.errors import BadInput
from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.learnt.knowledge import NAMES, Knowledge
from models.taste.learnt.reranker import RerankSettings
from models.taste.lists.barred import Barred
from models.taste.lists.ordering import OWN, PARTS, SOURCES, Ordering, OrderSettings, _features
from models.taste.lists.sources import Parts
from models.taste.readers.past import Past, came, pasts_of
from models.taste.readers.users import UserRows

CLICK, UNDO, SKIP = (actions.CODES[name] for name in ("click", "undo", "skip"))
LAYERS = ("counts", "taste", "popularity")
NETWORK = RerankSettings(candidates=200, hidden=8, group=4, kept=64, rate=0.01)
ITEMS = 30


class Shop:
    """Readers who go round in circles: from item i to i + 1 of ITEMS."""

    def __init__(self, readers: int = 12, length: int = 6, own_first: bool = False) -> None:
        self.users = UserRows(ItemIndex())
        self.items = self.users.items.lookup([f"i{n}" for n in range(ITEMS)])
        self.ordering = Ordering(OrderSettings(own_first=own_first, network=NETWORK))
        self.at_ms, self.offset = 1_700_000_000_000, 0
        for step in range(length):
            for reader in range(readers):
                self.click(reader, (2 * reader + step) % ITEMS)

    def click(self, reader: int, item: int) -> None:
        rows = self.users.rows_of([f"u{reader}"])
        items, kinds = self.items[[item]], np.array([CLICK], np.int8)
        at_ms, offsets = np.array([self.at_ms]), np.array([self.offset])
        folded = self.users.fold_rows(rows, items, kinds, np.ones(1, np.float32), at_ms, offsets, 10)
        for past, came_to, then_ms in came(self.users, rows, items, kinds, at_ms, folded.applied):
            self.ordering.known.learn(past, came_to, then_ms)
        self.at_ms, self.offset = self.at_ms + 60_000, self.offset + 1

    def weighed(self, reader: int, barred: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        """Candidates, what they are made of, and what is learnt from."""
        rows = self.users.rows_of([f"u{reader}"])
        pairs = np.array([(0, self.items[item]) for item in barred], np.int64).reshape(-1, 2)
        best = np.full((1, 4), -1, np.int32)
        best[0, :2] = self.items[[20, 21]]
        proposed = self.ordering.propose(self.users, rows, best, Barred(np.array([0]), (pairs,)))
        parts = np.zeros((1, proposed.items.shape[1], 3), np.float32)
        parts[0, :2, 0] = 0.5, 0.25
        found, candidates = self.ordering.weigh(rows, proposed, LAYERS, parts, np.ones(1, np.bool_))
        held = proposed.items[0] >= 0
        return proposed.items[0][held], found[0][held], candidates.parts[0][held]


def test_what_followed_is_proposed_and_nothing_that_is_barred() -> None:
    shop = Shop()
    items, _, _ = shop.weighed(0)
    assert items[:2].tolist() == shop.items[[20, 21]].tolist()  # the plain score's
    assert {shop.items[6], shop.items[7], shop.items[5]} <= set(
        items.tolist()
    )  # what follows; the reader's own
    assert len(set(items.tolist())) == len(items)
    without = shop.weighed(0, barred=(6, 5, 4))[0]
    assert set(items.tolist()) - set(without.tolist()) == set(shop.items[[6, 5, 4]].tolist())


def test_the_best_of_a_sequence_model_are_candidates_and_nothing_that_is_barred() -> None:
    shop = Shop()
    rows = shop.users.rows_of(["u0"])
    first, second, third = shop.users.items.lookup(
        ["new", "newer", "newest"]
    ).tolist()  # that nobody took yet
    scores = np.zeros((1, len(shop.users.items)), np.float32)
    scores[0, [first, second, third]] = 1.0, 0.5, 0.25
    barred = Barred(np.array([0]), (np.array([(0, second)], np.int64),))
    best = shop.items[[20]][None]
    for names, added in ((("sequence",), {first, third}), (("content",), set())):
        sources = Parts(names, (scores,))
        without, found = (
            set(shop.ordering.propose(shop.users, rows, best, barred, None, *more).items[0].tolist())
            for more in ((), (sources,))
        )
        assert found - without == added


def test_how_long_ago_the_last_choice_was_is_known_where_somebody_asks_later() -> None:
    """At the time of that choice nothing changes at all; weights that are learnt for a pause serve after one."""
    shop = Shop()
    rows, best = shop.users.rows_of(["u0"]), shop.items[[20, 21]][None]
    last_ms = int(shop.users.newest_at_ms[rows[0]])
    barred = Barred(np.array([0]), (np.empty((0, 2), np.int64),))

    def weighed(asked_ms: int | None) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
        asked = None if asked_ms is None else np.array([asked_ms])
        proposed = shop.ordering.propose(shop.users, rows, best, barred, None, Parts(), asked)
        parts = np.zeros((1, proposed.items.shape[1], 3), np.float32)
        parts[0, :2, 0] = 0.5, 0.25
        found, looked = shop.ordering.weigh(rows, proposed, LAYERS, parts, np.ones(1, np.bool_))
        held = int((proposed.items >= 0).sum())
        return found[0, :held], looked.parts[0, :held]

    day_ms = 86_400_000
    for asked_ms in (last_ms, last_ms - day_ms, last_ms + 999):
        for one, other in zip(weighed(None), weighed(asked_ms), strict=True):
            assert one.tobytes() == other.tobytes() or asked_ms == last_ms + 999
    at_once, later = weighed(last_ms)[0], weighed(last_ms + day_ms)[0]
    np.testing.assert_array_equal(at_once, later)  # nothing is learnt yet
    looked = weighed(last_ms + day_ms)[1]
    for _ in range(30):
        shop.ordering.learn((), looked, 1, np.ones(len(looked), np.bool_))
    gained = [weighed(last_ms + gap_ms)[0][:, :-1].sum(axis=1) for gap_ms in (0, day_ms)]
    assert gained[1][1] - gained[1][0] > gained[0][1] - gained[0][0]


def test_shares_are_never_below_nothing_and_the_least_adjustment_is_nothing() -> None:
    shop = Shop(own_first=True)
    rng = np.random.default_rng(2)
    for _ in range(40):
        items, found, looked = shop.weighed(int(rng.integers(12)))
        assert found.min() >= 0 and found[:, -1].min() == 0
        assert found.shape[1] == len(LAYERS) + len(SOURCES)
        shop.ordering.learn((), looked, int(rng.integers(len(items))), np.ones(len(items), np.bool_))
    assert found[:, -1].max() > 0 and shop.ordering.choices == 40


def test_own_items_lead_where_that_is_set_until_readers_choose_others() -> None:
    shop = Shop(own_first=True)
    items, found, looked = shop.weighed(0)
    order = items[np.argsort(-found.sum(axis=1), kind="stable")]
    assert order[:3].tolist() == shop.items[[5, 4, 3]].tolist()
    for _ in range(60):
        for reader in range(6):
            items, _, looked = shop.weighed(reader)
            (place,) = np.flatnonzero(items == shop.items[(2 * reader + 6) % ITEMS])
            shop.ordering.learn((), looked, int(place), np.ones(len(items), np.bool_))
    items, found, _ = shop.weighed(0)
    assert items[found.sum(axis=1).argmax()] == shop.items[6]
    items, found, _ = shop.weighed(9)  # of whose choices nothing was learnt
    assert items[found.sum(axis=1).argmax()] == shop.items[(2 * 9 + 6) % ITEMS]


def test_weights_that_would_fall_below_nothing_stay_there() -> None:
    """Readers take what the parts speak against: what is learnt is what serves."""
    shop = Shop()
    for nth in range(60):
        items, _, looked = shop.weighed(nth % 12)
        worst = int(looked[:, : len(PARTS)].sum(axis=1).argmin())
        shop.ordering.learn((), looked, worst, np.ones(len(items), np.bool_))
    shared = shop.ordering._blend.weights[: shop.ordering._blend.features]
    assert shared.min() == 0 < shared.max()


def test_a_step_from_one_choice_is_bounded() -> None:
    shop = Shop()
    before = shop.ordering._blend.weights.copy()
    items, _, looked = shop.weighed(3)
    shop.ordering.learn((), looked, len(items) - 1, np.ones(len(items), np.bool_))
    moved = np.abs(shop.ordering._blend.weights - before)
    assert 0 < moved.max() <= OrderSettings().rate


def test_the_network_learns_from_what_it_would_have_looked_at_alone() -> None:
    """A choice that stood behind its best candidates would tell it that such are chosen, and nothing that they are not;
    the blend learns from it."""
    shop = Shop()
    few = Ordering(OrderSettings(network=RerankSettings(candidates=3, hidden=8, group=1, kept=8)))
    items, _, looked = shop.weighed(3)
    assert len(items) > 5
    looked_at = looked.astype(np.float32)
    features, _, where = _features(looked_at[:, : len(PARTS)].T, looked_at[:, len(PARTS) :])
    best = few._best_by(few._weights(where) @ features).tolist()
    behind = next(place for place in range(len(items)) if place not in best)
    before = few._blend.weights.copy()
    few.learn((), looked, behind, np.ones(len(items), np.bool_))
    assert (few.choices, few._network.choices) == (1, 0) and not np.array_equal(before, few._blend.weights)


def test_the_state_is_kept_and_what_is_none_is_refused_as_a_whole() -> None:
    shop, again = Shop(), Ordering(OrderSettings(network=NETWORK))
    first = again.encode()
    for reader in range(8):
        items, _, looked = shop.weighed(reader)
        shop.ordering.learn((), looked, 1, np.ones(len(items), np.bool_))
    value = shop.ordering.encode()
    for wrong in (b"", value[:-1], value + b"x", value[:-4] + b"\xff\xff\xff\xff", b"\0" * len(value)):
        with pytest.raises(BadInput):
            again.load(wrong)
        assert again.encode() == first
    again.load(value)
    assert again.encode() == value != first and again.choices == 8


def test_readers_pasts_are_those_of_their_rings_before_each_event_of_a_group() -> None:
    shop = Shop(readers=2, length=2)
    rows = shop.users.rows_of(["u0", "u1", "u0", "u0"])
    items, kinds = shop.items[[9, 8, 7, 6]], np.array([CLICK, CLICK, SKIP, CLICK], np.int8)
    at_ms = shop.at_ms + np.arange(4)
    applied = shop.users.fold_rows(
        rows, items, kinds, np.ones(4, np.float32), at_ms, 100 + np.arange(4), 10
    ).applied
    found = [
        (past.reader, past.items.tolist(), item)
        for past, item, _ in came(shop.users, rows, items, kinds, at_ms, applied)
    ]
    own = [shop.items[[0, 1]].tolist(), shop.items[[2, 3]].tolist()]
    assert found == [
        (rows[0], own[0], items[0]),
        (rows[1], own[1], items[1]),
        (rows[0], [*own[0], items[0]], items[3]),
    ]
    kinds[3] = UNDO
    again = applied & (rows == rows[0])
    assert not list(came(shop.users, rows, items, kinds, at_ms, again))


def test_nothing_is_looked_at_of_who_wishes_no_profile() -> None:
    shop = Shop(readers=2)
    rows = shop.users.rows_of(["u0", "u1"])
    first, second = pasts_of(shop.users, rows, np.array([True, False]))
    assert not len(first.items) and len(second.items) == 6


def test_a_forgotten_reader_is_nobodys_neighbour_and_no_visit() -> None:
    known = Knowledge()
    nothing = Past(1, np.empty(0, np.int32), np.empty(0, np.int64))
    for nth, item in enumerate((5, 6, 7)):
        past = Past(1, np.arange(5, 5 + nth, dtype=np.int32), np.full(nth, 1000))
        known.learn(past, item, 2000 + nth)
    asks = Past(2, np.array([5], np.int32), np.array([3000]))
    about = [NAMES.index(name) for name in ("readers", "alongside", "alike", "fresh", "after")]
    assert known.scores(asks, 10)[about].any(axis=1).all()
    known.forget([1, 99])
    assert not known.scores(asks, 10)[about].any()
    assert known.scores(asks, 10)[NAMES.index("next"), 6] > 0  # a count, which names nobody
    known.learn(nothing, 5, 4000)  # the row is another reader's now
    assert known.bytes_used() > 0


def test_parts_and_sources_name_each_part_once() -> None:
    named = [part for parts in SOURCES.values() for part in parts]
    assert sorted(named) == sorted(NAMES) and len(set(PARTS)) == len(PARTS) and OWN == 9


def test_the_network_orders_no_more_candidates_than_it_learns_from() -> None:
    """Behind the best by the blend stands what no choice ever spoke against: it may not come out on top."""
    shop = Shop()
    how = replace(NETWORK, candidates=4)
    shop.ordering = Ordering(OrderSettings(network=how))
    for reader in range(12):
        for past in pasts_of(shop.users, shop.users.rows_of([f"u{reader}"])):
            for nth in range(1, len(past.items)):
                before = Past(past.reader, past.items[:nth], past.times_ms[:nth])
                shop.ordering.known.learn(before, int(past.items[nth]), int(past.times_ms[nth]))
    for turn in range(200):
        items, found, looked = shop.weighed(turn % 12)
        assert len(items) > 8
        assert np.count_nonzero(found[:, -1]) <= how.candidates
        best = np.argsort(-found[:, :-1].sum(axis=1), kind="stable")[: how.candidates]
        assert set(np.flatnonzero(found[:, -1])) <= set(best.tolist())
        shop.ordering.learn((), looked, int(best[turn % 2]), np.ones(len(items), np.bool_))
    assert found[:, -1].max() > 0
