"""What a group of folded clicks asks for, as effects: a list and a changelog row a reader who moved, and transitions.

What is in a list is `streams.taste.maker`'s, in a transition `streams.taste.transitions`'.
"""

from collections.abc import Sequence

from models.taste.readers.users import UserRows
from streams.effects import Effects, Emit, Header, batch_bytes
from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.refusals.rejected import Rejected
from streams.taste.maker import ListMaker
from streams.taste.moved import Moved
from streams.taste.transitions import TransitionWriter
from streams.topology.topics import RECOMMENDATIONS, TASTE_CHANGELOG
from streams.transport.batch import PartitionBatch

ROOM_BYTES = 4_096  # more than key, headers and frame of an output take

TooLarge = dict[tuple[int, int], int]  # partition, offset of the click -> size of its list


class Publisher:
    """Of one worker. `transitions` is None where none are wanted; no output is larger than `limit_bytes`."""

    def __init__(
        self,
        rows: UserRows,
        lists: ListMaker,
        transitions: TransitionWriter | None,
        limit_bytes: int,
        metrics: Metrics,
        agent: AgentMetrics,
    ) -> None:
        self._rows, self._lists, self._transitions = rows, lists, transitions
        self._limit_bytes = limit_bytes
        self._metrics, self._agent = metrics, agent

    def __call__(self, effects: Effects, moved: Moved) -> TooLarge:
        """Add what moved, at least one reader. Returns the clicks whose lists no broker would take: they count all the
        same, their lists are left out."""
        rows, names = moved.folded.rows, self._rows.names
        users = [names[row] for row in rows.tolist()]
        keys = [user.encode() for user in users]
        values, headers = self._lists.outputs(moved, users)
        state = self._rows.encode(rows)
        large = self._larger(keys, values, headers)
        for partition, at in moved.by_partition():
            effects.changelog.append(
                Emit(TASTE_CHANGELOG, partition, [keys[i] for i in at], [state[i] for i in at])
            )
            if large:
                at = [place for place in at if place not in large]
            effects.outputs.append(
                Emit(
                    RECOMMENDATIONS,
                    partition,
                    [keys[i] for i in at],
                    [values[i] for i in at],
                    [headers[i] for i in at] if headers is not None else None,
                )
            )
        if self._transitions is not None:
            effects.outputs += self._transitions.emits(
                moved.folded,
                moved.items,
                moved.kinds,
                moved.weights,
                moved.at_ms,
                moved.offsets,
                moved.partitions,
            )
        published = len(values) - len(large)
        self._agent.published(RECOMMENDATIONS, published)
        if headers is not None:
            self._metrics.lists.inc(published)
        last = moved.folded.last
        return {
            (int(moved.partitions[last[i]]), int(moved.offsets[last[i]])): size for i, size in large.items()
        }

    def _larger(
        self, keys: Sequence[bytes], values: Sequence[bytes], headers: Sequence[list[Header]] | None
    ) -> dict[int, int]:
        """Place -> size of the outputs that are larger than a topic takes."""
        if max(map(len, values)) + ROOM_BYTES <= self._limit_bytes:
            return {}
        sizes = {
            i: batch_bytes(key, values[i], headers[i] if headers is not None else None)
            for i, key in enumerate(keys)
        }
        return {i: size for i, size in sizes.items() if size > self._limit_bytes}


def causes(batch: PartitionBatch, too_large: TooLarge) -> list[Rejected]:
    """The clicks of a batch that would have made a list of that size."""
    return [
        Rejected(record, "too_large", f"its list takes {too_large[batch.partition, record.offset]} bytes")
        for record in batch.records
        if (batch.partition, record.offset) in too_large
    ]
