"""What readers ask for, on the wire: a `privacy` event becomes an order in the log of clicks, and then its receipt.

An order is put into the partition of the reader's clicks, so that it has one place between them: whoever reads that
log again does the same again. What came of it goes back to the topic `privacy` as a record without a value, which asks
for the rest of the work (dead letters) and the receipt.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiokafka.partitioner import murmur2
from msgspec import Meta, Struct

from streams.effects import Header
from streams.events import SOURCE, Id, Milliseconds, Privacy, PrivacyKind
from streams.refusals.rejected import Rejected
from streams.transport.batch import Record

ORDER = b"headrace.privacy-order.v1"
DONE = "privacy."  # headers of a record without value
HEADERS: list[Header] = [
    ("ce_type", ORDER),
    ("ce_source", SOURCE.encode()),
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
]


class Order(Struct, frozen=True):
    """A reader's wish among the clicks. `home` is the partition of the `privacy` event."""

    id: Id
    user: Id
    kind: PrivacyKind
    home: Annotated[int, Meta(ge=0)]
    until: Milliseconds  # clicks of one who is forgotten are dropped until then, by their records' time


class Placed(Struct, frozen=True, gc=False):
    """An order, and where it stands in the log of clicks."""

    order: Order
    offset: int
    at_ms: int


class Done(Struct, frozen=True):
    """What the clicks agent did: the headers of a record without value on `privacy`."""

    request: str
    kind: str
    partition: int
    had_state: bool

    def headers(self) -> list[Header]:
        return [
            (f"{DONE}request", self.request.encode()),
            (f"{DONE}kind", self.kind.encode()),
            (f"{DONE}partition", str(self.partition).encode()),
            (f"{DONE}had_state", b"1" if self.had_state else b"0"),
        ]

    @classmethod
    def read(cls, headers: Sequence[Header]) -> "Done | None":
        """None where they are not such headers: anybody may write a record without value."""
        found = {name: (value or b"").decode(errors="replace") for name, value in headers}
        if not {f"{DONE}request", f"{DONE}kind", f"{DONE}partition"} <= found.keys():
            return None
        partition = found[f"{DONE}partition"]
        if not (partition.isdigit() and len(partition) < 10):
            return None
        return cls(
            found[f"{DONE}request"],
            found[f"{DONE}kind"],
            int(partition),
            found.get(f"{DONE}had_state") == "1",
        )


def home_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def order_of(event: Privacy, home: int, until_ms: int) -> bytes:
    """The value of an event's order."""
    return _encode(Order(event.id, event.user, event.kind, home, until_ms))


def taken_out(rejected: list[Rejected]) -> tuple[list[Placed], list[Rejected]]:
    """The orders among the records that are no clicks, in the order of the log, and the rest."""
    orders: list[Placed] = []
    rest: list[Rejected] = []
    for one in rejected:
        placed = _placed(one.record)
        if placed is None:
            rest.append(one)
        else:
            orders.append(placed)
    return sorted(orders, key=lambda placed: placed.offset), rest


def _placed(record: Record) -> Placed | None:
    if not any(name == "ce_type" and value == ORDER for name, value in record.headers):
        return None
    try:
        return Placed(_decode(record.value or b""), record.offset, record.timestamp)
    except msgspec.MsgspecError:
        return None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Order).decode
