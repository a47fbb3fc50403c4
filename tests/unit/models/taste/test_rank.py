"""Lists against an independent oracle of plain dicts; filters, ties, reasons."""

import math
from collections import defaultdict

import numpy as np
import pytest

from models.taste import actions
from models.taste.best import STEPS, best_of_all, top_k
from models.taste.index import ItemIndex
from models.taste.items.neighbours import ItemColumns
from models.taste.items.table import ItemTable
from models.taste.lists.choose import rank
from models.taste.lists.rank import RankSettings, Scored, readers_of
from models.taste.lists.reasons import Lists, layers_of
from models.taste.readers.transitions import decode, encode, transitions
from models.taste.readers.users import UserRows

START_MS = 1_700_000_000_000
CLICK, HIDE, IMPRESSION = (actions.CODES[kind] for kind in ("click", "hide", "impression"))
Event = tuple[str, str, int, int]  # user, item, kind, at_ms


class System:
    """The way of a click through all parts, bytes included: users -> transitions -> item side -> table -> lists."""

    def __init__(self, half_life_s: float = math.inf, symmetry: float = 0.0) -> None:
        self.index, far = ItemIndex(), ItemIndex()  # the item side is another worker with another index
        self.users = UserRows(self.index, ring=32)
        self.columns = ItemColumns(far, sources=2, half_life_s=half_life_s)
        self.table = ItemTable(self.index, half_life_s, followers=200, predecessors=200, symmetry=symmetry)
        self.offset = self.sent = 0

    def play(self, events: list[Event], cut: int = 7) -> None:
        for start in range(0, len(events), cut):
            part = events[start : start + cut]
            items = self.index.lookup([event[1] for event in part])
            kinds = np.array([event[2] for event in part], np.int8)
            weights = actions.weights_of(kinds, np.zeros(len(part)))
            at_ms = np.array([event[3] for event in part], np.int64)
            offsets = np.arange(self.offset, self.offset + len(part))
            folded = self.users.fold([event[0] for event in part], items, kinds, weights, at_ms, offsets, 10)
            found = transitions(folded, items, kinds, weights, at_ms, offsets, source=1)
            names = [self.index.names[i] or "" for i in found.items]
            batch = decode(names, encode(found, self.index), self.columns.items, 10)
            changed = self.columns.fold(batch, np.arange(self.sent, self.sent + len(names)))
            self.table.apply(self.columns.names(changed), list(self.columns.encode(changed, 200)))
            self.offset += len(part)
            self.sent += len(names)

    def lists(self, users: list[str], k: int = 10, now_ms: int = START_MS, **changes: object) -> Lists:
        settings = RankSettings(**{"taste": 0.0, **changes})  # type: ignore[arg-type]
        return rank(self.table, self.users, self.users.rows_of(users), now_ms, k, settings)

    def names(self, found: Lists, user: int = 0) -> list[str | None]:
        return [self.index.names[i] for i in found.items[user] if i >= 0]


def random_events(
    seed: int, count: int, users: int = 12, items: int = 40, gap_ms: int = 60_000
) -> list[Event]:
    rng = np.random.default_rng(seed)
    at_ms = START_MS + np.cumsum(rng.integers(0, gap_ms, count))
    who, what = rng.integers(0, users, count), np.minimum(rng.geometric(0.08, count), items)
    kinds = rng.choice([CLICK, CLICK, CLICK, actions.CODES["like"], IMPRESSION, HIDE], count)
    return [(f"u{u}", f"i{i}", int(k), int(t)) for u, i, k, t in zip(who, what, kinds, at_ms, strict=True)]


def oracle_scores(
    events: list[Event], user: str, now_ms: int, half_life_s: float, symmetry: float, settings: RankSettings
) -> dict[str, float]:
    """Item-to-item counts and their score, event by event on dicts, in float64."""
    counts: dict[tuple[str, str], float] = defaultdict(float)
    row, col, popular = defaultdict(float), defaultdict(float), defaultdict(float)
    rings: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for who, item, kind, at_ms in events:
        weight = {CLICK: 1.0, actions.CODES["like"]: 2.0}.get(kind, 0.0)
        weight *= 1.0 if math.isinf(half_life_s) else 2 ** (-(now_ms - at_ms) / (half_life_s * 1000))
        if weight:
            popular[item] += weight
            for place, (had, how) in enumerate(reversed(rings[who][-10:])):
                if had != item and how != HIDE:
                    amount = weight * 0.9**place
                    counts[had, item] += amount
                    row[had] += amount
                    col[item] += amount
                    if symmetry:
                        counts[item, had] += symmetry * amount
                        row[item] += symmetry * amount
                        col[had] += symmetry * amount
        if kind != IMPRESSION:
            rings[who].append((item, kind))
    seen = {item for item, _ in rings[user][-32:]}
    scores: dict[str, float] = {}
    for item in popular:
        scores[item] = sum(
            settings.order_decay**place
            * counts[had, item]
            / ((1 + row[had]) ** settings.row_power * (1 + col[item]) ** settings.popularity_power)
            for place, (had, how) in enumerate(reversed(rings[user][-settings.window :]))
            if how != HIDE
        )
    most = max(scores.values(), default=0) or 1.0
    highest = max(popular.values())
    return {
        item: score + settings.popularity * most * popular[item] / highest
        for item, score in scores.items()
        if item not in seen
    }


