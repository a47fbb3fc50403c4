"""Test then learn: by hand on seven clicks, against the plain oracle on random ones, and nothing of the future."""

from collections.abc import Sequence

import numpy as np
import pytest

import evaluation_oracle as oracle
from made_up_clicks import random_pairs, recording
from models.evaluate import meters, summary
from models.evaluate.baselines import ItemKnn
from models.evaluate.layer import Layer
from models.evaluate.listed import ListedSettings
from models.evaluate.prequential import Judge, Run, Scored
from models.evaluate.protocols import PROTOCOLS, Plan, plan
from models.evaluate.recording import Event, Moment, Recording
from models.evaluate.registry import ROWS, Given, build
from models.evaluate.sequential import Retraining
from models.evaluate.served import ServedSettings
from models.taste.content import unit
from models.taste.lists.request import ListSettings
from sequence_models import random_model

BASELINES = ("popularity", "last-item", "item-knn")


def judged(
    clicks: Recording, layers: Sequence[Layer], rows: Sequence[str], top: int = 2, ties: str = "against"
) -> Judge:
    vectors = meters.unit_vectors(clicks.users, clicks.items, len(clicks.item_names), seed=0)
    return Judge(layers, rows, top, vectors, ties)  # type: ignore[arg-type]


def given(clicks: Recording) -> Given:
    """With a content vector an item, but for the last, a sequence model of all, and lists that are made diverse."""
    vectors = unit(np.random.default_rng(1).normal(size=(len(clicks.item_names), 5)))
    vectors[-1:] = 0
    model = random_model(clicks.item_names or ("x",))
    return Given(
        clicks.item_names,
        ServedSettings(),
        content=vectors,
        sequence=model,
        retraining=Retraining(every=10_000),
        listed=ListedSettings(ListSettings(diversity="mmr")),
    )


def run(clicks: Recording, todo: Plan, rows: Sequence[str], delay_ms: int | None = 0) -> Scored:
    layers = build(rows, given(clicks))
    return Run(clicks, todo, layers).score(judged(clicks, layers, rows), delay_ms)


# Seven clicks of three visits:      0          1          2          3          4          5          6
SEVEN = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "z"), ("b", "x")]


def test_seven_clicks_by_hand() -> None:
    """Scored: 1, 3, 5, 6. Repeats may be right. Catalogue x, y, z."""
    clicks = recording(SEVEN)
    found = run(clicks, plan(clicks, "next-click", share=0.0), BASELINES)

    assert found.numbers.tolist() == [1, 3, 5, 6]
    # 1: y after x; only x known: y ties with z at nothing                     -> rank 3
    # 3: y after x; popularity x 2, y 1, z 0                                   -> rank 2
    # 5: z after x; popularity x 3, y 2, z 0                                   -> rank 3
    # 6: x after y; popularity x 3, y 2, z 1                                   -> rank 1
    assert found.ranks[0].tolist() == [3, 2, 3, 1]
    # 1: nothing known: all tie -> 3; 3: x>y once -> 1; 5: x>y twice, x and z tie at nothing -> 3; 6: y>nothing -> 3
    assert found.ranks[1].tolist() == [3, 1, 3, 3]
    # 1: b had nothing; x with itself 1, y z nothing -> 3.  3: cos(x,y) = 1/sqrt(2*1), cos(x,x) = 1 -> y second
    # 5: mine x: cos(x,y) = 2/sqrt(3*2), z nothing -> 3.   6: mine x, y: x = 1 + 2/sqrt(6), y the same: tie -> 2
    assert found.ranks[2].tolist() == [3, 2, 3, 2]

    table = summary.rows(clicks, found, top=2, seed=0)
    assert [row.recall[0] for row in table] == [0.5, 0.25, 0.5]
    assert table[0].mrr[0] == pytest.approx((1 / 2 + 1) / 4)
    assert table[0].mpr[0] == pytest.approx(100 * (2 + 1 + 2 + 0) / 3 / 4)
    # Popularity's lists of two: [x], [x, y], [x, y], [x, y]: what nobody chose yet is not listed.
    assert found.exposures[0].tolist() == [4, 3, 0]
    assert table[0].coverage == pytest.approx(2 / 3)
    bits = -np.log2(np.array([4, 2, 1]) / 7)
    assert table[0].novelty_bits == pytest.approx((4 * bits[0] + 3 * bits[1]) / 7)
    # Readers of x: a b c, of y: a b. Three lists of two, all of x and y.
    assert table[0].intra_list_distance == pytest.approx(1 - 2 / np.sqrt(6))


