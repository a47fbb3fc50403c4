"""One simulated run: a workload, a few workers, a list of faults, all drawn from one seed; and what the witness saw."""

import asyncio
import contextlib
import gc
import logging
import random
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiokafka.producer.message_accumulator
import aiokafka.producer.producer
from aiokafka import AIOKafkaProducer, TopicPartition

import simulated.fetcher
import streams.state.changelog
import streams.transport.consumer
import streams.transport.producer
import streams.transport.transactions
from models.taste.index import ItemIndex
from simulated.broker import Broker
from simulated.client import SimulatedClient
from simulated.consumer import SimulatedConsumer
from simulated.fetcher import SimulatedFetcher
from simulated.loop import Hang, VirtualLoop
from simulated.network import Network, Weather
from simulated.witness import Witness
from simulated.worker import SimulatedWorker
from simulated.workload import settings_for, workload
from streams.sections.kafka import Kafka
from streams.state.changelog import ChangelogReader
from streams.state.users import UserState
from streams.topology.topics import CLICKS, TASTE_CHANGELOG

WORKLOADS = 48
FAULTS_UNTIL_S = 3.0
ALL_DONE_S = 60.0  # after the last fault; the longest waits are sessions and back-offs of a few seconds
STOPPED_S = 10.0  # SIGTERM to the end


@dataclass(slots=True)
class Outcome:
    """`broken` is empty after a good run. `trace` says what happened when, in virtual seconds."""

    seed: int
    delivery: str
    broken: list[str]
    trace: list[str] = field(default_factory=list)
    rows: int = 0
    repeats: int = 0

    def __str__(self) -> str:
        return "\n".join(
            [
                f"seed {self.seed}, {self.delivery}:",
                *("  " + what for what in self.broken),
                "faults:",
                *self.trace,
            ]
        )


class QuietProducer(AIOKafkaProducer):  # type: ignore[misc]
    """One that does not complain when its process was killed."""

    def __del__(self, _warnings: Any = None) -> None: ...


def simulate(seed: int, delivery: str, verbose: bool = False, script: "Script | None" = None) -> Outcome:
    """Run one seed to its end. With `verbose` the trace also has what the code under test logs. A script takes the
    place of the seed's workers and faults."""
    chance = random.Random(f"{seed} {delivery}")
    loop = VirtualLoop(random.Random(f"loop {seed}"))
    asyncio.set_event_loop(loop)
    world = World(loop, chance, seed, delivery)
    with _injected(world), _logged(world, verbose):
        try:
            loop.run_until_complete(world.run(script or World.draw))
        except Hang as error:
            world.witness.broken(str(error))
        finally:
            asyncio.set_event_loop(None)
            loop.end()
    return world.outcome


Script = Callable[["World"], None]


