"""The pure parts of the benchmarks: the feed's shape, ratios, the filled item table."""

import json

import msgspec
import numpy as np
import pytest

from models.taste.index import ItemIndex
from models.taste.items.table import ItemTable
from streams.bench.feed import ClickFeed, by_partition, draw, item_name, keys, values, zipf_ranks
from streams.bench.itemtable import item_rows
from streams.bench.result import Result, machine, median_row, ratio
from streams.bench.run import BENCHMARKS, Wanted, run_benchmarks
from streams.errors import EnvironmentProblem, UserMistake
from streams.events import Click
from streams.settings import load

FEED = ClickFeed(clicks=20_000, users=1000, items=200, seed=7, start_ms=1_700_000_000_000)


def test_the_feed_is_a_function_of_its_seed() -> None:
    again = ClickFeed(**{name: getattr(FEED, name) for name in FEED.__slots__})
    other = ClickFeed(FEED.clicks, FEED.users, FEED.items, FEED.seed + 1, FEED.start_ms)

    assert values(draw(FEED)) == values(draw(again))
    assert values(draw(FEED)) != values(draw(other))


def test_every_value_is_a_click_of_its_key_with_a_time_of_its_own() -> None:
    drawn = draw(FEED)
    clicks = [msgspec.json.decode(value, type=Click) for value in values(drawn)]

    assert [click.user.encode() for click in clicks] == keys(drawn)
    assert len({click.id for click in clicks}) == len({click.at for click in clicks}) == FEED.clicks
    assert {click.kind for click in clicks} == {"click", "dwell", "like", "skip"}


def test_ranks_follow_zipfs_law() -> None:
    size, n = 1000, 400_000
    found = np.bincount(zipf_ranks(n, size, np.random.default_rng(3)), minlength=size) / n
    wanted = 1 / np.arange(1, size + 1)
    wanted /= wanted.sum()

    assert len(found) == size
    assert found[:10] == pytest.approx(wanted[:10], rel=0.05)
    assert found[500:].sum() == pytest.approx(wanted[500:].sum(), rel=0.05)


def test_partitions_keep_the_order_and_lose_nothing() -> None:
    made = keys(draw(FEED))
    split = by_partition(made, {key: len(key) + key[-1] for key in made} | dict.fromkeys(made, 0), 2)

    assert split == [list(range(len(made))), []]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([{"case": "a", "x": 90.0}, {"case": "b", "x": 40.0}], 2.25),
        ([{"case": "a", "x": 90.0}], None),
        ([{"case": "a", "x": 90.0}, {"case": "b", "x": 0}], None),
        ([{"case": "a", "x": 1}, {"case": "b", "x": 3}], 0.33),
    ],
)
def test_ratio(rows: list[dict[str, object]], wanted: float | None) -> None:
    assert ratio(rows, "x", "a", "b") == wanted


def test_the_median_row_is_one_of_the_runs() -> None:
    rows = [{"x": 3, "y": "third"}, {"x": 1, "y": "first"}, {"x": 2, "y": "second"}]

    assert median_row(rows, "x") == {"x": 2, "y": "second", "repetitions": 3}
    assert median_row(rows[:1], "x") == rows[0]


def test_a_result_is_json_and_a_table_with_every_figure() -> None:
    result = Result(
        "b", machine({"lane": "pure"}), [{"case": "a", "x": 1234.5}, {"case": "b", "z": 7}], {"r": 2.5}
    )

    assert set(json.loads(json.dumps(result.as_json()))) == {"bench", "machine", "rows", "ratios"}
    assert {"lane", "cores", "cpu"} <= result.machine.keys()
    assert all(part in result.table() for part in ("1,234", "x", "z", "7", "-", "r 2.5"))


def test_the_filled_item_table_gives_every_item_neighbours() -> None:
    items = 300
    rows = item_rows(items, partitions=8, seed=1, start_ms=FEED.start_ms)
    index = ItemIndex(dim=64)
    table = ItemTable(index)
    changed = table.apply([key.decode() for key, _ in rows], [value for _, value in rows])

    assert {key.decode() for key, _ in rows} == {item_name(n) for n in range(items)}
    assert len(table) == items
    assert (table.popularity[changed] > 0).all()
    predecessors = (table.columns.keys[changed] > 0).sum(axis=1)
    assert predecessors.min() >= 1 and np.median(predecessors) >= 20
    assert (table.out[changed] > 0).all()  # whom it leads to


def test_what_cannot_run_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserMistake,
        match="transport, clicks, latency, recommend, delivery, recovery, inference, speech, scale",
    ):
        next(run_benchmarks("speed", Wanted(), load(), print))
    with pytest.raises(UserMistake, match="kafka and embedded"):
        next(run_benchmarks("clicks", Wanted(broker="rabbit"), load(), print))
    monkeypatch.delenv("HEADRACE_KAFKA_LIB", raising=False)
    with pytest.raises(EnvironmentProblem, match="HEADRACE_KAFKA_LIB"):
        next(run_benchmarks("clicks", Wanted(broker="kafka"), load(), print))
    assert list(BENCHMARKS) == [
        "transport",
        "clicks",
        "latency",
        "recommend",
        "delivery",
        "recovery",
        "inference",
        "speech",
        "scale",
    ]
