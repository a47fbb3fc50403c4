"""Lists over random settings: nothing barred is ever listed, whatever its source, and parts add up to scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.taste import actions
from models.taste.index import ItemIndex, hash_of
from models.taste.items.catalogue import Catalogue, Entry
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.learnt.calibrated import Calibrated
from models.taste.learnt.reranker import RerankSettings
from models.taste.lists.choose import rank
from models.taste.lists.explore import draws
from models.taste.lists.filters import Wishes
from models.taste.lists.ordering import SOURCES, Ordering, OrderSettings
from models.taste.lists.pipeline import Made, lists
from models.taste.lists.rank import RankSettings
from models.taste.lists.request import ListSettings, Requests
from models.taste.readers.past import Past, pasts_of
from models.taste.readers.transitions import transitions
from models.taste.readers.users import UserRows

START_MS = 1_700_000_000_000
NOW_MS = START_MS + 3_000_000
READERS, ITEMS, AUTHORS = 100, 300, 30


class World:
    """Readers and items with a history, and a catalogue over some of the items."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.index = ItemIndex()
        self.users, self.table = UserRows(self.index, ring=32), ItemTable(self.index)
        self.catalogue = Catalogue(self.index)
        columns, n = ItemColumns(self.index, 1), 4_000
        items = self.index.lookup([f"i{min(i, ITEMS - 1)}" for i in rng.geometric(0.02, n).tolist()])
        names = ("click", "click", "click", "like", "skip", "hide", "impression")
        kinds = actions.codes_of(rng.choice(names, n).tolist())
        weights = actions.weights_of(kinds, np.zeros(n))
        at_ms = START_MS + np.sort(rng.integers(0, 3_000_000, n))
        readers = [f"u{u}" for u in rng.integers(0, READERS, n).tolist()]
        hid = np.flatnonzero(kinds == actions.CODES["hide"]).tolist()
        self.hid = [(readers[at], int(items[at])) for at in hid]
        self.blocked = {(readers[at], f"a{at % AUTHORS}") for at in hid if at % 7 == 0}
        authors = {at: hash_of(f"a{at % AUTHORS}") for at in hid if at % 7 == 0}
        folded = self.users.fold(readers, items, kinds, weights, at_ms, np.arange(n), 10, authors=authors)
        found = transitions(folded, items, kinds, weights, at_ms, np.arange(n), 0)
        changed = columns.fold(found, np.arange(len(found.items)))
        self.table.apply(columns.names(changed), list(columns.encode(changed, 100)))
        self.rows = self.users.rows_of([f"u{u}" for u in range(READERS)])

    def describe(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for item in range(ITEMS + 20):
            if rng.random() < 0.8:
                topics = [f"t{t}" for t in rng.integers(0, 6, rng.integers(0, 3)).tolist()]
                author = f"a{rng.integers(0, AUTHORS)}" if rng.random() < 0.9 else None
                published = int(rng.integers(START_MS - 10_000_000, NOW_MS)) if rng.random() < 0.8 else 0
                entry = Entry(author, published, topics, bool(rng.random() < 0.9))
                self.catalogue.apply([f"i{item}"], [entry])

    def requests(self, seed: int, often: int = 1) -> Requests:
        rng = np.random.default_rng(seed)
        rows = np.tile(self.rows, often)
        places = np.arange(len(rows))
        excluded = np.stack([rng.choice(places, 400), rng.integers(1, ITEMS, 400)], axis=1)
        blocked = np.stack([rng.choice(places, 100), rng.integers(-1, AUTHORS, 100)], axis=1)
        numbers = draws(np.full(len(rows), 3, np.int32), places + 1000 * seed)
        return Requests(rows, numbers, rng.random(len(rows)) < 0.2, Wishes(excluded, blocked))


def barred_by_loops(world: World, requests: Requests, how: ListSettings) -> np.ndarray:  # type: ignore[type-arg]
    """(B, I) by the rules in words, reader by reader."""
    c, size = world.catalogue, len(world.index)
    barred = np.zeros((len(requests.rows), size), np.bool_)
    nobody = {c._authors.get(name, -2) for name in how.blocked_authors}
    for item in range(size):
        old = how.max_age_ms and 0 < c.published_ms[item] < NOW_MS - how.max_age_ms
        there = c.known[item] or (world.table.present[item] and not how.only_catalogued)
        barred[:, item] = not there or not c.available[item] or bool(old) or int(c.author[item]) in nobody
    items, kinds, _ = world.users.recent(requests.rows, world.users.ring)
    for place in range(len(requests.rows)):
        if requests.anonymous is None or not requests.anonymous[place]:
            for item, kind in zip(items[place].tolist(), kinds[place].tolist(), strict=True):
                if item >= 0 and (not how.rank.repeat or actions.KINDS[kind] in ("hide", "report")):
                    barred[place, item] = True
            name = world.users.names[requests.rows[place]]
            barred[place, [item for reader, item in world.hid if reader == name]] = True
            mine = [
                c._authors[author]
                for reader, author in world.blocked
                if reader == name and author in c._authors
            ]
            barred[place] |= np.isin(c.author[:size], mine)
    for place, item in requests.wishes.excluded.tolist():
        if item < size:
            barred[place, item] = True
    for place, author in requests.wishes.blocked.tolist():
        barred[place] |= (c.author[:size] == author) & (author >= 0)
    return barred


def check(world: World, made: Made, barred: np.ndarray, k: int, how: ListSettings) -> int:  # type: ignore[type-arg]
    """No barred item, none twice, no gap, exact parts, no crowd of one author. Returns the number of items listed."""
    found = made.lists
    held = found.items >= 0
    assert found.items.shape[1] == k
    assert not (held[:, 1:] & ~held[:, :-1]).any()
    place, nth = np.nonzero(held)
    listed = found.items[place, nth]
    assert not barred[place, listed].any()
    assert len(np.unique(place * barred.shape[1] + listed)) == len(listed)
    parts = found.layers.sum(axis=2) + found.explored
    np.testing.assert_allclose(parts[held], found.scores[held], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.by_past.sum(axis=2), found.layers[..., 0], rtol=2e-5, atol=1e-7)
    assert not parts[~held].any() and not found.scores[~held].any()
    assert ((found.propensity > 0) == (found.explored > 0)).all()
    if how.author_most and world.catalogue.authors:
        authors = np.where(held, world.catalogue.author[np.maximum(found.items, 0)], -1)
        for stretch in range(1, k // 10 + 2):
            head = authors[:, : 10 * stretch]
            alike = (head[:, :, None] == head[:, None, :]) & (head[:, :, None] >= 0)
            assert alike.sum(axis=2).max() <= how.author_most * stretch
    return len(listed)


choices = st.builds(
    ListSettings,
    rank=st.builds(
        RankSettings,
        taste=st.sampled_from([0.0, 0.3]),
        popularity=st.sampled_from([0.0, 0.1]),
        counts=st.booleans(),
        repeat=st.booleans(),
    ),
    candidates=st.sampled_from([5, 40, 100]),
    author_decay=st.sampled_from([0.5, 1.0]),
    author_most=st.sampled_from([0, 1, 2]),
    diversity=st.sampled_from(["none", "mmr", "spread", "expected", "dpp", "calibration"]),
    alike=st.sampled_from(["readers", "topics", "both"]),
    explore_below=st.sampled_from([0.0, 5.0, 1e9]),
    explore_place=st.sampled_from([1, 3, 50]),
    max_age_ms=st.sampled_from([0, 5_000_000]),
    blocked_authors=st.sampled_from([(), ("a3", "a7", "nobody")]),
    only_catalogued=st.booleans(),
    blend=st.booleans(),
    order=st.booleans(),
    own_first=st.booleans(),
)


def learnt(seed: int) -> Calibrated:
    """Weights after choices by chance."""
    rng, weights = np.random.default_rng(seed), Calibrated(rate=0.5)
    for _ in range(10):
        parts = rng.random((30, 3)).astype(np.float32)
        weights.learn(("counts", "taste", "popularity"), parts, int(rng.integers(30)), np.ones(30, np.bool_))
    return weights


def ordering(world: World, seed: int) -> Ordering:
    """That knows what these readers chose, and has learnt from choices by chance."""
    rng, found = np.random.default_rng(seed), Ordering(OrderSettings(network=RerankSettings(240, group=2)))
    for past in pasts_of(world.users, world.rows):
        for nth, item in enumerate(past.items.tolist()):
            before = Past(past.reader, past.items[:nth], past.times_ms[:nth])
            found.known.learn(before, item, int(past.times_ms[nth]))
    how = ListSettings(order=True)
    asked = Requests(world.rows[:10], np.zeros(10))
    made = lists(
        world.table, world.catalogue, world.users, asked, NOW_MS, 20, how, ordering=found
    ).candidates[0]
    for nth in range(10):
        held = made.items[nth] >= 0
        found.learn(made.names, made.parts[nth], int(rng.integers(held.sum())), held)
    return found


ORDERING = ordering(World(), 1)


@settings(max_examples=40, deadline=None)
@given(choices, st.integers(0, 50), st.integers(1, 25), st.booleans(), st.integers(0, 4))
def test_nothing_barred_is_listed_and_parts_add_up(
    how: ListSettings, seed: int, k: int, described: bool, on_time: int
) -> None:
    world = World()
    if described:
        world.describe(seed)
    else:
        how = replace(how, max_age_ms=0, blocked_authors=(), only_catalogued=False)
    requests = world.requests(seed)
    asked: list[bool] = []

    def late() -> bool:
        asked.append(len(asked) >= on_time)
        return asked[-1]

    barred = barred_by_loops(world, requests, how)
    made = lists(
        world.table,
        world.catalogue,
        world.users,
        requests,
        NOW_MS,
        k,
        how,
        late,
        learnt=learnt(seed),
        ordering=ORDERING,
    )
    if how.order and not made.left_out:
        assert made.lists.sources[-len(SOURCES) :] == tuple(SOURCES)
        assert made.lists.layers[..., 3:].min() >= 0
    assert check(world, made, barred, k, how) > 0
    for one in made.candidates:
        place_of = {row: place for place, row in enumerate(requests.rows.tolist())}
        places = np.array([place_of[row] for row in one.rows.tolist()], np.intp)
        held = one.items >= 0
        assert not barred[np.broadcast_to(places[:, None], held.shape)[held], one.items[held]].any()
    assert sum(made.left_out.values()) == READERS * sum(asked)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_learnt_list_of_all_items_begins_with_every_shorter_one(seed: int) -> None:
    """So that what is ranked behind a list's places is what a longer list would hold; and it is the learnt order there,
    too, not the plain one."""
    world = World(seed)
    world.describe(seed)
    requests, how = world.requests(seed), ListSettings(order=True, candidates=20, author_decay=1.0)
    asked = (world.table, world.catalogue, world.users, requests, NOW_MS)
    size = len(world.index)
    whole = lists(*asked, size, how, ordering=ORDERING)
    check(world, whole, barred_by_loops(world, requests, how), size, how)
    assert (np.diff(whole.lists.scores, axis=1) <= 0).all()
    for k in (1, 10, 20):
        part = lists(*asked, k, how, ordering=ORDERING)
        np.testing.assert_array_equal(part.lists.items, whole.lists.items[:, :k])
        np.testing.assert_array_equal(part.lists.scores, whole.lists.scores[:, :k])
        for one, other in zip(part.candidates, whole.candidates, strict=True):
            np.testing.assert_array_equal(one.items, other.items)
    plain = lists(*asked, size, replace(how, order=False)).lists.items
    personal, same = np.flatnonzero(~requests.anonymous), 0  # type: ignore[operator]
    for place, candidates in zip(personal.tolist(), whole.candidates[0].items, strict=True):
        ranked = whole.lists.items[place]
        assert set(ranked.tolist()) == set(plain[place].tolist())
        behind = ranked[np.count_nonzero(candidates >= 0) :]
        same += plain[place][np.isin(plain[place], behind)].tolist() == behind.tolist()
    assert same < 5


@pytest.mark.parametrize("diversity", ["none", "mmr"])
def test_a_million_recommended_items_hold_no_barred_one(diversity: str) -> None:
    world, listed, seed = World(), 0, 0
    world.describe(5)
    how = ListSettings(author_most=2, explore_below=1e9, max_age_ms=5_000_000, diversity=diversity)  # type: ignore[arg-type]
    wanted = 1_000_000 if diversity == "none" else 50_000
    while listed < wanted:
        seed += 1
        requests = world.requests(seed, often=100 if diversity == "none" else 5)
        barred = barred_by_loops(world, requests, how)
        made = lists(world.table, world.catalogue, world.users, requests, NOW_MS, 20, how)
        listed += check(world, made, barred, 20, how)
    assert listed >= wanted


def test_with_every_stage_off_it_is_the_k_best() -> None:
    world = World()
    how = ListSettings()
    made = lists(
        world.table, world.catalogue, world.users, Requests(world.rows, np.zeros(READERS)), NOW_MS, 20, how
    )
    plain = rank(world.table, world.users, world.rows, NOW_MS, 20, how.rank)
    assert made.left_out == {}
    np.testing.assert_array_equal(made.lists.items, plain.items)
    np.testing.assert_array_equal(made.lists.scores, plain.scores)
    np.testing.assert_array_equal(made.lists.because_share, plain.because_share)


def test_profile_off_gives_everybody_the_same_popular_list() -> None:
    world = World()
    off = Requests(world.rows, np.zeros(READERS), np.ones(READERS, np.bool_))
    found = lists(world.table, world.catalogue, world.users, off, NOW_MS, 20, ListSettings()).lists
    popular = np.argsort(-world.table.popularity, kind="stable")[:20]
    assert (found.items == popular).all()
    assert (found.because == -1).all() and not found.layers[..., :2].any() and (found.past == -1).all()


def test_too_late_for_scores_gives_popular_items_that_the_filters_let_through() -> None:
    world = World()
    requests = Requests(world.rows, np.zeros(READERS))
    made = lists(
        world.table, world.catalogue, world.users, requests, NOW_MS, 20, ListSettings(), lambda: True
    )
    assert made.left_out == {"score": READERS}
    order = np.argsort(-world.table.popularity, kind="stable")
    items, _, _ = world.users.recent(world.rows, world.users.ring)
    for place in range(READERS):
        name = world.users.names[world.rows[place]]
        gone = {*items[place].tolist(), *(item for reader, item in world.hid if reader == name)}
        wanted = [i for i in order.tolist() if i not in gone and world.table.present[i]][:20]
        assert made.lists.items[place].tolist() == wanted


def test_exploration_depends_on_the_reader_and_the_record_and_not_on_the_batch() -> None:
    world = World()
    how = ListSettings(explore_below=1e9, explore_place=4)
    numbers = draws(np.zeros(READERS, np.int32), np.arange(READERS, dtype=np.int64))
    whole = lists(
        world.table, world.catalogue, world.users, Requests(world.rows, numbers), NOW_MS, 10, how
    ).lists
    assert (whole.explored[:, 3] > 0).all() and np.count_nonzero(whole.explored) == READERS
    assert len(np.unique(whole.items[:, 3])) > 10
    for place in (0, 17, 99):
        one = slice(place, place + 1)
        alone = lists(
            world.table,
            world.catalogue,
            world.users,
            Requests(world.rows[one], numbers[one]),
            NOW_MS,
            10,
            how,
        ).lists
        np.testing.assert_array_equal(alone.items[0], whole.items[place])
        np.testing.assert_allclose(alone.propensity[0], whole.propensity[place], rtol=1e-9)


@pytest.mark.parametrize("aim", ["mmr", "spread", "dpp"])
def test_diversity_makes_lists_less_alike(aim: str) -> None:
    world = World()
    requests = Requests(world.rows, np.zeros(READERS))

    def alike(how: ListSettings) -> float:
        found = lists(world.table, world.catalogue, world.users, requests, NOW_MS, 10, how).lists
        vectors = world.table.sketches[found.items]
        cosines = vectors @ vectors.transpose(0, 2, 1)
        return float(cosines[:, ~np.eye(10, dtype=np.bool_)].mean())

    assert alike(ListSettings(diversity=aim, theta=0.5)) < 0.9 * alike(ListSettings())  # type: ignore[arg-type]


def test_lists_of_few_topics_spread_over_them_where_topics_say_what_is_alike() -> None:
    world = World()
    requests = Requests(world.rows, np.zeros(READERS))

    def topics(how: ListSettings) -> float:
        """Mean number of topics in a list."""
        found = lists(world.table, world.catalogue, world.users, requests, NOW_MS, 10, how).lists.items
        return float(np.mean([len({f"t{item % 8}" for item in row.tolist()}) for row in found]))

    how = ListSettings(diversity="mmr", theta=0.3, alike="topics")
    before = topics(replace(how, alike="readers"))
    assert topics(how) == before  # nothing known of topics: by readers
    places = range(1, len(world.index))
    names = [world.index.names[i] or "" for i in places]
    world.catalogue.apply(names, [Entry(None, 0, [f"t{i % 8}"]) for i in places])
    assert topics(how) > 7.9 > topics(replace(how, alike="readers"))


@pytest.mark.parametrize("aim", ["mmr", "spread", "dpp", "calibration"])
def test_a_diverse_list_stands_in_the_order_of_its_scores_in_each_ten_places(aim: str) -> None:
    world = World()
    world.describe(3)
    how = ListSettings(diversity=aim, theta=0.4, calibration=0.9, author_most=2, alike="both")  # type: ignore[arg-type]
    found = lists(
        world.table, world.catalogue, world.users, Requests(world.rows, np.zeros(READERS)), NOW_MS, 20, how
    ).lists
    scores = np.where(found.items >= 0, found.scores, -np.inf)
    for tens in (scores[:, :10], scores[:, 10:]):
        assert (tens[:, :-1] >= tens[:, 1:]).all()
    assert (
        scores[:, 9] < scores[:, 10]
    ).any()  # or it would be the plain order, and diversity had done nothing


def test_readers_and_topics_count_one_half_each_where_both_say_what_is_alike() -> None:
    world = World()
    world.describe(4)

    def both(how: ListSettings) -> tuple[float, float]:
        """Mean cosine of sketches and of topics in lists of ten."""
        found = lists(
            world.table,
            world.catalogue,
            world.users,
            Requests(world.rows, np.zeros(READERS)),
            NOW_MS,
            10,
            how,
        ).lists.items
        topics = world.catalogue.mixtures(found)
        topics /= np.maximum(np.linalg.norm(topics, axis=2, keepdims=True), 1e-9)
        apart = ~np.eye(10, dtype=np.bool_)
        means = [
            float((one @ one.transpose(0, 2, 1))[:, apart].mean())
            for one in (world.table.sketches[found], topics)
        ]
        return means[0], means[1]

    how = ListSettings(diversity="mmr", theta=0.5)
    by_readers, by_topics, by_both = (both(replace(how, alike=one)) for one in ("readers", "topics", "both"))  # type: ignore[arg-type]
    assert by_readers[0] < by_both[0] < by_topics[0]
    assert by_topics[1] < by_both[1] < by_readers[1]


def test_an_explored_item_is_of_an_author_who_has_no_other_place_where_places_are_limited() -> None:
    world = World()
    world.catalogue.apply([f"i{i}" for i in range(ITEMS)], [Entry(f"a{i % 12}", 0) for i in range(ITEMS)])
    numbers = draws(np.zeros(READERS, np.int32), np.arange(READERS, dtype=np.int64))
    how = ListSettings(author_most=1, explore_below=1e9, explore_place=1)
    found = lists(
        world.table, world.catalogue, world.users, Requests(world.rows, numbers), NOW_MS, 10, how
    ).lists
    assert (found.explored[:, 0] > 0).sum() > READERS // 2
    for items in found.items:
        authors = world.catalogue.author[items[items >= 0]]
        assert len(set(authors.tolist())) == len(authors)


def test_a_learnt_blend_orders_the_candidates_and_its_parts_are_the_reasons() -> None:
    world, weights = World(), Calibrated(rate=1.0)
    names = ("counts", "taste", "popularity")
    parts = np.random.default_rng(1).random((30, 3)).astype(np.float32)
    for _ in range(40):
        weights.learn(names, parts, int(parts[:, 2].argmax()), np.ones(30, np.bool_))
    requests = Requests(world.rows, np.zeros(READERS))
    how = ListSettings(blend=True, candidates=60)
    made = lists(world.table, world.catalogue, world.users, requests, NOW_MS, 10, how, learnt=weights)
    (one,) = made.candidates
    assert one.items.shape == (READERS, 60) and one.names == names
    wanted = weights.weigh(names, one.parts).sum(axis=2)
    wanted[one.items < 0] = -np.inf
    best = -np.sort(-wanted, axis=1)[:, :10]
    np.testing.assert_allclose(made.lists.scores, best, rtol=1e-5)
    np.testing.assert_allclose(made.lists.layers.sum(axis=2), made.lists.scores, rtol=1e-5)
    plain = lists(world.table, world.catalogue, world.users, requests, NOW_MS, 10, ListSettings())
    assert plain.candidates == () and (plain.lists.items != made.lists.items).any()
    off = Requests(world.rows, np.zeros(READERS), np.ones(READERS, np.bool_))
    made = lists(world.table, world.catalogue, world.users, off, NOW_MS, 10, how, learnt=weights)
    assert len(made.candidates[0].rows) == 0  # nothing of theirs is learnt


def test_lists_trade_chances_for_difference_behind_what_leads() -> None:
    world, weights = World(), learnt(3)
    repeat = RankSettings(repeat=True)
    requests = Requests(world.rows, np.zeros(READERS))

    def items(how: ListSettings) -> np.ndarray:  # type: ignore[type-arg]
        return lists(
            world.table, world.catalogue, world.users, requests, NOW_MS, 10, how, learnt=weights
        ).lists.items

    def alike(found: np.ndarray) -> float:  # type: ignore[type-arg]
        vectors = world.table.sketches[found]
        return float((vectors @ vectors.transpose(0, 2, 1))[:, ~np.eye(10, dtype=np.bool_)].mean())

    plain = ListSettings(blend=True)
    spread = replace(plain, diversity="expected", theta=0.3)
    assert alike(items(spread)) < 0.9 * alike(items(plain))
    np.testing.assert_array_equal(items(replace(spread, theta=0.9999)), items(plain))

    own = world.users.recent(world.rows, world.users.ring)[0]
    led = items(replace(plain, own_first=True, rank=repeat))
    both = items(replace(spread, own_first=True, rank=repeat))
    mine = (led[:, :, None] == own[:, None, :]).any(axis=2)
    assert 0 < mine.mean() < 1
    np.testing.assert_array_equal(both[mine], led[mine])  # in their places, in their order
    assert (both[~mine] != led[~mine]).any()
