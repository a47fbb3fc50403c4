"""Local snapshots of a changelog's partitions: which file may be used, and how it is brought up to date.

A snapshot is made of the changelog alone (the last one, and what follows it in the log), never of memory: so it holds
only what is durable, and needs no word with the commits. It is a cache: whatever is wrong with a file, it is left
aside with one warning and the changelog is read from its start.

Not used is a file that is damaged; of another layout, cluster, topic or partition; that covers more than the log holds
or ends before it begins; that belongs to a log which was deleted and made anew (the first record younger than the
youngest covered one would lie before the covered offset); or that is so old that the tombstone of a reader who was
removed since may have been compacted away.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.errors import Retry
from streams.state.batches import BatchFetcher, Fetched, newest_ms, records
from streams.state.snapshotfile import FenceOf, Head, Image, Snapshot, Stopped, Unusable, write
from streams.topology.topics import DAY_MS

log = logging.getLogger(__name__)

MAX_AGE_MS = (
    DAY_MS * 5 // 6
)  # tombstones stay DAY_MS (delete.retention.ms); the rest is for clocks that disagree
REFRESH_MS = DAY_MS // 6  # also where nothing was written
DELTA_BYTES = 128 << 20  # of the log, held in memory before it goes to the file

Outcome = Literal["written", "failed", "used", "ignored"]
Count = Callable[[Outcome], None]


class Snapshots:
    """Those of one topic, in one folder: a file a partition."""

    def __init__(
        self, folder: Path, topic: str, layout: str, fence_of: FenceOf, clock: Clock, count: Count
    ) -> None:
        """`topic` has its prefix; `layout` names the rows' layout with its version and settings."""
        self._folder = folder
        self._topic = topic
        self._layout = layout
        self._fence_of = fence_of
        self._clock = clock
        self._count = count
        self._stopping = False
        self._removed = 0  # how often one was removed; a file begun before is given up

    def path(self, partition: int) -> Path:
        return self._folder / f"{self._topic}-{partition}.snapshot"

    def stop(self) -> None:
        """A file that is being written is given up."""
        self._stopping = True

    async def find(self, fetcher: BatchFetcher, partition: int, start: int) -> Snapshot | None:
        """The partition's snapshot, if it may be used on a log that begins at `start`. One warning if not."""
        try:
            snapshot = await self._fitting(fetcher, partition, start)
        except (Unusable, OSError) as error:
            log.warning(
                "snapshot %s is not used: %s; the whole changelog is read", self.path(partition), error
            )
            self._count("ignored")
            return None
        if snapshot is not None:
            self._count("used")
        return snapshot

    async def _fitting(self, fetcher: BatchFetcher, partition: int, start: int) -> Snapshot | None:
        """None when there is none. Raises Unusable, OSError."""
        try:
            snapshot = await asyncio.to_thread(Snapshot, self.path(partition))
        except FileNotFoundError:
            return None
        try:
            await self._check(fetcher, snapshot.head, partition, start)
        except BaseException:
            snapshot.close()
            raise
        return snapshot

    async def _check(self, fetcher: BatchFetcher, head: Head, partition: int, start: int) -> None:
        for what, found, wanted in (
            ("layout", head.layout, self._layout),
            ("cluster", head.cluster, await fetcher.cluster()),
            ("topic", head.topic, self._topic),
            ("partition", head.partition, partition),
        ):
            if found != wanted:
                raise Unusable(f"its {what} is {found}, not {wanted}")
        age_ms = self._clock.wall_ms() - head.read_at_ms
        if not 0 <= age_ms <= MAX_AGE_MS:
            raise Unusable(f"it is {age_ms / 3.6e6:.1f} hours old; {MAX_AGE_MS / 3.6e6:.0f} are allowed")
        if head.offset < start:
            raise Unusable(f"it covers offsets to {head.offset}, and the changelog begins at {start}")
        if await fetcher.end_seen_from(partition, head.offset) is None:
            raise Unusable(f"it covers offsets to {head.offset}, which the changelog has not reached")
        if await fetcher.holds_younger(partition, head.newest_ms, head.offset):
            raise Unusable("the changelog is another than the one it was made of")

    async def advance(self, fetcher: BatchFetcher, partition: int) -> None:
        """Bring the partition's file up to date with its changelog; a failure is counted, and nothing else."""
        try:
            if await self._advance(fetcher, partition):
                self._count("written")
        except Stopped:
            pass
        except (Retry, KafkaError, OSError) as error:
            log.warning("snapshot %s could not be written: %s", self.path(partition), error)
            self._count("failed")

    async def _advance(self, fetcher: BatchFetcher, partition: int) -> bool:
        read_at_ms, removed = self._clock.wall_ms(), self._removed
        position, end = await fetcher.bounds(partition)
        newest = 0
        try:
            older = await self._fitting(fetcher, partition, position)
        except (Unusable, OSError):  # said at the start of the partition, or seen there next time
            older = None
        if older is not None:
            position, newest = older.head.offset, older.head.newest_ms
            if position >= end and read_at_ms - older.head.read_at_ms < REFRESH_MS:
                older.close()
                return False
        cluster, image = await fetcher.cluster(), Image(self._fence_of)
        try:
            while True:
                while position < end and image.size_bytes < DELTA_BYTES:
                    fetched = await fetcher.fetch(partition, position)
                    newest = max(newest, await asyncio.to_thread(_fold, image, fetched))
                    position = fetched.next_offset
                head = Head(self._layout, cluster, self._topic, partition, position, newest, read_at_ms)
                await asyncio.to_thread(self._write, head, image, older, removed)
                if position >= end:
                    return True
                if older is not None:
                    older.close()
                older = await asyncio.to_thread(Snapshot, self.path(partition))
        finally:
            if older is not None:
                older.close()

    def _write(self, head: Head, image: Image, older: Snapshot | None, removed: int) -> None:
        rows = image.over(older.blocks() if older is not None else ())
        write(self.path(head.partition), head, rows, lambda: self._stopping or self._removed != removed)

    def remove(self, partition: int) -> None:
        """Take the partition's file away, and keep the one from the disk that is being written now."""
        self._removed += 1
        try:
            self.path(partition).unlink(missing_ok=True)
        except OSError as error:
            log.warning("snapshot %s cannot be removed: %s", self.path(partition), error)

    def remove_old(self) -> None:
        """Files of partitions that left long ago hold personal data and are of no use any more."""
        for path in self._folder.glob(f"{self._topic}-*.snapshot"):
            try:
                if self._clock.wall_ms() - path.stat().st_mtime * 1000 > MAX_AGE_MS:
                    path.unlink()
            except OSError as error:
                log.warning("old snapshot %s cannot be removed: %s", path, error)


def _fold(image: Image, fetched: Fetched) -> int:
    for keys, values, _ in records(fetched):
        image.add(keys, values)
    return newest_ms(fetched.data)
