"""The readers' state of this worker: columnar rows per partition, the shared item index, and recovery.

The numbers live in `models.taste`; here is where they come from and which partition owns them.
"""

import logging
from collections.abc import Sequence

from models.taste.items import ItemIndex
from models.taste.users import UserRows
from streams.settings import Taste
from streams.state.changelog import ChangelogReader

log = logging.getLogger(__name__)


class UserState:
    """Rows of every partition that is open. A partition that is not recovered does not exist here."""

    def __init__(self, taste: Taste, items: ItemIndex) -> None:
        self._taste = taste
        self._items = items
        self._partitions: dict[int, UserRows] = {}

    def rows(self, partition: int) -> UserRows:
        """The rows of an open partition. KeyError is a programming error."""
        return self._partitions[partition]

    def __contains__(self, partition: int) -> bool:
        return partition in self._partitions

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._partitions.pop(partition, None)

    async def recover(self, partition: int, changelog: ChangelogReader) -> int:
        """Read the partition's rows back; returns how many records were read. Replaces what was in memory.

        Raises Retry, KafkaError, OSError; BadInput when the changelog has another layout.
        """
        rows = UserRows(
            self._items,
            half_lives_s=self._taste.half_lives_s,
            ring=self._taste.ring,
        )

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            latest = dict(zip(keys, values, strict=True))  # the last of a key stands
            rows.load([k.decode() for k, v in latest.items() if v], [v for v in latest.values() if v])
            for key in (key for key, value in latest.items() if not value):
                rows.forget(key.decode())

        read = await changelog.replay(partition, apply)
        self._partitions[partition] = rows
        return read

    @property
    def users(self) -> int:
        return sum(len(rows) for rows in self._partitions.values())

    @property
    def memory_bytes(self) -> int:
        return sum(rows.bytes_used() for rows in self._partitions.values())
