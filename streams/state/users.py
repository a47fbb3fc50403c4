"""The readers' state of this worker: one set of columns for all its partitions, and recovery of each.

The numbers live in `models.taste`; here is where they come from.
"""

from collections.abc import Sequence

from models.taste.items import ItemIndex
from models.taste.users import UserRows
from streams.effects import Emit
from streams.settings import Taste
from streams.state.changelog import ChangelogReader, Tell
from streams.topics import TASTE_CHANGELOG


class UserState:
    """`rows` of every partition that is open."""

    def __init__(self, taste: Taste, items: ItemIndex) -> None:
        self.rows = UserRows(items, half_lives_s=taste.half_lives_s, ring=taste.ring)

        self._overtaken: dict[int, set[str]] = {}

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self.rows.drop(partition)
        self._overtaken.pop(partition, None)

    async def recover(self, partition: int, changelog: ChangelogReader, tell: Tell | None = None) -> int:
        """Read the partition's rows back; returns how many records were read. Replaces what was in memory. `tell`
        hears how far it is.

        Raises Retry, KafkaError, OSError; BadInput when the changelog has another layout.
        """
        self.drop(partition)
        overtaken = self._overtaken[partition] = set()

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            if overtaken:
                overtaken.difference_update([key.decode() for key in keys])
            if not all(values):
                keys, values = self._without_removed(partition, keys, values)
            users = [key.decode() for key in keys]
            overtaken.update(self.rows.load(users, values, partition))  # type: ignore[arg-type]  # none is None now

        return await changelog.replay(partition, apply, tell)

    def healing(self, partition: int) -> Emit | None:
        """Rows that a late, older row follows in the changelog, to be written again before a compaction loses them."""
        users = sorted(self._overtaken.pop(partition, ()))
        if not users:
            return None
        values = self.rows.encode(self.rows.rows_of(users, partition))
        return Emit(TASTE_CHANGELOG, partition, [user.encode() for user in users], values)

    def _without_removed(
        self, partition: int, keys: Sequence[bytes], values: Sequence[bytes | None]
    ) -> tuple[Sequence[bytes], Sequence[bytes | None]]:
        """Records that no tombstone follows; users with a tombstone are forgotten."""
        removed = {
            key: place for place, (key, value) in enumerate(zip(keys, values, strict=True)) if not value
        }
        if not removed:
            return keys, values
        for key in removed:
            self.rows.forget(key.decode(), partition)
        kept = [place for place, key in enumerate(keys) if place > removed.get(key, -1)]
        return [keys[place] for place in kept], [values[place] for place in kept]
