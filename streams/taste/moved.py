"""What folding the clicks of a group did."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.taste.readers.fold import Folded
from streams.events import ListWishes
from streams.transport.batch import Record


@dataclass(slots=True)
class Moved:
    """All clicks of a group, partition after partition, each in offset order; what folding them did."""

    partitions: NDArray[np.int32]  # (n,)
    items: NDArray[np.int32]  # (n,)
    kinds: NDArray[np.int8]  # (n,)
    weights: NDArray[np.float32]  # (n,)
    at_ms: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]  # (n,)
    folded: Folded
    wishes: dict[int, ListWishes]  # by place among the n
    records: Sequence[Record]  # (n,)

    def by_partition(self) -> list[tuple[int, list[int]]]:
        """Each partition with the places of its readers in `folded.rows`."""
        found: dict[int, list[int]] = {}
        for place, partition in enumerate(self.partitions[self.folded.last].tolist()):
            found.setdefault(partition, []).append(place)
        return sorted(found.items())
