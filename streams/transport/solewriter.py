"""Notices that somebody else wrote to a partition that only its owner writes to: a zombie's late changelog rows.

Costs nothing: the broker's answers say where own records landed, and they must follow each other. A row that a zombie
wrote is a correct but older state of its reader; recovery takes the highest fence, but a compaction would keep the
last. So the owner starts over, which reads the partition and writes again what was overtaken.
"""


class SoleWriter:
    """Where the next own record of each (topic, partition) must land."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def wrote(self, topic: str, partition: int, base_offset: int, records: int) -> int:
        """Note an own write; how many offsets before it are not ours."""
        key = topic, partition
        expected = self._next.get(key)
        if base_offset < 0:  # the broker had it already and does not know where
            self._next.pop(key, None)
            return 0
        self._next[key] = base_offset + records
        return 0 if expected is None else max(0, base_offset - expected)

    def forget(self, partition: int | None = None) -> None:
        """Start anew, with one partition or with all: what is there will be read before the next write."""
        self._next = {key: at for key, at in self._next.items() if partition not in (None, key[1])}
