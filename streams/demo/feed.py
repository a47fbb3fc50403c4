"""The demo's own input: readers whose tastes drift, clicking through real sentences, and small media.

Seeded: the same seed gives the same clicks, whenever they happen. Each reader prefers one or two topics, opens and
likes what is in them, skips most of the rest, and after a while (20 clicks on average) turns to another topic.
Knows nothing of brokers and of time: the caller says when each event happens.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streams.events import Click, Item, Kind, Media

DATA = Path(__file__).with_name("data")
DRIFT_CLICKS = 20.0
"""Mean number of a reader's clicks between two turns: at 40 clicks/s of 200 readers, every minute or two."""
CURIOUS = 0.15
"""Share of clicks on items outside the reader's topics."""
INSIDE: tuple[tuple[Kind, float], ...] = (
    ("click", 0.45),
    ("dwell", 0.25),
    ("complete", 0.12),
    ("like", 0.13),
    ("skip", 0.05),
)
OUTSIDE: tuple[tuple[Kind, float], ...] = (("skip", 0.65), ("impression", 0.2), ("click", 0.15))
DWELL_S = (8.0, 90.0)


def catalogue(at_ms: int, folder: Path = DATA) -> list[Item]:
    """The news items, as if published at that time."""
    lines = (folder / "items.jsonl").read_bytes().splitlines()
    return [
        msgspec.convert({**msgspec.json.decode(line), "id": f"demo-item-{number}", "at": at_ms}, Item)
        for number, line in enumerate(lines)
    ]


@dataclass(slots=True)
class Reader:
    """Who clicks. `tastes`: one or two topics, the newer one last."""

    user: str
    tastes: tuple[str, ...]
    clicks: int = 0


class Crowd:
    """Readers and their clicks. Endless; `run` goes into the events' ids."""

    def __init__(self, items: Sequence[Item], readers: int, seed: int, run: str = "demo") -> None:
        self._random = random.Random(seed)
        self._run = run
        self._count = 0
        self._by_topic: dict[str, list[str]] = {}
        for item in items:
            for topic in item.topics:
                self._by_topic.setdefault(topic, []).append(item.item)
        self.topics = sorted(self._by_topic)
        self.readers = [
            Reader(f"reader-{n:03d}", tuple(self._random.sample(self.topics, self._random.choice((1, 1, 2)))))
            for n in range(1, readers + 1)
        ]
        # A few read much, many read little.
        self._activity = [1 / (rank + 5) ** 0.7 for rank in range(readers)]

    def click(self, at_ms: int) -> Click:
        """The next click, at that time."""
        reader = self._random.choices(self.readers, self._activity)[0]
        self._maybe_drift(reader)
        reader.clicks += 1
        self._count += 1
        inside = self._random.random() >= CURIOUS
        topic = self._random.choice(reader.tastes if inside else self._others(reader))
        kinds = INSIDE if topic in reader.tastes else OUTSIDE
        kind = self._random.choices([k for k, _ in kinds], [share for _, share in kinds])[0]
        reads = kind in ("dwell", "complete")
        return Click(
            id=f"{self._run}-click-{self._count}",
            user=reader.user,
            item=self._random.choice(self._by_topic[topic]),
            kind=kind,
            at=at_ms,
            dwell_s=round(self._random.uniform(*DWELL_S), 1) if reads else None,
            source="demo",
        )

    def _others(self, reader: Reader) -> list[str]:
        return [topic for topic in self.topics if topic not in reader.tastes] or self.topics

    def _maybe_drift(self, reader: Reader) -> None:
        """Take up a new topic and drop the oldest, or keep it beside the new one."""
        if self._random.random() >= 1 / DRIFT_CLICKS:
            return
        new = self._random.choice(self._others(reader))
        kept = reader.tastes[-1:] if self._random.random() < 0.3 else ()
        reader.tastes = (*kept, new)


def media(seed: int, run: str = "demo", folder: Path = DATA) -> Iterator[Media]:
    """Opinions, recordings and pictures in turn, endlessly; `at` is 0 until the caller stamps it."""
    order = random.Random(seed)
    opinions = [msgspec.json.decode(line) for line in (folder / "opinions.jsonl").read_bytes().splitlines()]
    recordings = sorted((folder / "audio").glob("*.wav"))
    pictures = sorted((folder / "pictures").glob("*.jpg"))
    order.shuffle(opinions)
    order.shuffle(recordings)
    order.shuffle(pictures)
    number = 0
    while True:
        for n in range(max(len(opinions), len(recordings), len(pictures))):
            opinion = opinions[n % len(opinions)]
            recording = recordings[n % len(recordings)]
            picture = pictures[n % len(pictures)]
            for name, media_type, path, text in (
                (opinion["asset"], "text/plain", None, opinion["text"]),
                (recording.stem, "audio/wav", recording, None),
                (picture.stem, "image/jpeg", picture, None),
            ):
                number += 1
                yield Media(
                    id=f"{run}-media-{number}",
                    asset=f"{name}/{number}",
                    at=0,
                    media_type=media_type,
                    payload=path.read_bytes() if path is not None else None,
                    text=text,
                    language="en",
                )