@pytest.mark.parametrize(
    ("half_life_s", "symmetry"), [(math.inf, 0.0), (math.inf, 0.5), (3600.0, 0.0), (3600.0, 1.0)]
)
def test_scores_equal_a_plain_dict_implementation(half_life_s: float, symmetry: float) -> None:
    events = random_events(3, 400)
    now_ms = events[-1][3] + 12_345
    system = System(half_life_s, symmetry)
    system.play(events)
    for user in ("u0", "u5", "u11"):
        expected = oracle_scores(events, user, now_ms, half_life_s, symmetry, RankSettings())
        found = system.lists([user], k=50, now_ms=now_ms)
        listed = dict(zip(system.names(found), found.scores[0].tolist(), strict=False))
        assert listed.keys() == expected.keys()
        assert listed == pytest.approx(expected, rel=2e-5)


def test_parts_add_up_to_the_score_and_name_the_strongest_past_item() -> None:
    system = System()
    system.play(random_events(4, 500))
    found = system.lists([f"u{i}" for i in range(12)], taste=0.2)
    held = found.items >= 0
    assert held.sum() > 60
    np.testing.assert_allclose(found.layers.sum(axis=2)[held], found.scores[held], rtol=1e-5)
    np.testing.assert_allclose(found.by_past.sum(axis=2), found.layers[..., 0], rtol=1e-5)
    named = held & (found.because >= 0)
    assert named.sum() > 60
    strongest = found.by_past.max(axis=2)
    np.testing.assert_allclose((found.because_share * found.scores)[named], strongest[named], rtol=1e-5)
    places = np.take_along_axis(found.past, np.maximum(found.because, 0), 1)
    assert (places[named] > 0).all()


def test_nothing_seen_or_hidden_is_listed_and_nothing_twice() -> None:
    events = random_events(5, 600)
    system = System()
    system.play(events)
    found = system.lists([f"u{i}" for i in range(12)], k=40, taste=0.3)
    for user in range(12):
        own = [(item, kind) for who, item, kind, _ in events if who == f"u{user}" and kind != IMPRESSION][
            -32:
        ]
        names = system.names(found, user)
        assert names and not {item for item, _ in own} & set(names)
        assert len(set(names)) == len(names)
    again = system.lists([f"u{i}" for i in range(12)], k=40, repeat=True)
    for user in range(12):
        own = [(item, kind) for who, item, kind, _ in events if who == f"u{user}" and kind != IMPRESSION][
            -32:
        ]
        assert not {item for item, kind in own if kind == HIDE} & set(system.names(again, user))
        assert {item for item, kind in own if kind == CLICK} & set(system.names(again, user))


def test_a_newcomer_gets_popular_items_and_an_empty_table_gives_nothing() -> None:
    system = System()
    assert (system.lists(["nobody"]).items == -1).all()
    system.play(random_events(6, 300))
    by_popularity = np.argsort(-system.table.popularity, kind="stable")[:5].tolist()
    for popularity in (0.1, 0.0):
        found = system.lists(["newcomer"], k=5, taste=0.1, popularity=popularity)
        assert found.items[0].tolist() == by_popularity
        assert (found.because == -1).all()


def test_a_removed_item_leaves_lists_and_counts() -> None:
    system = System()
    system.play(random_events(7, 300))
    best = system.names(system.lists(["u1"]))[0] or ""
    system.table.apply([best], [None])
    assert best not in system.names(system.lists(["u1"], k=100))
    assert (system.table.columns.keys[system.index.lookup([best])] == -1).all()
    assert not (system.table.followers.keys == system.index.lookup([best])[0]).any()


def test_an_item_that_only_clicks_know_is_not_listed() -> None:
    system = System()
    system.play(random_events(8, 100))
    system.index.lookup([f"new{i}" for i in range(5000)])  # beyond the table's room
    assert not [n for n in system.names(system.lists(["u1"], k=100)) if n and n.startswith("new")]


