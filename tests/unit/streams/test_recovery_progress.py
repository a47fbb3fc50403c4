"""Progress of recovery: what is logged and how often, what the gauge shows, and what has left."""

import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.state.progress import LOG_EVERY_S, Recoveries


class HandClock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 0


def remaining(metrics: Metrics) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    samples = families["headrace_recovery_remaining_records"].samples
    assert all(sample.labels["agent"] == "clicks" for sample in samples)
    return {sample.labels["partition"]: sample.value for sample in samples}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0")


@pytest.fixture
def recoveries(clock: HandClock, metrics: Metrics) -> Recoveries:
    return Recoveries("clicks", clock, AgentMetrics(metrics, "clicks", "clicks").recovery_remaining)


def test_the_log_says_how_far_it_is_every_few_seconds(
    recoveries: Recoveries, clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tell = recoveries.begin(3)
    for n in range(97):  # 12 s
        tell(100_000 * n, 4_000_000 * 4)
        clock.now_s += 0.125
    assert [record.getMessage() for record in caplog.records] == [
        "clicks: partition 3: 4,000,000 of 16,000,000 records read back, 5 s so far",
        "clicks: partition 3: 8,000,000 of 16,000,000 records read back, 10 s so far",
    ]
    assert LOG_EVERY_S == 5


def test_a_quick_recovery_says_nothing(recoveries: Recoveries, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    recoveries.begin(3)(10, 10)
    recoveries.end(3)
    assert not caplog.records


def test_the_gauge_counts_down_and_goes_with_the_partition(recoveries: Recoveries, metrics: Metrics) -> None:
    assert remaining(metrics) == {}
    tell, other = recoveries.begin(3), recoveries.begin(4)
    tell(100, 1000)
    other(5, 10)
    assert remaining(metrics) == {"3": 900, "4": 5}
    assert (recoveries.of(3).done, recoveries.of(3).of) == (100, 1000)
    recoveries.end(3)
    assert remaining(metrics) == {"3": 0, "4": 5}
    recoveries.leave(3)
    recoveries.leave(4)
    recoveries.leave(5)  # never was
    assert remaining(metrics) == {}


def test_a_recovery_that_was_overtaken_is_not_heard_any_more(
    recoveries: Recoveries, metrics: Metrics
) -> None:
    stale = recoveries.begin(3)
    stale(1, 1000)
    recoveries.leave(3)
    stale(2, 1000)
    recoveries.end(3)
    assert remaining(metrics) == {}
    fresh = recoveries.begin(3)
    fresh(10, 1000)
    stale(3, 1000)
    assert remaining(metrics) == {"3": 990} and recoveries.of(3).done == 10