class World:
    """Broker, workers and faults of one run."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, seed: int, delivery: str) -> None:
        self.loop = loop
        self.chance = chance
        self.settings = settings_for(delivery)
        self._load = workload(seed % WORKLOADS)
        self.witness = Witness(self._load, delivery == "exactly_once")
        self.outcome = Outcome(seed, delivery, self.witness.found)
        self.network = Network(loop, chance)
        self._inputs = [TopicPartition(CLICKS, p) for p in range(self.settings.topics.partitions)]
        self.broker = Broker(loop, chance, self._inputs, self.witness, self.say)
        self.broker.idempotent = delivery == "exactly_once" or chance.random() < 0.85
        self._late = False
        self._workers: list[SimulatedWorker] = []
        self._stopping: list[SimulatedWorker] = []
        self._named = 0

    def say(self, what: str) -> None:
        self.outcome.trace.append(f"  {self.loop.time():8.4f}  {what}")

    def draw(self, faults: Sequence[str] = ()) -> None:
        """Workers and faults as the seed has them; given some, only of those."""
        chosen = [getattr(self, name) for name in faults] or self._faults()
        for _ in range(self.chance.randint(1, 3)):
            self.after(self.chance.uniform(0.0, 0.3), self.start_worker)
        for _ in range(self.chance.randint(1, 5)):
            self.after(self.chance.uniform(0.05, FAULTS_UNTIL_S), self.chance.choice(chosen))

    async def run(self, script: "Script") -> None:
        """To the end, whatever happens on the way."""
        for part in self._load.partitions:
            for record in part:
                self.loop.later(record.at_s, self._produce_next, record.partition)
        script(self)
        await asyncio.sleep(FAULTS_UNTIL_S)
        self._heal()
        if await self._within(ALL_DONE_S, self._all_done):
            await self._end_workers()
            await asyncio.sleep(1.0)  # markers of the last transactions, what is in the network
            self.witness.conclude(await self._recovered(), lists_in_order=not self._late)
        else:
            self.witness.broken(
                f"not done {ALL_DONE_S} s after the last fault: {self.broker.group.committed}"
            )
        self.outcome.rows = sum(len(log.records) for log in self.broker.logs.values())
        self.outcome.repeats = sum(n - 1 for n in self.witness.transitions.values())

    async def _recovered(self) -> dict[tuple[int, str], bytes]:
        """What a worker that started now would read back."""
        taste = self.settings.taste
        state = UserState(taste, ItemIndex(dim=taste.dim, max_items=taste.max_items))
        reader = ChangelogReader(self.settings.kafka, TASTE_CHANGELOG)
        found: dict[tuple[int, str], bytes] = {}
        for tp in self._inputs:
            await state.recover(tp.partition, reader)
            users = state.rows.users(tp.partition)
            values = state.rows.encode(state.rows.rows_of(users, tp.partition))
            found |= {(tp.partition, user): value for user, value in zip(users, values, strict=True)}
        return found

    def _produce_next(self, partition: int) -> None:
        log = self.broker.log(self._inputs[partition])
        record = self._load.partitions[partition][len(log.records)]
        log.append([record.stored()], gap=record.offset - log.end)

    def after(self, delay_s: float, what: Callable[..., None], *args: Any) -> None:
        self.loop.later(delay_s, what, *args)

    async def _within(self, limit_s: float, condition: Callable[[], bool]) -> bool:
        deadline_s = self.loop.time() + limit_s
        while not condition():
            if self.loop.time() >= deadline_s:
                return False
            await asyncio.sleep(0.1)
        return True

    def _all_done(self) -> bool:
        self._replace_the_gone()
        committed = self.broker.group.committed
        all_committed = all(
            committed.get(tp) == part[-1].offset + 1
            for tp, part in zip(self._inputs, self._load.partitions, strict=True)
        )
        if self._late:
            # A late commit sets an offset back, also one of a transaction (KIP-890): fences make up for it.
            return self.witness.all_done()
        return all_committed

    # -- workers

    def start_worker(self) -> None:
        self._named += 1
        name = f"worker{self._named}"
        self.say(f"{name} starts")
        worker = SimulatedWorker(self.loop, name, self.settings, self._worker_failed)
        self._workers.append(worker)
        worker.start()

    async def _end_workers(self) -> None:
        """Those that were told to stop have done so by then, or hang; the others are not needed any more."""
        await self._within(STOPPED_S, lambda: all(worker.gone for worker in self._stopping))
        for worker in self._stopping:
            if not worker.gone:
                self.witness.broken(f"{worker.name} did not stop within {STOPPED_S} s")
        for worker in self._alive():
            worker.kill()

    def _worker_failed(self, name: str, error: BaseException) -> None:
        self.witness.broken(f"{name} failed: {error!r}")

    def _alive(self) -> list[SimulatedWorker]:
        return [worker for worker in self._workers if not worker.gone]

    def _replace_the_gone(self) -> None:
        if not self._alive():
            self.start_worker()

    def _one(self) -> SimulatedWorker | None:
        alive = self._alive()
        return self.chance.choice(alive) if alive else None

    # -- faults

    def _faults(self) -> list[Callable[[], None]]:
        faults = [
            self.kill,
            self.kill,
            self.terminate,
            self.join,
            self.stand_still,
            self.stand_still_for_long,
            self.bad_weather,
            self.cluster_down,
            self.cut_off,
            self.cut_off_from_group,
            self.group_away,
            self.refuse,
            self.busy,
            self.late_requests,
        ]
        if self.outcome.delivery == "exactly_once":
            faults += [self.late_markers, self.transactions_away]
        return faults

    def _for_a_while(
        self, what: str, begin: Callable[[], None], end: Callable[[], object], most_s: float
    ) -> None:
        for_s = self.chance.uniform(0.05, most_s)
        self.say(f"for {for_s:.3f} s: {what}")
        begin()
        self.after(for_s, end)

    def _set(self, holder: object, name: str, value: object) -> Callable[[], None]:
        return lambda: setattr(holder, name, value)

    def kill(self) -> None:
        worker = self._one()
        if worker is not None:
            self.say(f"{worker.name} is killed")
            worker.kill()
            self.after(self.chance.uniform(0.01, 1.0), self.start_worker)

    def terminate(self) -> None:
        worker = self._one()
        if worker is not None and not worker.process.stopped:
            self.say(f"{worker.name} is told to stop")
            worker.terminate()
            self._stopping.append(worker)

    def join(self) -> None:
        if len(self._alive()) < 4:
            self.start_worker()

    def stand_still(self, least_s: float = 0.02, most_s: float = 0.9) -> None:
        worker = self._one()
        if worker is not None:
            for_s = self.chance.uniform(least_s, most_s)
            self.say(f"{worker.name} stands still for {for_s:.3f} s")
            worker.process.stop()
            self.after(for_s, worker.process.wake)

    def stand_still_for_long(self) -> None:
        session_s = self.settings.kafka.session_timeout_s
        self.stand_still(session_s * 0.6, session_s * 2.5)

    def bad_weather(self) -> None:
        draw = self.chance.random
        weather = Weather(draw() * 0.2, draw() * 0.3, draw() * 0.2, draw() * 0.5)
        self._for_a_while(
            f"{weather}",
            self._set(self.network, "weather", weather),
            self._set(self.network, "weather", Weather()),
            1.5,
        )

    def cluster_down(self) -> None:
        begin, end = self._set(self.network, "down", True), self._set(self.network, "down", False)
        self._for_a_while("no broker", begin, end, 2.0)

    def cut_off(self, service: object = None, what: str = "everything") -> None:
        """One worker's network ends; it goes on with what it has."""
        worker = self._one()
        if worker is not None:
            cut = self.network.cut
            self._for_a_while(
                f"{worker.name} is cut off from {what}",
                lambda: cut.update({worker.process: service}),
                lambda: cut.pop(worker.process, None),
                self.settings.kafka.session_timeout_s * 2,
            )

    def cut_off_from_group(self) -> None:
        self.cut_off(self.broker.group, "its group")

    def group_away(self) -> None:
        group = self.broker.group
        self._for_a_while("no group coordinator", group.go_away, group.come_back, 2.0)

    def transactions_away(self) -> None:
        begin = self._set(self.broker, "transactions_away", True)
        end = self._set(self.broker, "transactions_away", False)
        self._for_a_while("no coordinator of transactions", begin, end, 2.0)

    def refuse(self) -> None:
        begin = self._set(self.broker, "refusing", self.chance.uniform(0.05, 0.5))
        self._for_a_while("batches are refused", begin, self._set(self.broker, "refusing", 0.0), 0.6)

    def busy(self) -> None:
        begin = self._set(self.broker, "busy", self.chance.uniform(0.1, 0.8))
        self._for_a_while("batches are refused for now", begin, self._set(self.broker, "busy", 0.0), 1.0)

    def late_markers(self) -> None:
        begin = self._set(self.broker, "late_markers", self.chance.uniform(0.2, 1.0))
        self._for_a_while("markers come late", begin, self._set(self.broker, "late_markers", 0.0), 2.0)

    def late_requests(self) -> None:
        """Some arrive when their sender has given them up, or has lost its partitions."""
        self._late = True

        def begin() -> None:
            self.network.weather, self.network.late_s = Weather(slow=self.chance.uniform(0.05, 0.4)), 3.0

        def end() -> None:
            self.network.weather, self.network.late_s = Weather(), 0.0

        self._for_a_while("requests come seconds late", begin, end, 1.5)

    def _heal(self) -> None:
        """Whatever still goes on ends."""
        self.say("no more faults")
        self.network.weather, self.network.late_s, self.network.down = Weather(), 0.0, False
        self.network.cut.clear()
        self.broker.refusing = self.broker.busy = self.broker.late_markers = 0.0
        self.broker.transactions_away = False
        self.broker.group.come_back()
        self._replace_the_gone()


