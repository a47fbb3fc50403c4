"""Live meters in a worker: a share of the time at most, the sample that was set, duplicates left out."""

import numpy as np
import pytest

from models.taste.actions import CODES
from models.taste.index import ItemIndex
from models.taste.items.catalogue import Catalogue
from models.taste.items.table import ItemTable
from models.taste.readers.users import UserRows
from streams.observe.catalogue import Metrics
from streams.observe.quality import QualityMetrics
from streams.sections.taste import Listing, Quality
from streams.taste.experiments import Experiments
from streams.taste.maker import list_settings
from streams.taste.quality import LiveQuality, Served

READERS = 30


class Slow:
    """A clock of which every look costs."""

    def __init__(self, look_s: float) -> None:
        self.now_s, self._look_s = 0.0, look_s

    def monotonic_s(self) -> float:
        self.now_s += self._look_s
        return self.now_s

    def wall_ms(self) -> int:
        return 0


class Bench:
    """Readers who choose one item after the other, a group each time; nothing is in the item table."""

    def __init__(self, clock: Slow, **settings: float) -> None:
        self.index = ItemIndex()
        self.users = UserRows(self.index)
        self.metrics = Metrics("test")
        served = Served(
            self.users, ItemTable(self.index), Catalogue(self.index), list_settings(Listing()), 10
        )
        none = Experiments({}, Listing(), list_settings, 1, self.metrics)
        given = Quality.model_validate(settings)
        self.quality = LiveQuality(given, served, none, QualityMetrics(self.metrics), clock)
        self._groups = 0

    def group(self, applied: bool = True) -> None:
        rows = self.users.rows_of([f"u{n}" for n in range(READERS)])
        items = np.repeat(self.index.lookup([f"i{self._groups}"]), READERS)
        kinds = np.full(READERS, CODES["click"], np.int8)
        at_ms = np.full(READERS, 1000 * self._groups, np.int64)
        offsets = np.arange(READERS) + READERS * self._groups
        self._groups += 1
        self.quality.judge(rows, items, kinds, at_ms, np.zeros(READERS, np.int32), offsets)
        folded = self.users.fold_rows(rows, items, kinds, np.ones(READERS, np.float32), at_ms, offsets)
        self.quality.settle(folded.applied & applied)

    def scored(self) -> float:
        return float(self.metrics.quality_scored.labels("list")._value.get())

    def left_out(self, reason: str) -> float:
        return float(self.metrics.quality_left_out.labels(reason)._value.get())


def test_no_more_than_its_share_of_the_time_is_spent_and_the_rest_is_counted() -> None:
    clock = Slow(look_s=0.002)
    bench = Bench(clock, sample=1, time_share=0.05)
    for _ in range(1000):
        bench.group()
        clock.now_s += 0.02

    spent_s = bench.metrics.quality_seconds._value.get()
    assert 0.03 < spent_s / clock.now_s < 0.06
    assert bench.scored() > 1000 and bench.left_out("time") > 1000
    assert bench.left_out("first") == READERS
    assert bench.scored() + bench.left_out("time") + bench.left_out("first") == 1000 * READERS


@pytest.mark.parametrize("sample", [0.2, 0.0])
def test_the_sample_is_the_share_that_was_set(sample: float) -> None:
    bench = Bench(Slow(0.0), sample=sample)
    for _ in range(200):
        bench.group()
    wanted = 199 * READERS * sample
    assert abs(bench.scored() - wanted) <= 5 * np.sqrt(wanted)


def test_what_the_fold_refused_is_not_counted() -> None:
    bench = Bench(Slow(0.0), sample=1)
    bench.group()
    bench.group(applied=False)
    assert bench.scored() == 0
    assert "headrace_recall_at_k{" not in bench.metrics.text().decode()  # a mean of nothing is not shown
    bench.group()
    assert bench.scored() == READERS
    assert 'headrace_recall_at_k{layer="list"} 0.0' in bench.metrics.text().decode()
