"""One run: a broker of its own, the load, the workers, the faults in their order, and the judgement at the end."""

import asyncio
import contextlib
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streams import admin
from streams.clock import Clock
from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker, jars, java_program
from streams.errors import Fatal, UserMistake
from streams.feed.records import partition_of
from streams.settings import Settings, kafka_lib, load
from streams.topics import TOPOLOGY, prefixed
from streams.transport.client import close
from streams.verify.oracle import Found, Judgement, Rules, judge
from streams.verify.workers import Place
from streams.verify.workload import Sent, clicks, comments

PARTITIONS = 8
SESSION_S, HEARTBEAT_S = 4.0, 1.0
STALLED_S = 90.0  # no offset moved for so long: the run has failed
END_S = 25.0  # from SIGTERM to the end of a worker
PAUSE_S = (0.5, 4.0)  # between two faults: kills in the middle of a recovery are meant to happen
KINDS = ("kill", "term", "stop", "broker")
INPUTS = {"clicks": "clicks", "items": "transitions", "uploads": "uploads"}  # agent -> the topic it reads

Offsets = dict[tuple[str, int], int]  # by (input topic, partition)
Broker = EmbeddedBroker | KafkaBroker
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    broker: str = "embedded"
    delivery: str = "at_least_once"
    clicks: int = 200_000
    media: int = 2_000
    workers: int = 3
    kills: int = 5
    faults: tuple[str, ...] = KINDS
    seed: int = 1


@dataclass(slots=True)
class Report:
    """What was injected, expected and found."""

    seed: int
    plan: dict[str, Any]
    faults: list[dict[str, Any]] = field(default_factory=list)
    judgement: Judgement = field(default_factory=Judgement)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        found = self.judgement
        return {
            "seed": self.seed,
            "plan": self.plan,
            "faults": self.faults,
            "expected": found.expected,
            "found": found.found,
            "differences": len(found.differences),
            "first_differences": found.differences[:20],
            "seconds": round(self.seconds, 1),
        }


