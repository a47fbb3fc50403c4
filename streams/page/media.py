"""What a label was made of, for the wall: the picture, the recording, the text. Read from the input topic by the
place that the label names, so only what was labelled can be asked for, within the bounds and allow-lists of `media`."""

from collections import OrderedDict
from dataclasses import dataclass

from models.errors import BadInput
from models.media.sniff import sniff
from streams.claims.payloads import Payloads, size_of
from streams.codecs import MediaDecoder
from streams.errors import Reject, Retry
from streams.events import Label
from streams.feed.record import OneRecord
from streams.settings import Settings
from streams.topology.topics import AUDIO, UPLOADS

KEPT_BYTES = 32 << 20
LARGEST_BYTES = 16 << 20
# By content, never by name; nothing that a browser would run (no SVG, no HTML).
TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp3": "audio/mpeg",
    "mp4": "audio/mp4",
    "utf-8": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Medium:
    """Bytes with the type that their content has."""

    data: bytes
    content_type: str


class LabelledMedia:
    """The newest ones stay in memory, within a bound on bytes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records = OneRecord(settings.kafka)
        self._payloads: Payloads | None = None
        self._decode = MediaDecoder(settings.media.max_payload_bytes)
        self._kept: OrderedDict[tuple[str, int, int], Medium] = OrderedDict()
        self._bytes = 0

    async def of(self, label: Label) -> Medium | None:
        """What was labelled; None for what is gone, too large, or nothing that is shown. Raises Retry."""
        place = (label.because.topic, label.because.partition, label.because.offset)
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        if place[0] not in (AUDIO, UPLOADS) or not 0 <= place[1] < self._settings.topics.partitions:
            return None
        record = await self._records.get(*place)
        events, _, _ = self._decode([record] if record is not None else [])
        if not events:
            return None
        if size_of(events[0]) > LARGEST_BYTES:
            return None
        if self._payloads is None:
            self._payloads = Payloads(self._settings.media)
            self._payloads.start()
        try:
            payload = await self._payloads.open(events[0])
        except (Reject, Retry, BadInput):
            return None
        found = sniff(payload.data)
        if found is None or found.container not in TYPES:
            return None
        medium = Medium(payload.data, TYPES[found.container])
        self._keep(place, medium)
        return medium

    def _keep(self, place: tuple[str, int, int], medium: Medium) -> None:
        if place in self._kept:
            return
        self._kept[place] = medium
        self._bytes += len(medium.data)
        while self._bytes > KEPT_BYTES:
            _, left = self._kept.popitem(last=False)
            self._bytes -= len(left.data)

    async def stop(self) -> None:
        """Close the connections."""
        await self._records.stop()
        if self._payloads is not None:
            await self._payloads.close()
