"""The readers' state of this worker: one set of columns for all its partitions, and recovery of each.

The numbers live in `models.taste`; here is where they come from.
"""

from collections.abc import Sequence

from models.taste.items import ItemIndex
from models.taste.users import UserRows
from streams.settings import Taste
from streams.state.changelog import ChangelogReader


class UserState:
    """`rows` of every partition that is open."""

    def __init__(self, taste: Taste, items: ItemIndex) -> None:
        self.rows = UserRows(items, half_lives_s=taste.half_lives_s, ring=taste.ring)

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self.rows.drop(partition)

    async def recover(self, partition: int, changelog: ChangelogReader) -> int:
        """Read the partition's rows back; returns how many records were read. Replaces what was in memory.

        Raises Retry, KafkaError, OSError; BadInput when the changelog has another layout.
        """
        self.rows.drop(partition)

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            latest = dict(zip(keys, values, strict=True))  # the last of a key stands
            kept = {key.decode(): value for key, value in latest.items() if value}
            self.rows.load(list(kept), list(kept.values()), partition)
            for key in latest.keys() - {k.encode() for k in kept}:
                self.rows.forget(key.decode(), partition)

        return await changelog.replay(partition, apply)