def schedule(plan: Plan) -> list[str]:
    """Kinds of faults in the order of their injection; a function of the seed. `kills` kills, and of each other kind
    a fifth so many; the embedded broker keeps its records in memory, so it is never stopped."""
    few = max(1, plan.kills // 5)
    found: list[str] = []
    for kind in plan.faults:
        if kind == "kill":
            found += ["kill"] * plan.kills
        elif kind != "broker" or plan.broker == "kafka":
            found += [kind] * few
    Random(plan.seed).shuffle(found)
    return found


def run(plan: Plan, clock: Clock, say: Say) -> Report:
    """Raises EnvironmentProblem without a broker, Fatal when a worker ends by itself or nothing moves any more."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its retries while brokers are down are no news
    started_s = clock.monotonic_s()
    report = Report(plan.seed, asdict(plan))
    with (
        _running_broker(plan.broker) as broker,
        tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder,
    ):
        prefix = f"v{uuid.uuid4().hex[:8]}-"
        settings = _settings(plan, broker.bootstrap, prefix)
        asyncio.run(admin.apply(settings))
        agents = ["clicks", "items", *(["uploads"] if plan.media else [])]
        places = [Place(n, _options(settings, agents), Path(folder)) for n in range(plan.workers)]
        try:
            asyncio.run(_Run(plan, settings, agents, places, broker, clock, say, report).play())
        finally:
            for place in places:
                place.kill()
        say("judging")
        found = asyncio.run(_collect(settings, agents))
        rules = Rules(
            plan.delivery == "exactly_once",
            settings.taste.half_lives_s,
            settings.taste.dim,
            settings.taste.ring,
            plan.media > 0,
        )
        ended_badly = report.judgement.differences
        report.judgement = judge(found, rules)
        report.judgement.differences += ended_badly
    report.seconds = clock.monotonic_s() - started_s
    return report


@contextlib.contextmanager
def _running_broker(name: str) -> Iterator[Broker]:
    if name == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded
        return
    lib = kafka_lib()
    java_program()
    jars(lib)
    assert lib is not None  # jars() has said so
    properties = {"group.min.session.timeout.ms": "1000", "broker.session.timeout.ms": "3000"}
    with KafkaBroker(lib, properties=properties) as kafka:
        yield kafka


def _settings(plan: Plan, bootstrap: str, prefix: str) -> Settings:
    return load(
        None,
        {
            "kafka": {
                "bootstrap": bootstrap,
                "topic_prefix": prefix,
                "group": f"{prefix}group",
                "session_timeout_s": SESSION_S,
                "heartbeat_interval_s": HEARTBEAT_S,
            },
            "topics": {"partitions": PARTITIONS, "replication": 1},
            "worker": {"delivery": plan.delivery},
        },
    )


def _options(settings: Settings, agents: Sequence[str]) -> list[str]:
    kafka = settings.kafka
    sets = {
        "kafka.bootstrap": kafka.bootstrap,
        "kafka.topic_prefix": kafka.topic_prefix,
        "kafka.group": kafka.group,
        "kafka.session_timeout_s": kafka.session_timeout_s,
        "kafka.heartbeat_interval_s": kafka.heartbeat_interval_s,
        "topics.partitions": PARTITIONS,
        "worker.delivery": settings.worker.delivery,
        "worker.agents": ",".join(agents),
        "observe.enabled": "false",
    }
    return [f"--set={name}={value}" for name, value in sets.items()]


class _Run:
    """The load and the faults side by side, then the wait for the end of all work."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        agents: Sequence[str],
        places: Sequence[Place],
        broker: Broker,
        clock: Clock,
        say: Say,
        report: Report,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._agents = agents
        self._places = places
        self._broker = broker
        self._clock = clock
        self._say = say
        self._report = report
        self._random = Random(plan.seed + 2)
        self._began_s = clock.monotonic_s()
        self._injected = asyncio.Event()
        self._ends: Offsets = {}

    async def play(self) -> None:
        for place in self._places:
            place.start()
        start_ms = self._clock.wall_ms() - 86_400_000
        sent = clicks(self._plan.clicks, self._plan.seed, start_ms)
        media = comments(self._plan.media, self._plan.seed, start_ms)
        feeding = asyncio.create_task(self._feed(sent, media))
        try:
            for kind in schedule(self._plan):
                await asyncio.sleep(self._random.uniform(*PAUSE_S))
                self._check()
                await self._inject(kind)
            self._injected.set()
            await feeding
        finally:
            feeding.cancel()
        self._say("all is sent; waiting for the rest of the work")
        await self._until_done()
        for place in self._places:
            problem = await asyncio.to_thread(place.terminate, END_S)
            if problem:
                self._report.judgement.differences.append(problem)

    def _check(self) -> None:
        for place in self._places:
            place.check()

    async def _feed(self, sent: Sequence[Sent], media: Sequence[Sent]) -> None:
        """In portions over the time of the faults; what is left when they are over goes at once."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka.bootstrap,
            acks="all",
            request_timeout_ms=60_000,
            enable_idempotence=self._plan.broker == "kafka",
        )
        await producer.start()
        faults = max(1, len(schedule(self._plan)))
        portions = faults * 8
        try:
            for n in range(portions):
                part = [*_share(sent, n, portions), *_share(media, n, portions)]
                await self._send(producer, part)
                if not self._injected.is_set():
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._injected.wait(), 0.35)
        finally:
            await close(producer)

    async def _send(self, producer: AIOKafkaProducer, part: Sequence[Sent]) -> None:
        prefix = self._settings.kafka.topic_prefix
        for start in range(0, len(part), 2000):
            waiting = [
                await producer.send(
                    prefixed(prefix, one.topic),
                    one.value,
                    key=one.key,
                    partition=partition_of(one.key, PARTITIONS),
                )
                for one in part[start : start + 2000]
            ]
            self._ends |= _ends(await asyncio.gather(*waiting), prefix)

    async def _inject(self, kind: str) -> None:
        place = self._random.choice(self._places)
        at_s = round(self._clock.monotonic_s() - self._began_s, 1)
        self._report.faults.append(
            {"at_s": at_s, "kind": kind, "where": place.name if kind != "broker" else kind}
        )
        self._say(f"{at_s:7.1f} s  {kind} {place.name if kind != 'broker' else ''}".rstrip())
        if kind == "kill":
            place.kill()
            place.start()
        elif kind == "term":
            problem = await asyncio.to_thread(place.terminate, END_S)
            if problem:
                self._report.judgement.differences.append(problem)
            place.start()
        elif kind == "stop":
            place.freeze()
            await asyncio.sleep(SESSION_S + 2 * HEARTBEAT_S + self._random.uniform(0, 3))
            place.thaw()
        else:
            assert isinstance(self._broker, KafkaBroker)
            await asyncio.to_thread(self._broker.stop)
            await asyncio.sleep(self._random.uniform(0, 3))
            await asyncio.to_thread(self._broker.start)

    async def _until_done(self) -> None:
        await self._until_committed(self._ends)
        prefix = self._settings.kafka.topic_prefix
        transitions = await _records(self._settings, ["transitions"])  # no more will come
        await self._until_committed(self._ends | _ends(transitions["transitions"], prefix))

    async def _until_committed(self, ends: Offsets) -> None:
        """Raises Fatal when no offset has moved for long."""
        seen: Offsets = {}
        moved_s = self._clock.monotonic_s()
        while True:
            self._check()
            found = seen
            with contextlib.suppress(KafkaError):  # no answer is no progress
                found = await _committed(self._settings, self._agents)
            if all(found.get(key) == end for key, end in ends.items()):
                return
            if found != seen:
                seen, moved_s = found, self._clock.monotonic_s()
            if self._clock.monotonic_s() - moved_s > STALLED_S:
                behind = {f"{t}[{p}]": (seen.get((t, p)), end) for (t, p), end in ends.items()}
                tails = "\n".join(f"{place.name}:\n{place.tail()}" for place in self._places)
                raise Fatal(f"no offset moved for {STALLED_S:g} s; (committed, end): {behind}\n{tails}")
            await asyncio.sleep(0.5)


def _share(records: Sequence[Sent], n: int, of: int) -> Sequence[Sent]:
    return records[n * len(records) // of : (n + 1) * len(records) // of]


async def _committed(settings: Settings, agents: Sequence[str]) -> Offsets:
    """What the groups have committed."""
    found: Offsets = {}
    for agent in agents:
        consumer = _consumer(settings, group_id=f"{settings.kafka.group}.{agent}")
        await consumer.start()
        try:
            for partition in range(PARTITIONS):
                tp = TopicPartition(prefixed(settings.kafka.topic_prefix, INPUTS[agent]), partition)
                found[INPUTS[agent], partition] = await consumer.committed(tp) or 0
        finally:
            await close(consumer)
    return found


def _consumer(settings: Settings, group_id: str | None = None) -> Any:
    committed = settings.worker.delivery == "exactly_once"
    return AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap,
        group_id=group_id,
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        max_partition_fetch_bytes=4 << 20,
    )


async def _read_all(consumer: Any, tps: Sequence[TopicPartition]) -> dict[TopicPartition, list[Any]]:
    """Every record of the partitions."""
    consumer.assign(list(tps))
    found: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
    for tp in tps:
        consumer.seek(tp, 0)
    ends = await consumer.end_offsets(list(tps))
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=300)).items():
            found[tp] += records
        ends = {tp: max(ends[tp], consumer.highwater(tp) or 0) for tp in tps}
        if all([await consumer.position(tp) >= ends[tp] for tp in tps]):
            return found


async def _records(settings: Settings, topics: Sequence[str]) -> dict[str, list[Any]]:
    """All records of topics, by name without prefix."""
    consumer = _consumer(settings)
    await consumer.start()
    try:
        records: dict[str, list[Any]] = {}
        for topic in topics:
            name = prefixed(settings.kafka.topic_prefix, topic)
            tps = [TopicPartition(name, p) for p in range(PARTITIONS)]
            records[topic] = [r for part in (await _read_all(consumer, tps)).values() for r in part]
        return records
    finally:
        await close(consumer)


async def _collect(settings: Settings, agents: Sequence[str]) -> Found:
    records = await _records(settings, [topic.name for topic in TOPOLOGY])
    ends = _ends([r for agent in agents for r in records[INPUTS[agent]]], settings.kafka.topic_prefix)
    return Found(records, await _committed(settings, agents), ends)


def _ends(records: Sequence[Any], prefix: str) -> Offsets:
    """Where partitions end after these records, markers of transactions left out."""
    ends: Offsets = {}
    for record in records:
        key = record.topic.removeprefix(prefix), record.partition
        ends[key] = max(ends.get(key, 0), record.offset + 1)
    return ends


def check(plan: Plan) -> None:
    """Raises UserMistake for what the broker cannot do, and for unknown words."""
    unknown = sorted(set(plan.faults) - set(KINDS))
    if unknown:
        raise UserMistake(f"--faults {', '.join(unknown)}: there are {', '.join(KINDS)}")
    if plan.broker not in ("embedded", "kafka"):
        raise UserMistake(f"--broker {plan.broker}: there are kafka and embedded")
    if plan.delivery not in ("at_least_once", "exactly_once"):
        raise UserMistake(f"--delivery {plan.delivery}: there are at_least_once and exactly_once")
    if plan.broker == "embedded" and plan.delivery == "exactly_once":
        raise UserMistake("the embedded broker has no transactions: verify exactly_once with --broker kafka")