@pytest.mark.parametrize("size", [1, 15, 16, 333, 4000])
@pytest.mark.parametrize("levels", [1, 3, 100_000])
def test_top_k_equals_a_full_stable_sort(size: int, levels: int) -> None:
    rng = np.random.default_rng(size)
    scores = rng.integers(-levels, levels, (9, size)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[3] = -np.inf
    items, best = top_k(scores, 20)
    for row in range(9):
        order = [i for i in np.argsort(-scores[row], kind="stable").tolist() if np.isfinite(scores[row, i])][
            :20
        ]
        assert items[row].tolist() == order + [-1] * (20 - len(order))
        assert best[row].tolist() == [scores[row, i] for i in order] + [0] * (20 - len(order))


def test_lists_do_not_depend_on_who_else_is_in_the_batch() -> None:
    system = System()
    system.play(random_events(9, 500))
    users = [f"u{i}" for i in range(12)]
    together = system.lists(users, taste=0.2)
    for i, user in enumerate(users):
        alone = system.lists([user], taste=0.2)
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_what_rounding_takes_from_a_product_of_small_integers_does_not_cost_an_item_its_place() -> None:
    """The better item's places are all rounded down by nearly half a step, the other's are whole steps."""
    whole = np.where(np.arange(64) < 31, 16.0, 15.0)
    sketches = np.stack([whole, np.full(64, 15.49)]).astype(np.float32) / STEPS
    wanted, bases = np.ones((1, 64), np.float32), np.array([[0.501, 0.5]], np.float32)
    items, scores = best_of_all(bases, wanted, sketches, np.rint(sketches * STEPS).astype(np.int8), 1)
    assert items.tolist() == [[1]]
    assert scores[0, 0] == pytest.approx(0.5 + float(sketches[1].sum()), rel=1e-6)


def test_of_equal_scores_the_lower_item_comes_first() -> None:
    """Where counts came in any order, and in the place that the list ends with."""
    system, names = System(), [f"b{n}" for n in range(30)]
    system.index.lookup(["a", *names])
    system.play([(f"u{n}", "a", CLICK, START_MS) for n in range(30)])
    order = np.random.default_rng(1).permutation(30).tolist()
    system.play([(f"u{n}", f"b{n}", CLICK, START_MS) for n in order], cut=1)
    system.play([("reader", "a", CLICK, START_MS)])
    for popularity in (0.0, 0.1):
        found = system.lists(["reader"], k=12, popularity=popularity)
        assert len(np.unique(found.scores)) == 1
        assert system.names(found) == names[:12]


def test_a_repeated_past_item_is_one_reason() -> None:
    system = System()
    path = ["a", "b", "c", "b", "a", "b", "d"]
    system.play([(f"u{u}", item, CLICK, START_MS + n) for u in range(4) for n, item in enumerate(path)])
    system.play([("reader", item, CLICK, START_MS + n) for n, item in enumerate(["a", "b", "a", "b"])])
    found = system.lists(["reader"])
    assert system.names(found) == ["d", "c"] or system.names(found) == ["c", "d"]
    assert [system.index.names[i] for i in found.past[0, :4]] == ["b", "a", "b", "a"]
    assert (found.by_past[0, :2, :2] > 0).all() and not found.by_past[0, :, 2:].any()


@pytest.mark.parametrize("walk", [0.0, 0.3])
def test_a_large_batch_is_ranked_in_parts(monkeypatch: pytest.MonkeyPatch, walk: float) -> None:
    system = System()
    system.play(random_events(10, 400))
    users = [f"u{i}" for i in range(12)]
    whole = system.lists(users, taste=0.2, walk=walk)
    monkeypatch.setattr("models.taste.lists.choose.TOGETHER", 7)
    for cells in (5 * len(system.index), 1):
        monkeypatch.setattr("models.taste.lists.choose._CELLS", cells)
        parts = system.lists(users, taste=0.2, walk=walk)
        np.testing.assert_array_equal(parts.items, whole.items)
        np.testing.assert_array_equal(parts.past, whole.past)
        np.testing.assert_array_equal(parts.scores, whole.scores)
        assert parts.by_past.shape == whole.by_past.shape


def test_the_parts_of_an_item_are_found_however_far_behind_it_stands() -> None:
    system = System()
    system.play([("a", "i1", CLICK, START_MS), ("a", "i2", CLICK, START_MS), ("b", "i1", CLICK, START_MS)])
    target, place = int(system.index.lookup(["i2"])[0]), 40_000
    system.index.lookup([f"x{n}" for n in range(place)])
    system.table.cover()
    settings = RankSettings(taste=0.0)
    readers = readers_of(system.table, system.users, system.users.rows_of(["b"]), START_MS, settings)
    others = np.arange(target + 1, target + 1 + place, dtype=np.int32)

    def counts_of(items: list[int]) -> float:
        parts = layers_of(system.table, Scored(readers), np.array([items], np.int32), START_MS, settings)
        return float(parts[0, -1, 0])

    assert counts_of([*others.tolist(), target]) == counts_of([target]) > 0
