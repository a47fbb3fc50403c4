"""One run: a broker of its own, the load, the workers, the faults in their order, and the judgement at the end."""

import asyncio
import contextlib
import logging
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from streams.clock import Clock
from streams.demo.broker import EmbeddedBroker
from streams.demo.kafka import KafkaBroker, jars, java_program
from streams.demo.server import HOST, free_ports
from streams.errors import Fatal
from streams.feed.records import partition_of
from streams.settings import Settings, kafka_lib, load
from streams.topology import admin
from streams.topology.topics import prefixed
from streams.transport.client import client_options, close
from streams.verify.faults import END_S, Broker, Faults, Say
from streams.verify.judgement import Rules
from streams.verify.logs import Offsets, collect, committed, ends, records
from streams.verify.network import Forwarder
from streams.verify.oracle import judge
from streams.verify.plan import Plan, Report, schedule
from streams.verify.readers import read_clicks, without_heartbeats
from streams.verify.replay import replayed
from streams.verify.workers import Place
from streams.verify.workload import SOURCE, Sent, clicks, comments, orders

PARTITIONS = 8
SESSION_S, HEARTBEAT_S = 4.0, 1.0
SNAPSHOT_S = 1.0
METADATA_S = 3.0  # how soon workers see that a topic has grown
BLOCK_S = 10.0  # clicks of a reader who was forgotten are dropped for so long
BEAT_S = 0.5  # heartbeats between the clicks
STALLED_S = 90.0  # no offset moved for so long: the run has failed


def run(plan: Plan, clock: Clock, say: Say) -> Report:
    """Raises EnvironmentProblem without a broker. A worker that ends by itself and a run that does not move any more
    are differences; what there is of it is then not judged."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its retries while brokers are down are no news
    started_s = clock.monotonic_s()
    report = Report(plan)
    with (
        _running_broker(plan) as (broker, addresses, forwarders),
        tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder,
    ):
        settings = _settings(plan, broker.bootstrap)
        asyncio.run(admin.apply(settings))
        agents = ["clicks", "items", "privacy", *(["uploads"] if plan.media else [])]
        places = [
            Place(n, _options(settings, agents, address), Path(folder)) for n, address in enumerate(addresses)
        ]
        one = _Run(plan, settings, agents, places, forwarders, broker, clock, say, report)
        try:
            asyncio.run(one.play())
        except Fatal as problem:
            report.judgement.differences.append(str(problem))
        else:
            say("judging")
            _judge(plan, settings, agents, one.sent, report)
        finally:
            for place in places:
                place.kill()
    report.seconds = clock.monotonic_s() - started_s
    return report


def _judge(
    plan: Plan, settings: Settings, agents: Sequence[str], sent: dict[str, list[bytes]], report: Report
) -> None:
    found = asyncio.run(collect(settings, agents, sent))
    taste = settings.taste
    rules = Rules(
        plan.delivery == "exactly_once",
        taste.half_lives_s,
        taste.dim,
        taste.ring,
        plan.media > 0,
        SOURCE,
        removes=plan.broker == "kafka",
    )
    log = found.records["clicks"]
    ended_badly = report.judgement.differences
    report.judgement = judge(found, rules, replayed(settings, log, read_clicks(log).alive))
    report.judgement.differences += ended_badly


@contextlib.contextmanager
def _running_broker(plan: Plan) -> Iterator[tuple[Broker, list[str], list[Forwarder]]]:
    """The broker, each worker's address of it, and the forwarder behind each where there is one."""
    if plan.broker == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded, [embedded.bootstrap] * plan.workers, []
        return
    lib = kafka_lib()
    java_program()
    jars(lib)
    assert lib is not None  # jars() has said so
    properties = {"group.min.session.timeout.ms": "1000", "broker.session.timeout.ms": "3000"}
    ports = free_ports(2 * plan.workers)
    pairs = list(zip(ports[::2], ports[1::2], strict=True))  # (of the broker, of the forwarder before it)
    listeners = {f"WORKER{n}": pair for n, pair in enumerate(pairs)}
    with KafkaBroker(lib, properties=properties, listeners=listeners) as kafka:
        yield kafka, [f"{HOST}:{told}" for _, told in pairs], [Forwarder(told, port) for port, told in pairs]


def _settings(plan: Plan, bootstrap: str) -> Settings:
    prefix = f"v{uuid.uuid4().hex[:8]}-"
    return load(
        None,
        {
            "kafka": {
                "bootstrap": bootstrap,
                "topic_prefix": prefix,
                "group": f"{prefix}group",
                "session_timeout_s": SESSION_S,
                "heartbeat_interval_s": HEARTBEAT_S,
                "metadata_max_age_s": METADATA_S,
            },
            "topics": {"partitions": PARTITIONS, "replication": 1},
            "worker": {"delivery": plan.delivery},
        },
    )


