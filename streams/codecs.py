"""Bytes to columns, at the edge. Whole batches are decoded at once; a bad record is set aside, never its batch.

The fast way decodes every value with one typed decoder and makes columns; only a batch in which something is
wrong, or that carries structured CloudEvents, is looked at record by record.
"""

from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest as hash_of

from models.taste.actions import CODES
from models.taste.index import hash_of as author_hash
from streams.columns import ClickColumns
from streams.errors import Reject
from streams.events import CLICK, ITEM, LABEL, MEDIA, Click, Item, Label, Media
from streams.privacy.orders import taken_out
from streams.refusals.rejected import Rejected, rejected_by
from streams.transport.batch import Record

MAX_CLICK_BYTES = 65_536
MAX_ITEM_BYTES = 1 << 20
MAX_LABEL_BYTES = 16 << 20
OLDEST_MS = 631_152_000_000  # 1990-01-01; smaller numbers are nearly always seconds given as milliseconds

E = TypeVar("E", bound=msgspec.Struct)


class EventDecoder(Generic[E]):
    """Decodes the values of one event type; knows CloudEvents in binary and structured mode."""

    def __init__(self, struct: type[E], ce_type: str, max_bytes: int) -> None:
        self.decode = msgspec.json.Decoder(struct).decode
        self._type = ce_type.encode()
        self._family = ce_type.rsplit(".", 1)[0].encode() + b"."
        self._max_bytes = max_bytes
        self._envelope = msgspec.json.Decoder(_Envelope).decode

    def all(self, records: Sequence[Record]) -> list[E] | None:
        """Every value decoded, or None when a record needs a closer look."""
        wanted = self._type
        for record in records:
            for name, value in record.headers:
                if name == "ce_type":
                    if value != wanted:
                        return None
                    break
                if name == "content-type" and value and value.startswith(b"application/cloudevents"):
                    return None  # (a header's value may be null)
        decode = self.decode
        try:
            values = [decode(r.value) for r in records]  # type: ignore[arg-type]
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError, RecursionError):
            return None
        if max((len(r.value) for r in records), default=0) > self._max_bytes:  # type: ignore[arg-type]
            return None
        return values

    def each(self, records: Sequence[Record]) -> tuple[list[E], list[Record], list[Rejected]]:
        """Good events with their records, and the rest with reasons."""
        events: list[E] = []
        good: list[Record] = []
        rejected: list[Rejected] = []
        for record in records:
            try:
                events.append(self._one(record))
                good.append(record)
            except Reject as error:
                rejected.append(rejected_by(record, error, error.reason))
        return events, good, rejected

    def _one(self, record: Record) -> E:
        value = record.value
        if value is None:
            raise Reject("schema", "the value is null")
        if len(value) > self._max_bytes:
            raise Reject("too_large", f"{len(value)} bytes, the limit is {self._max_bytes}")
        headers = {name: content or b"" for name, content in record.headers}  # null: as if empty
        try:
            if headers.get("content-type", b"").startswith(b"application/cloudevents"):
                envelope = self._envelope(value)
                self._check_type(envelope.type.encode())
                return self.decode(envelope.data)
            self._check_type(headers.get("ce_type", self._type))
            return self.decode(value)
        except msgspec.ValidationError as error:
            raise Reject(_reason_of(str(error)), str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Reject("undecodable", str(error) or type(error).__name__) from error

    def _check_type(self, given: bytes) -> None:
        if given == self._type:
            return
        shown = given.decode(errors="replace")[:64]
        if given.startswith(self._family):
            raise Reject("unknown_version", f"ce_type {shown} is not {self._type.decode()}")
        raise Reject("schema", f"ce_type {shown} does not belong on this topic")


def _reason_of(message: str) -> str:
    """The reason behind msgspec's words."""
    if message.endswith("`$.kind`"):
        return "unknown_kind"
    if message.endswith("`$.at`") and ("= " in message or "out of range" in message):
        return "bad_time"
    return "schema"


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw


_clicks = EventDecoder(Click, CLICK, MAX_CLICK_BYTES)


def decode_clicks(partition: int, records: Sequence[Record], future_ms: int) -> ClickColumns:
    """Columns of the clicks among `records`; `future_ms` is how far a click may lie ahead of its record's time."""
    events = _clicks.all(records)
    rejected: list[Rejected] = []
    good: Sequence[Record] = records
    if events is None:
        events, good, rejected = _clicks.each(records)
    at_ms = np.array([e.at for e in events], np.int64)
    if len(events) and (at_ms.min() < OLDEST_MS or at_ms.max() > good[0].timestamp + future_ms):
        stamps = np.array([r.timestamp for r in good], np.int64)
        bad = (at_ms < OLDEST_MS) | (at_ms > stamps + future_ms)
        rejected += [
            Rejected(good[i], "bad_time", _time_words(int(at_ms[i]))) for i in np.flatnonzero(bad).tolist()
        ]
        keep = np.flatnonzero(~bad).tolist()
        events, good, at_ms = [events[i] for i in keep], [good[i] for i in keep], at_ms[~bad]
    return _columns(partition, events, good, at_ms, rejected)


def decode_poll(poll: Sequence[tuple[int, Sequence[Record]]], future_ms: int) -> list[ClickColumns]:
    """`decode_clicks` of the records of each partition: where all are good, for the fixed cost of one."""
    records = list(chain.from_iterable(records for _, records in poll))
    events = _clicks.all(records) if records else None
    if events is not None:
        at_ms = np.array([e.at for e in events], np.int64)
        earliest_ms = min(part[0].timestamp for _, part in poll if part)
        if at_ms.min() >= OLDEST_MS and at_ms.max() <= earliest_ms + future_ms:
            whole = _columns(-1, events, records, at_ms, [])
            ends = accumulate(len(part) for _, part in poll)
            return [
                whole.part(partition, end - len(part), end)
                for (partition, part), end in zip(poll, ends, strict=True)
            ]
    return [decode_clicks(partition, part, future_ms) for partition, part in poll]


def _columns(
    partition: int,
    events: Sequence[Click],
    good: Sequence[Record],
    at_ms: NDArray[np.int64],
    rejected: list[Rejected],
) -> ClickColumns:
    """Of events and the records that they came in."""
    codes = CODES
    orders, rejected = taken_out(rejected) if rejected else ([], rejected)
    return ClickColumns(
        partition=partition,
        users=[e.user for e in events],
        items=[e.item for e in events],
        kinds=np.array([codes[e.kind] for e in events], np.int8),
        dwell_s=np.array([np.nan if e.dwell_s is None else e.dwell_s for e in events], np.float64),
        at_ms=at_ms,
        offsets=np.array([r.offset for r in good], np.int64),
        ids=np.array(_identities(events, good), np.uint64),
        wishes={place: e.wishes for place, e in enumerate(events) if e.wishes is not None},
        rejected=rejected,
        records=good,
        authors={place: author_hash(e.author) for place, e in enumerate(events) if e.author},
        orders=orders,
    )


def _identities(clicks: Sequence[Click], records: Sequence[Record]) -> list[int]:
    """By which a producer's duplicates are known: the CloudEvents attribute stands before the event's own id.

    A producer's records all have it in one place, where it is looked for first.
    """
    if not any(record.headers for record in records):
        return [hash_of(click.id.encode()) if click.id else 0 for click in clicks]
    found: list[int] = []
    place = 0
    for click, record in zip(clicks, records, strict=True):
        headers, given = record.headers, None
        if headers:
            if place >= len(headers) or headers[place][0] != "ce_id":
                place = next((at for at, (name, _) in enumerate(headers) if name == "ce_id"), len(headers))
            given = headers[place][1] if place < len(headers) else None
        if given:
            found.append(hash_of(given))
        else:
            found.append(hash_of(click.id.encode()) if click.id else 0)
    return found


def _time_words(at_ms: int) -> str:
    if at_ms < OLDEST_MS:
        return f"at = {at_ms} is before 1990: times are milliseconds since 1970, are these seconds?"
    return f"at = {at_ms} lies too far in the future"


_items = EventDecoder(Item, ITEM, MAX_ITEM_BYTES)


def decode_items(records: Sequence[Record]) -> tuple[list[tuple[str, Item | None]], list[Rejected]]:
    """Catalogue records of one partition in order: the item's name, and what it is now or None for a removed one; and
    what is no such record. A record's key, where it has one, must name its item: compaction goes by it."""
    told = [record for record in records if record.value is not None]
    rejected: list[Rejected] = []
    events: list[Item] | None = _items.all(told) if told else []
    if events is None:
        events, told, rejected = _items.each(told)
    read = {record.offset: event for record, event in zip(told, events, strict=True)}
    found: list[tuple[str, Item | None]] = []
    for record in records:
        event = read.get(record.offset)
        if record.value is None:
            name = _named_by(record.key)
            if name is None:
                rejected.append(Rejected(record, "schema", "a null value whose key names no item"))
            else:
                found.append((name, None))
        elif event is not None and record.key not in (None, event.item.encode()):
            rejected.append(Rejected(record, "schema", "the key names another item than the event"))
        elif event is not None:
            found.append((event.item, event))
    return found, rejected


def _named_by(key: bytes | None) -> str | None:
    """The item of a key, or None."""
    try:
        return (key or b"").decode() or None
    except UnicodeDecodeError:
        return None


class MediaDecoder:
    """Media events one by one: a batch has few, and each is large."""

    def __init__(self, max_payload_bytes: int) -> None:
        # base64 and the fields around it
        self._decoder = EventDecoder(Media, MEDIA, max_payload_bytes * 4 // 3 + 65_536)

    def __call__(self, records: Sequence[Record]) -> tuple[list[Media], list[Record], list[Rejected]]:
        return self._decoder.each(records)


class LabelDecoder:
    """Labels one by one: bad ones are set aside."""

    def __init__(self) -> None:
        self._decoder = EventDecoder(Label, LABEL, MAX_LABEL_BYTES)

    def __call__(self, records: Sequence[Record]) -> tuple[list[Label], list[Rejected]]:
        labels, _, rejected = self._decoder.each(records)
        return labels, rejected


def encode(event: Any) -> bytes:
    """JSON of an event struct."""
    return _encoder.encode(event)


_encoder = msgspec.json.Encoder()
