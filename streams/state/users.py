"""The readers' state of this worker: one set of columns for all its partitions, and recovery of each.

The numbers live in `models.taste`; here is where they come from.
"""

from collections.abc import Sequence

from models.taste.index import ItemIndex
from models.taste.readers.users import UserRows
from streams.effects import Emit
from streams.privacy.register import Register
from streams.sections.taste import Taste
from streams.state.changelog import ChangelogReader, Tell
from streams.topology.topics import TASTE_CHANGELOG


class UserState:
    """`rows` of every partition that is open."""

    def __init__(self, taste: Taste, items: ItemIndex, key: bytes = b"") -> None:
        """`key` is that of the privacy register."""
        self.rows = UserRows(items, half_lives_s=taste.half_lives_s, ring=taste.ring)
        self.register = Register(key)
        self._overtaken: dict[int, set[str]] = {}
        self._brought_back: dict[int, list[str]] = {}  # forgotten, and a late row followed

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self.rows.drop(partition)
        self.register.drop(partition)
        self._overtaken.pop(partition, None)
        self._brought_back.pop(partition, None)

    async def recover(self, partition: int, changelog: ChangelogReader, tell: Tell | None = None) -> int:
        """Read the partition's rows back; returns how many records were read. Replaces what was in memory. `tell`
        hears how far it is.

        Raises Retry, KafkaError, OSError; BadInput when the changelog has another layout.
        """
        self.drop(partition)
        overtaken = self._overtaken[partition] = set()

        def apply(keys: Sequence[bytes], values: Sequence[bytes | None]) -> None:
            keys, values = self.register.load(partition, keys, values)
            if not keys:
                return
            if overtaken:
                overtaken.difference_update([key.decode() for key in keys])
            if not all(values):
                keys, values = self._without_removed(partition, keys, values)
            users = [key.decode() for key in keys]
            overtaken.update(self.rows.load(users, values, partition))  # type: ignore[arg-type]  # none is None now

        read = await changelog.replay(partition, apply, tell)
        self._ask_the_register(partition)
        return read

    def _ask_the_register(self, partition: int) -> None:
        """Who of the partition's readers wants no profile; and those who were forgotten by offsets beyond their row
        go: a worker that had lost the partition wrote it late."""
        if self.register.empty(partition):
            return
        forgot = self.register.latest_forgot(partition)
        users = self.rows.users(partition)
        rows = self.rows.rows_of(users, partition)
        late = self._brought_back[partition] = []
        for user, fence in zip(users, self.rows.fence[rows].tolist(), strict=True):
            row = self.register.row(partition, user)
            if fence < forgot and row is not None and fence < row.forgot:
                self.rows.forget(user, partition)
                late.append(user)

    def healing(self, partition: int) -> Emit | None:
        """Rows that a late, older row follows in the changelog, to be written again before a compaction loses them."""
        gone = self._brought_back.pop(partition, [])
        users = sorted(self._overtaken.pop(partition, set()).difference(gone))
        if not users and not gone:
            return None
        values = self.rows.encode(self.rows.rows_of(users, partition))
        keys = [user.encode() for user in (*users, *gone)]
        return Emit(TASTE_CHANGELOG, partition, keys, [*values, *[None] * len(gone)])

    def forget(self, user: str, partition: int) -> bool:
        """Erase a reader; whether there was one."""
        for held in self._overtaken.get(partition), self._brought_back.get(partition):
            if held and user in held:
                held.remove(user)
        return self.rows.forget(user, partition)

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
