"""Asking for privacy from outside: the event sent, and its receipt awaited."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass

import msgspec

from streams.effects import Emit
from streams.errors import EnvironmentProblem, Retry
from streams.events import Privacy, PrivacyReceipt
from streams.feed.records import outgoing
from streams.feed.tail import records
from streams.privacy.orders import home_of
from streams.settings import Settings
from streams.topology.topics import PRIVACY, PRIVACY_RECEIPTS
from streams.transport.producer import BatchProducer

Receipts = list[PrivacyReceipt]


@dataclass(frozen=True, slots=True)
class Asked:
    """An event that was sent, and the receipts that came; none within the time: it will still be done."""

    event: Privacy
    receipts: Receipts


async def ask(settings: Settings, event: Privacy, partitions: int, wait_s: float) -> Asked:
    """Send the event and wait for the receipt of the partition where the reader belongs. Raises KafkaError,
    EnvironmentProblem."""
    found: Receipts = []
    home = home_of(event.user.encode(), partitions)
    record = outgoing(event, source="headrace/privacy")
    producer = BatchProducer(settings.kafka)
    await producer.start()
    try:
        emit = Emit(PRIVACY, home, [record.key], [record.value], [record.headers])
        await producer.confirmed(await producer.send(emit, event.at))
    except Retry as error:
        raise EnvironmentProblem(f"the broker did not take the event: {error}") from error
    finally:
        await producer.stop(settings.kafka.request_timeout_s)
    if wait_s > 0:
        with suppress(asyncio.TimeoutError):  # `found` has what came until then
            await asyncio.wait_for(_receipts(settings, event.id, home, partitions, found), wait_s)
    return Asked(event, found)


async def _receipts(settings: Settings, request: str, home: int, partitions: int, found: Receipts) -> None:
    decode = msgspec.json.Decoder(PrivacyReceipt).decode
    reading = records(settings, PRIVACY_RECEIPTS, partitions, from_beginning=True, follow=True)
    async with aclosing(reading) as stream:
        async for record in stream:
            if record.key == request.encode() and record.value is not None:
                found.append(decode(record.value))
                if found[-1].partition == home:
                    return