def test_own_items_taken_out_by_hand() -> None:
    """New items only: 6 repeats x and is not scored; the others without the visit's own items."""
    clicks = recording(SEVEN)
    todo = plan(clicks, "next-click", new_only=True, share=0.0)
    found = run(clicks, todo, BASELINES)

    assert todo.repeats_left_out == 1
    assert found.numbers.tolist() == [1, 3, 5]
    assert found.ranks.tolist() == [[2, 1, 2], [2, 1, 2], [2, 1, 2]]


def test_half_of_ties_by_hand() -> None:
    clicks = recording(SEVEN)
    layers = build(["popularity"], given(clicks))
    found = Run(clicks, plan(clicks, "next-click", share=0.0), layers).score(
        judged(clicks, layers, ["popularity"], ties="half")
    )

    assert found.ranks[0].tolist() == [2.5, 2, 3, 1]


@pytest.mark.parametrize("own_out", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_baselines_equal_the_oracle(seed: int, own_out: bool) -> None:
    pairs = random_pairs(seed, 120)
    clicks = recording(pairs)
    found = run(clicks, plan(clicks, "next-click", new_only=own_out), BASELINES)
    expected = oracle.tested_then_learnt(pairs, int(0.2 * len(pairs)), own_out)

    assert found.numbers.tolist() == [number for number, _ in expected]
    for row, name in enumerate(BASELINES[:2]):  # counts: exact
        assert found.ranks[row].tolist() == [ranks[name][1] for _, ranks in expected], name
    for rank, (_, ranks) in zip(found.ranks[2].tolist(), expected, strict=True):
        best, worst = ranks["item-knn"]
        assert best <= rank <= worst
    assert np.mean(found.ranks[2] == [ranks["item-knn"][1] for _, ranks in expected]) > 0.9


@pytest.mark.parametrize("row", ROWS)
def test_no_layer_knows_the_future(row: str) -> None:
    """Other events from some point on change no rank before it, nor the one at it by more than the item that came."""
    pairs = random_pairs(7, 160)
    turned = pairs[:100] + [(user, f"i{8 - int(item[1:])}") for user, item in pairs[100:]]
    names = [f"i{i}" for i in range(9)]
    one, other = (recording(p, items=names) for p in (pairs, turned))
    ranks = []
    for clicks in (one, other):
        scored = run(clicks, plan(clicks, "next-click", share=0.1), [row])
        ranks.append(scored.ranks[0][scored.numbers < 100])

    assert len(ranks[0]) > 60
    assert ranks[0].tolist() == ranks[1].tolist()


class Spy(Layer):
    """Writes down what it is told."""

    rows = ("spy",)

    def __init__(self, items: int) -> None:
        self.items = items
        self.seen: list[str] = []

    def scores(self, moment: Moment) -> np.ndarray:
        self.seen.append(f"ask {moment.at_ms} {moment.history.tolist()}")
        return np.zeros((1, self.items), np.float32)

    def follow(self, events: Sequence[Event]) -> None:
        self.seen += [f"follow {event.number}" for event in events]

    def learn(self, events: Sequence[Event]) -> None:
        self.seen += [f"learn {event.number}" for event in events]


def spied(clicks: Recording, todo: Plan, delay_ms: int | None = 0) -> list[str]:
    spy = Spy(len(clicks.item_names))
    Run(clicks, todo, [spy]).score(judged(clicks, [spy], ["spy"]), delay_ms)
    return spy.seen


def test_every_event_is_asked_then_followed_then_learnt() -> None:
    clicks = recording([("a", "x"), ("a", "y"), ("a", "z")])
    seen = spied(clicks, plan(clicks, "all", share=0.0))

    assert seen == ["follow 0", "learn 0", "ask 1000 [0]", "follow 1", "learn 1", "ask 2000 [0, 1]"]


def test_a_delay_holds_back_what_is_shared_and_not_the_readers_own() -> None:
    clicks = recording([("a", "x"), ("a", "y"), ("a", "z"), ("a", "w")], at_ms=[0, 1000, 2000, 9000])
    todo = plan(clicks, "all", share=0.0)

    assert [s for s in spied(clicks, todo, 2000) if "follow" not in s] == [
        "ask 1000 [0]",
        "learn 0",
        "ask 2000 [0, 1]",
        "learn 1",
        "learn 2",
        "ask 9000 [0, 1, 2]",
    ]
    frozen = spied(clicks, todo, None)
    assert not [s for s in frozen if "learn" in s]
    assert [s for s in frozen if "follow" in s] == ["follow 0", "follow 1", "follow 2"]


def test_leave_one_out_asks_last_after_all_else_and_follows_the_one_before() -> None:
    clicks = recording([("a", "x"), ("b", "y"), ("a", "y"), ("a", "z"), ("b", "z"), ("b", "x"), ("c", "x")])
    todo = plan(clicks, "leave-one-out")
    seen = spied(clicks, todo)

    assert [s for s in seen if s.startswith("follow")] == ["follow 0", "follow 1", "follow 2", "follow 4"]
    assert [s for s in seen if s.startswith("learn")] == ["learn 0", "learn 1"]
    assert seen[-2:] == ["ask 3000 [0, 1]", "ask 5000 [1, 2]"]
    assert todo.first_events_left_out == 1  # c has one event


def test_other_kinds_are_learnt_and_neither_asked_nor_part_of_a_history() -> None:
    clicks = recording(
        [("a", "x"), ("a", "y"), ("a", "z"), ("a", "w")], kinds=["click", "impression", "like", "skip"]
    )
    seen = spied(clicks, plan(clicks, "all", share=0.0))

    assert [s for s in seen if s.startswith("ask")] == ["ask 2000 [0]"]
    assert [s for s in seen if s.startswith("learn")] == ["learn 0", "learn 1"]


def test_repeats_are_of_positive_events() -> None:
    clicks = recording(
        [("a", "x"), ("a", "y"), ("a", "x"), ("b", "x"), ("a", "y"), ("a", "x"), ("a", "z"), ("a", "y")],
        kinds=["click", "skip", "like", "click", "click", "hide", "hide", "skip"],
    )

    assert clicks.repeats().tolist() == [False, False, True, False, False, True, False, True]


def test_events_for_learning_alone_come_first_and_are_not_scored() -> None:
    pairs = random_pairs(3, 60)
    clicks = recording(pairs)
    todo = plan(clicks, "next-click", trained=40)

    assert not todo.asked[:40].any()
    assert todo.asked[40:].all()  # every user is known by then
    found = run(clicks, todo, ["popularity"])
    expected = oracle.tested_then_learnt(pairs, 40, own_out=False)
    assert found.ranks[0].tolist() == [ranks["popularity"][1] for _, ranks in expected]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pairs", [[], [("a", "x")], [("a", "x"), ("a", "x")]])
def test_nothing_to_score_is_no_error(protocol: str, pairs: list[tuple[str, str]]) -> None:
    clicks = recording(pairs)
    found = run(clicks, plan(clicks, protocol, new_only=True), ROWS)  # type: ignore[arg-type]
    table = summary.rows(clicks, found, 5, seed=0)

    assert len(found.numbers) == 0
    assert all(np.isnan(row.recall).all() for row in table)
    assert summary.curve(found, 5).recall.shape == (len(ROWS), 0)


def test_learning_in_one_go_or_one_by_one_is_the_same_and_a_copy_goes_its_own_way() -> None:
    clicks = recording(random_pairs(11, 200))
    layers = build(ROWS, given(clicks))
    whole = run(clicks, plan(clicks, "next-click", share=0.5), ROWS)
    first = Run(clicks, plan(clicks, "next-click", share=0.5), layers)
    for stop in (1, 7, 50, 100):
        first.advance(stop)
    frozen = first.copy().score(judged(clicks, layers, ROWS), None)
    again = first.copy().score(judged(clicks, layers, ROWS))

    assert again.ranks.tolist() == whole.ranks.tolist()
    assert frozen.numbers.tolist() == whole.numbers.tolist()
    assert frozen.ranks.tolist() != whole.ranks.tolist()


def test_rows_by_gap_and_the_curve_add_up_to_the_whole() -> None:
    pairs = random_pairs(2, 90)
    gaps = np.random.default_rng(0).choice([0, 400, 30_000, 4_000_000, 200_000_000], 90)
    clicks = recording(pairs, at_ms=np.cumsum(gaps).tolist())
    found = run(clicks, plan(clicks, "next-click"), BASELINES)
    right = meters.hits(found.ranks, 2)

    by_gap = summary.by_gap(clicks, found, 2)
    assert sum(count for _, count, _ in by_gap) == right.shape[1]
    total = sum(count * values for _, count, values in by_gap if count)
    assert total == pytest.approx(right.sum(axis=1))
    drawn = summary.curve(found, 2, stretches=5)
    assert drawn.events[-1] == found.numbers[-1] + 1
    assert drawn.recall.mean(axis=1) == pytest.approx(right.mean(axis=1), abs=0.05)


def test_a_catalogue_beyond_the_bound_of_item_knn_is_refused() -> None:
    with pytest.raises(ValueError, match="20,000 items"):
        ItemKnn(20_000)


def test_a_time_beyond_what_state_can_hold_is_refused() -> None:
    clicks = recording([("a", "x")])
    with pytest.raises(ValueError, match="4199"):
        replace_times(clicks, 1 << 46)


def replace_times(clicks: Recording, at_ms: int) -> Recording:
    return Recording(
        clicks.users,
        clicks.items,
        clicks.at_ms * 0 + at_ms,
        clicks.kinds,
        clicks.weights,
        clicks.item_names,
    )