def _options(settings: Settings, agents: Sequence[str], bootstrap: str) -> list[str]:
    kafka = settings.kafka
    sets = {
        "kafka.bootstrap": bootstrap,
        "kafka.topic_prefix": kafka.topic_prefix,
        "kafka.group": kafka.group,
        "kafka.session_timeout_s": kafka.session_timeout_s,
        "kafka.heartbeat_interval_s": kafka.heartbeat_interval_s,
        "kafka.metadata_max_age_s": kafka.metadata_max_age_s,
        "topics.partitions": PARTITIONS,
        "worker.delivery": settings.worker.delivery,
        "worker.agents": ",".join(agents),
        "observe.enabled": "false",
        "observe.heartbeat_s": BEAT_S,
        "privacy.block_s": BLOCK_S,
        "state.snapshot_interval_s": SNAPSHOT_S,
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
        forwarders: Sequence[Forwarder],
        broker: Broker,
        clock: Clock,
        say: Say,
        report: Report,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._agents = agents
        self._places = places
        self._forwarders = forwarders
        self._clock = clock
        self._say = say
        self._report = report
        self._faults = Faults(places, forwarders, broker, SESSION_S, plan.seed + 2, clock, say, report)
        self._injected = asyncio.Event()
        self._ends: Offsets = {}
        self.sent: dict[str, list[bytes]] = {"clicks": [], "uploads": [], "privacy": []}

    async def play(self) -> None:
        """Raises Fatal when a worker ends by itself or nothing moves any more."""
        for forwarder in self._forwarders:
            await forwarder.start()
        for place in self._places:
            place.start()
        try:
            await self._break_and_feed()
            self._say("all is sent; waiting for the rest of the work")
            await self._until_done()
            await self._end_all()
            for place in self._places:
                self._wrong(place.traces())
        finally:
            for forwarder in self._forwarders:
                await forwarder.stop()

    async def _break_and_feed(self) -> None:
        start_ms = self._clock.wall_ms() - 86_400_000
        sent = clicks(self._plan.clicks, self._plan.seed, start_ms)
        media = comments(self._plan.media, self._plan.seed, start_ms)
        wishes = orders(self._plan.orders, self._plan.seed, start_ms)
        feeding = asyncio.create_task(self._feed(sent, media, wishes))
        try:
            kinds = [kind for kind in schedule(self._plan) if kind != "partition"]
            await self._faults.inject_all(kinds, self._check)
            self._injected.set()
            await feeding
        finally:
            feeding.cancel()

    def _check(self) -> None:
        for place in self._places:
            place.check()

    async def _feed(self, *kinds: Sequence[Sent]) -> None:
        """In portions over the time of the faults; what is left when they are over goes at once."""
        producer = AIOKafkaProducer(
            **client_options(self._settings.kafka) | {"request_timeout_ms": 60_000},
            acks="all",
            enable_idempotence=self._plan.broker == "kafka",
        )
        await producer.start()
        faults = max(1, len(schedule(self._plan)))
        portions = faults * 8
        try:
            for n in range(portions):
                part = [one for kind in kinds for one in _share(kind, n, portions)]
                await self._send(producer, part)
                if not self._injected.is_set():
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._injected.wait(), 0.35)
        finally:
            await close(producer)

    async def _send(self, producer: AIOKafkaProducer, part: Sequence[Sent]) -> None:
        prefix = self._settings.kafka.topic_prefix
        for start in range(0, len(part), 2000):
            some = part[start : start + 2000]
            waiting = [
                await producer.send(
                    prefixed(prefix, one.topic),
                    one.value,
                    key=one.key,
                    partition=partition_of(one.key, PARTITIONS),
                    headers=[SOURCE],
                )
                for one in some
            ]
            self._ends |= ends(await asyncio.gather(*waiting), prefix)
            for one in some:
                self.sent[one.topic].append(one.value)

    async def _until_done(self) -> None:
        """What was sent, then what came of it: orders between the clicks, word of what was done, transitions."""
        await self._until_committed(self._ends)
        for topic in ("clicks", "privacy", "transitions"):
            found = await records(self._settings, [topic])  # no more will come of those before
            await self._until_committed(
                ends(without_heartbeats(found[topic]), self._settings.kafka.topic_prefix)
            )

    async def _until_committed(self, last: Offsets) -> None:
        """Raises Fatal when no offset has moved for long."""
        seen: Offsets = {}
        moved_s = self._clock.monotonic_s()
        while True:
            self._check()
            found = seen
            with contextlib.suppress(KafkaError):  # no answer is no progress
                told = await committed(self._settings, self._agents)
                found = {
                    key: min(told.get(key, 0), end) for key, end in last.items()
                }  # heartbeats go on for ever
            if all(found.get(key) == end for key, end in last.items()):
                return
            if found != seen:
                seen, moved_s = found, self._clock.monotonic_s()
            if self._clock.monotonic_s() - moved_s > STALLED_S:
                behind = {
                    f"{t}[{p}]": (seen.get((t, p)), end)
                    for (t, p), end in last.items()
                    if seen.get((t, p), 0) < end
                }
                tails = "\n".join(f"{place.name}:\n{place.tail()}" for place in self._places)
                raise Fatal(f"no offset moved for {STALLED_S:g} s; (committed, end): {behind}\n{tails}")
            await asyncio.sleep(0.5)

    async def _end_all(self) -> None:
        if "partition" in schedule(self._plan):
            await self._grow()
            return
        for place in self._places:
            self._wrong(await asyncio.to_thread(place.terminate, END_S))

    def _wrong(self, problem: str | None) -> None:
        if problem:
            self._report.judgement.differences.append(problem)

    async def _grow(self) -> None:
        """Keys would move away from their state: each worker must say so and end."""
        topic = prefixed(self._settings.kafka.topic_prefix, "clicks")
        self._report.faults.append({"kind": "partition", "where": topic})
        self._say(f"          partition added to {topic}")
        client = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka.bootstrap)
        try:
            await client.start()
            await client.create_partitions({topic: NewPartitions(PARTITIONS + 1)})
        finally:
            await client.close()
        for place in self._places:
            problem = await asyncio.to_thread(place.refuses, topic, END_S + SESSION_S * len(self._places))
            if problem:
                self._report.judgement.differences.append(problem)


def _share(records: Sequence[Sent], n: int, of: int) -> Sequence[Sent]:
    return records[n * len(records) // of : (n + 1) * len(records) // of]
