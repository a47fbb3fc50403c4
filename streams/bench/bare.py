"""The yardsticks without a framework: aiokafka and a dict. No recovery, no changelog, no fences, no dead letters.

Written as somebody would who wants speed from one plain loop: whole polls, one typed decoder, state in slots
of one object a reader, outputs packed into one batch a partition, all confirmed together, then the offsets. What
it does not do: save any state (a restart forgets everybody), overlap one poll's confirmation with the next poll's
work, survive a bad record, give partitions up in order. Its polls have the worker's own bound.
"""

import asyncio
import math
import signal
import sys
import zlib
from collections import deque
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.bench.child import Job, Stopwatch
from streams.events import Because, Click
from streams.transport.client import close

HALF_LIVES_MS = (60e3, 3600e3, 86400e3, 2592000e3)  # the worker's own
DIM, RECENT = 64, 20
_RATES = np.array([-math.log(2) / half_life for half_life in HALF_LIVES_MS], np.float32)[:, None]


class Reader:
    """One reader: decayed sums of item codes (4, 64), the counts by kind, the last 20 items."""

    __slots__ = ("at", "bank", "counts", "recent")

    def __init__(self, at: int) -> None:
        self.bank = np.zeros((len(HALF_LIVES_MS), DIM), np.float32)
        self.counts: dict[str, int] = {}
        self.recent: deque[str] = deque(maxlen=RECENT)
        self.at = at


class Moved(msgspec.Struct):
    """The small output, as the worker's."""

    id: str
    user: str
    at: int
    because: Because


class Codes(dict[str, Any]):
    """Item -> its code (64,) of +1 and -1, made on first sight."""

    def __missing__(self, item: str) -> Any:
        random = np.random.default_rng(zlib.crc32(item.encode()))
        code = self[item] = random.integers(0, 2, DIM).astype(np.float32) * 2 - 1
        return code


def fold(readers: dict[str, Reader], codes: Codes, click: Click) -> None:
    """One click into its reader's state."""
    reader = readers.get(click.user)
    if reader is None:
        reader = readers[click.user] = Reader(click.at)
    late = click.at - reader.at
    if late > 0:
        reader.bank *= np.exp(_RATES * late)
        reader.at = click.at
    reader.bank += codes[click.item]
    reader.counts[click.kind] = reader.counts.get(click.kind, 0) + 1
    reader.recent.append(click.item)


async def profile_job(job: Job) -> dict[str, Any]:
    """Poll, decode, fold, send one small record a touched reader, confirm, commit. `options.forever`: until SIGTERM."""
    forever = bool(job.options.get("forever"))
    stop = asyncio.Event()
    if forever:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    consumer = _consumer(job)
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap, acks="all", linger_ms=0, max_batch_size=900_000
    )
    decode = msgspec.json.Decoder(Click).decode
    encode = msgspec.json.Encoder().encode
    readers: dict[str, Reader] = {}
    codes, watch = Codes(), Stopwatch()
    done = outputs = 0
    await producer.start()
    await consumer.start()
    while not stop.is_set() and (forever or done < job.clicks):
        found = await consumer.getmany(timeout_ms=200, max_records=job.max_poll_records)
        if not found:
            continue
        watch.start()
        sent = []
        for tp, records in found.items():
            touched: dict[str, tuple[int, int]] = {}
            for record in records:
                click = decode(record.value)
                fold(readers, codes, click)
                touched[click.user] = (record.offset, click.at)
            builder = producer.create_batch()
            for user, (offset, at) in touched.items():
                because = Because("clicks", tp.partition, offset)
                value = encode(Moved(f"{tp.partition}-{offset}", user, at, because))
                builder.append(key=user.encode(), value=value, timestamp=None)
            sent.append(await producer.send_batch(builder, job.output, partition=tp.partition))
            done += len(records)
            outputs += len(touched)
        await asyncio.gather(*sent)
        await consumer.commit({tp: records[-1].offset + 1 for tp, records in found.items()})
    figures = {} if forever else watch.figures(done)
    figures |= {"users": len(readers), "outputs": outputs, "state_bytes_per_user": _bytes_a_reader(readers)}
    if forever:
        await close(consumer)
        await close(producer)
    return figures


async def getmany(job: Job) -> dict[str, Any]:
    """Raw aiokafka: poll and count, no decoding; one commit at the end."""
    consumer = _consumer(job)
    await consumer.start()
    watch, done = Stopwatch(), 0
    last: dict[TopicPartition, int] = {}
    while done < job.clicks:
        for tp, records in (await consumer.getmany(timeout_ms=200, max_records=job.max_poll_records)).items():
            watch.start()
            done += len(records)
            last[tp] = records[-1].offset + 1
    await consumer.commit(last)
    return watch.figures(done)


def _consumer(job: Job) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=f"{job.prefix}group.clicks",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=2000,
        # a paced feed is answered at once (the embedded broker looks every half of the wait), a backlog in full fetches
        fetch_max_wait_ms=8,
        fetch_min_bytes=1 if job.options.get("forever") else 65_536,
    )


def _bytes_a_reader(readers: dict[str, Reader]) -> int:
    """Mean over at most 200 readers; items' names are shared and not counted."""
    some = list(readers.items())[:: max(1, len(readers) // 200)]
    size = sys.getsizeof
    sizes = [
        size(name) + size(one) + size(one.bank) + size(one.counts) + size(one.recent) + size(one.at)
        for name, one in some
    ]
    return round(sum(sizes) / max(1, len(sizes)))