@contextlib.contextmanager
def _injected(world: World) -> Iterator[None]:
    """Put the simulated cluster where aiokafka's connections are made."""

    def consumer(**options: Any) -> SimulatedConsumer:
        return SimulatedConsumer(world.loop, world.chance, world.broker, world.network, **options)

    def client(**options: Any) -> SimulatedClient:
        return SimulatedClient(world.broker, world.network, world.settings.topics.partitions, **options)

    def fetcher(kafka: Kafka, topic: str) -> SimulatedFetcher:
        return SimulatedFetcher(world.chance, world.broker, world.network, kafka, topic)

    places: list[tuple[Any, str, Any]] = [
        (streams.transport.consumer, "AIOKafkaConsumer", consumer),
        (streams.state.changelog, "BatchFetcher", fetcher),
        (streams.state.changelog, "records", simulated.fetcher.records),
        (streams.transport.producer, "AIOKafkaProducer", QuietProducer),
        (streams.transport.transactions, "AIOKafkaProducer", QuietProducer),
        (aiokafka.producer.producer, "AIOKafkaClient", client),
        (aiokafka.producer.message_accumulator, "time", types.SimpleNamespace(monotonic=world.loop.time)),
    ]
    before = [getattr(module, name) for module, name, _ in places]
    for module, name, instead in places:
        setattr(module, name, instead)
    try:
        yield
    finally:
        for (module, name, _), was in zip(places, before, strict=True):
            setattr(module, name, was)


class _Trace(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        from simulated.loop import current

        self._world.say(f"{current()} {record.name}: {record.getMessage()}")


@contextlib.contextmanager
def _logged(world: World, verbose: bool) -> Iterator[None]:
    """Thousands of runs are full of warnings that are meant: they are made only where somebody reads them."""
    if not verbose:
        logging.disable(logging.CRITICAL)
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            logging.disable(logging.NOTSET)
        return
    handler = _Trace(world)
    loggers = [logging.getLogger("streams"), logging.getLogger("aiokafka")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
