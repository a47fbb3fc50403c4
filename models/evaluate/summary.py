"""From ranks to the table: means, intervals, by time since the reader's last event, and the learning curve."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluate import meters
from models.evaluate.bootstrap import intervals
from models.evaluate.prequential import Scored
from models.evaluate.recording import Recording

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

Figure = tuple[float, float, float]
"""Value, lower and upper bound of its interval."""

ACCURACY = ("recall_at_k", "mrr_at_k", "ndcg_at_k", "mpr")
GAPS: tuple[tuple[str, int, int], ...] = (
    ("same second", 0, 1_000),
    ("to 1 minute", 1_000, 60_001),
    ("to 1 day", 60_001, 86_400_001),
    ("over 1 day", 86_400_001, 1 << 62),
)
"""Name, and time since the reader's last event in ms: from, below."""


@dataclass(frozen=True, slots=True)
class Row:
    """One layer. Accuracy as (value, low, high), 95 % by bootstrap over users; NaN where nothing was scored."""

    layer: str
    recall: Figure
    mrr: Figure
    ndcg: Figure
    mpr: Figure
    coverage: float
    gini: float
    novelty_bits: float
    intra_list_distance: float
    topic_distance: float | None = None  # the same by topics, where they are known


@dataclass(frozen=True, slots=True)
class Difference:
    """What one layer has more than another, as (value, low, high), 95 % by bootstrap over users of the same events."""

    layer: str
    recall: Figure
    ndcg: Figure
    intra_list_distance: Figure
    topic_distance: Figure | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """Recall@k over the stream: W stretches of equally many scored events, (R, W) by row."""

    events: I64  # (W,) events of the stream before the end of each stretch
    recall: F64


def accuracy(scored: Scored, items: int, top: int) -> F64:
    """(4, R, N): what is averaged, in the order of ACCURACY."""
    found = scored.ranks
    return np.stack(
        [
            meters.hits(found, top).astype(np.float64),
            meters.reciprocal_ranks(found, top),
            meters.discounted_gains(found, top),
            meters.percentile_ranks(found, items),
        ]
    )


def rows(recording: Recording, scored: Scored, top: int, seed: int) -> list[Row]:
    """The table. Novelty is against shares in the whole recording, so that it is the same yardstick for all rows."""
    items = len(recording.item_names)
    values = accuracy(scored, items, top)
    metrics, layers, n = values.shape
    low, high = intervals(values.reshape(metrics * layers, n), recording.users[scored.numbers], seed)
    low, high = low.reshape(metrics, layers), high.reshape(metrics, layers)
    means = values.mean(axis=2) if n else np.full((metrics, layers), np.nan)
    bits = meters.self_information(np.bincount(recording.items[recording.positive], minlength=items))
    table = []
    for i, layer in enumerate(scored.rows):
        recall, mrr, ndcg, mpr = (
            (float(means[m, i]), float(low[m, i]), float(high[m, i])) for m in range(metrics)
        )
        table.append(
            Row(
                layer=layer,
                recall=recall,
                mrr=mrr,
                ndcg=ndcg,
                mpr=mpr,
                coverage=meters.coverage(scored.exposures[i]),
                gini=meters.gini(scored.exposures[i]),
                novelty_bits=meters.novelty(scored.exposures[i], bits),
                intra_list_distance=_mean(scored.distances[i]),
                topic_distance=None if scored.topic_distances is None else _mean(scored.topic_distances[i]),
            )
        )
    return table


def against(recording: Recording, scored: Scored, top: int, row: str, seed: int) -> list[Difference]:
    """What every other row has more than `row`, event by event: the intervals are of differences, so they are as narrow
    as two rows are alike. Raises ValueError for a row that was not scored."""
    at, users = scored.rows.index(row), recording.users[scored.numbers]
    right = meters.hits(scored.ranks, top).astype(np.float64)
    gains = meters.discounted_gains(scored.ranks, top)
    found = []
    for nth, layer in enumerate(scored.rows):
        if nth == at:
            continue
        topics = scored.topic_distances
        found.append(
            Difference(
                layer,
                _difference(right[nth] - right[at], users, seed),
                _difference(gains[nth] - gains[at], users, seed),
                _difference(scored.distances[nth] - scored.distances[at], users, seed),
                None if topics is None else _difference(topics[nth] - topics[at], users, seed),
            )
        )
    return found


def _difference(values: F64, users: I64, seed: int) -> Figure:
    """The mean of (N,) and its interval, without what is NaN."""
    known = ~np.isnan(values)
    low, high = intervals(values[known][None], users[known], seed)
    return _mean(values), float(low[0]), float(high[0])


def _mean(values: F64) -> float:
    """Without what is NaN; NaN if that is all."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def by_gap(recording: Recording, scored: Scored, top: int) -> list[tuple[str, int, F64]]:
    """Recall@k (R,) by time since the reader's last event: name, scored events, values; NaN without events."""
    gaps = recording.gaps_ms()[scored.numbers]
    right = meters.hits(scored.ranks, top)
    found = []
    for name, start, stop in GAPS:
        chosen = (gaps >= start) & (gaps < stop)
        count = int(np.count_nonzero(chosen))
        values = right[:, chosen].mean(axis=1) if count else np.full(len(right), np.nan)
        found.append((name, count, values))
    return found


def curve(scored: Scored, top: int, stretches: int = 30) -> Curve:
    """The learning curve; fewer stretches where there are fewer scored events."""
    right = meters.hits(scored.ranks, top).astype(np.float64)
    n = right.shape[1]
    ends = np.unique(np.linspace(0, n, min(stretches, n) + 1).round().astype(np.int64))[1:]
    sums = np.concatenate([np.zeros((len(right), 1)), np.cumsum(right, axis=1)], axis=1)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    recall = (sums[:, ends] - sums[:, starts]) / np.maximum(ends - starts, 1)
    return Curve(scored.numbers[ends - 1] + 1 if n else ends, recall)
