"""What a worker learns from: a sample that does not depend on batches, each reader's first choice, nobody without a
profile, not more at once than it has time for."""

from collections.abc import Sequence

import numpy as np
import pytest

from models.taste import actions
from models.taste.index import ItemIndex
from models.taste.learnt.calibrated import Candidates
from models.taste.readers.users import UserRows
from streams.observe.catalogue import Metrics
from streams.observe.quality import BlendMetrics
from streams.sections.taste import Blend
from streams.taste.learning import AT_ONCE, Learning

CLICK, SKIP = actions.CODES["click"], actions.CODES["skip"]
NAMES = ("counts", "taste", "popularity")
ITEMS = np.arange(10, 20, dtype=np.int32)


class Bench:
    def __init__(self, readers: int, sample: float = 1.0, anonymous: Sequence[str] = ()) -> None:
        self.users, self.metrics = UserRows(ItemIndex()), Metrics("test")
        self.rows = self.users.rows_of([f"u{n}" for n in range(readers)])

        def without(partitions: np.ndarray, users: Sequence[str]) -> np.ndarray:  # type: ignore[type-arg]
            return np.array([user in anonymous for user in users], np.bool_)

        self.learning = Learning(
            Blend(sample=sample), self.users, without, None, 1.0, BlendMetrics(self.metrics)
        )

    def show(self, rows: np.ndarray, offsets: np.ndarray) -> None:  # type: ignore[type-arg]
        parts = np.random.default_rng(1).random((len(rows), len(ITEMS), 3)).astype(np.float32)
        made = Candidates(rows, np.tile(ITEMS, (len(rows), 1)), parts, NAMES, self.learning.weights)
        self.learning.shown([made], rows, np.zeros(len(rows), np.int32), offsets)

    def choose(self, rows: np.ndarray, item: int = 12, kind: int = CLICK, applied: bool = True) -> None:  # type: ignore[type-arg]
        n = len(rows)
        kinds, partitions = np.full(n, kind, np.int8), np.zeros(n, np.int32)
        self.learning.chosen(rows, np.full(n, item, np.int32), kinds, partitions, np.full(n, applied))

    def outcome(self, name: str) -> float:
        return float(self.metrics.blend_choices.labels(name)._value.get())


@pytest.mark.parametrize("at_once", [1, 7, 400])
def test_the_sample_is_of_the_source_records_and_not_of_the_batches(at_once: int) -> None:
    bench = Bench(400, sample=0.2)
    offsets = np.arange(400)
    for start in range(0, 400, at_once):
        part = slice(start, start + at_once)
        bench.show(bench.rows[part], offsets[part])
    waiting = bench.learning._watch.waiting(bench.rows)
    assert 50 < waiting.sum() < 110
    whole = Bench(400, sample=0.2)
    whole.show(whole.rows, offsets)
    np.testing.assert_array_equal(waiting, whole.learning._watch.waiting(whole.rows))


def test_a_reader_is_learnt_from_once_a_list_by_the_first_choice_of_a_group() -> None:
    bench = Bench(3)
    bench.show(bench.rows, np.arange(3))
    bench.choose(bench.rows, kind=SKIP)
    bench.choose(bench.rows, applied=False)  # read before: nothing new
    assert bench.outcome("learnt") == 0
    bench.choose(np.repeat(bench.rows[:1], 3))
    bench.choose(bench.rows[:1])
    bench.choose(bench.rows[1:2], item=99)
    assert (bench.outcome("learnt"), bench.outcome("beyond"), bench.learning.weights.choices) == (1, 1, 1)
    assert bench.metrics.blend_weight.labels("counts", "root")._value.get() == pytest.approx(
        bench.learning.weights.weights()[0, 1]
    )
    assert bench.learning._watch.waiting(bench.rows).tolist() == [False, False, True]


def test_nothing_is_learnt_of_who_wishes_no_profile_or_was_forgotten() -> None:
    bench = Bench(3, anonymous=["u1"])
    bench.show(bench.rows, np.arange(3))
    bench.users.forget("u2")
    bench.choose(bench.rows)
    assert bench.learning.weights.choices == 1
    unsampled = Bench(2, sample=0)
    unsampled.show(unsampled.rows, np.arange(2))
    assert unsampled.learning.bytes_used() == 0


def test_what_one_group_brings_too_much_of_is_left_out_and_counted() -> None:
    bench = Bench(AT_ONCE + 5)
    bench.show(bench.rows, np.arange(AT_ONCE + 5))
    bench.choose(bench.rows)
    assert bench.outcome("learnt") == AT_ONCE and bench.outcome("left_out") == 5
    assert len(bench.learning._watch) == 0  # their next choice is not of that list
