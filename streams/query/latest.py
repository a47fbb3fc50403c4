"""The newest labels and dead letters, kept in memory within bounds. Pure: records come from `streams.feed.latest`."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Any

import msgspec

from streams.events import Label

LETTERS_KEPT = 100
BYTES_KEPT = 64 << 20


class LatestLabels:
    """The newest label of each task, by asset. Bounded in labels and in bytes; the asset labelled longest ago leaves
    first."""

    def __init__(self, keep: int, keep_bytes: int = BYTES_KEPT) -> None:
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._assets: OrderedDict[str, dict[str, tuple[Label, int]]] = OrderedDict()
        self._ids: dict[str, str] = {}  # label -> asset
        self._count = 0
        self._bytes = 0
        self._decode = msgspec.json.Decoder(Label).decode
        self.newest_at_ms: int | None = None
        self.seen = 0  # labels taken since the start
        self.unreadable = 0

    def __len__(self) -> int:
        return self._count

    def add(self, value: bytes | None) -> Label | None:
        """Take one record of the topic. Anybody may have written it: what is not a label is counted and left."""
        if value is None or len(value) > self._keep_bytes:
            return None
        try:
            label = self._decode(value)
        except msgspec.DecodeError:
            self.unreadable += 1
            return None
        tasks = self._assets.setdefault(label.asset, {})
        self._assets.move_to_end(label.asset)
        old = tasks.pop(label.task, None)
        self._count += old is None
        self._bytes += len(value) - (old[1] if old else 0)
        if old is not None:
            self._ids.pop(old[0].id, None)
        self._ids[label.id] = label.asset
        tasks[label.task] = (label, len(value))
        self.newest_at_ms = max(self.newest_at_ms or 0, label.at)
        self.seen += 1
        while self._count > self._keep or self._bytes > self._keep_bytes:
            self.forget(next(iter(self._assets)))
        return label

    def of(self, asset: str) -> list[Label]:
        """The labels of an asset, by task."""
        return [label for _, (label, _) in sorted(self._assets.get(asset, {}).items())]

    def by_id(self, label_id: str) -> Label | None:
        """The label with this id, if it is kept."""
        asset = self._ids.get(label_id)
        for label, _ in self._assets.get(asset, {}).values() if asset is not None else ():
            if label.id == label_id:
                return label
        return None

    def newest(self) -> Iterator[Label]:
        """All labels, the asset labelled last first."""
        for tasks in reversed(self._assets.values()):
            yield from (label for label, _ in tasks.values())

    def forget(self, asset: str) -> None:
        """Take an asset out."""
        left = self._assets.pop(asset, {})
        self._count -= len(left)
        self._bytes -= sum(size for _, size in left.values())
        for label, _ in left.values():
            self._ids.pop(label.id, None)


class LatestLetters:
    """The newest dead letters without key, value and headers: reasons and places, nobody's data."""

    def __init__(self, keep: int = LETTERS_KEPT) -> None:
        self._letters: deque[dict[str, Any]] = deque(maxlen=keep)
        self.seen = 0

    def add(self, letter: dict[str, Any]) -> None:
        """Take one, as `headrace dlq list --json` prints it."""
        self.seen += 1
        self._letters.append(letter)

    def newest(self) -> list[dict[str, Any]]:
        """Newest first."""
        return list(reversed(self._letters))
