"""The media agents with a real inference service and no broker: chains, neighbours of long work, room in bytes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bad_records import FakeRecord, media
from models.errors import BadInput
from shouting import Shouter, run, service, started, until
from streams.agents.base import Services
from streams.agents.media import AudioAgent, MediaAgent, MediaWork, UploadsAgent
from streams.clock import SystemClock
from streams.observe.catalogue import Metrics
from streams.settings import load
from streams.transport.batch import PartitionBatch
from streams.transport.ledger import Ledger


class Echo(Shouter):
    """Looks at what was shouted, but not at everything."""

    name = "echo"
    after = {"shout": "value"}

    @classmethod
    def accepts(cls, media_type: str) -> bool:
        return False  # nothing but what others find

    def prepare(self, payload: Any) -> Any:
        if payload.data == b"UNSPEAKABLE":
            raise BadInput("undecodable", "on purpose")
        return super().prepare(payload)


@dataclass
class Submitted:
    """What an agent hands to the group commit."""

    works: list[tuple[PartitionBatch, MediaWork]] = field(default_factory=list)
    failures: list[BaseException | None] = field(default_factory=list)

    def submit(self, batch: PartitionBatch, work: MediaWork) -> None:
        self.works.append((batch, work))

    def fail(self, error: BaseException | None) -> None:
        self.failures.append(error)


@dataclass
class Stage:
    agent: MediaAgent
    submitted: Submitted
    task: Shouter

    def batch(self, *values: bytes) -> "asyncio.Task[None]":
        """One partition batch of these records."""
        ledger = self.ledger
        records = [FakeRecord(self.next + n, value) for n, value in enumerate(values)]
        entry = ledger.append(self.next, self.next + len(values), 100)
        self.next += len(values)
        batch = PartitionBatch(self.agent.topic, 3, records, entry, self.agent.services.clock.monotonic_s())
        return asyncio.create_task(self.agent._on(batch))

    ledger: Ledger = field(default_factory=Ledger)
    next: int = 0

    def labels(self) -> list[dict[str, Any]]:
        return [json.loads(one.value) for _, work in self.submitted.works for one in work.labels]


def staged(
    kind: type[MediaAgent],
    test: Callable[[Stage], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
    **given: Any,
) -> None:
    async def main() -> None:
        classes = {"shout": Shouter, "echo": Echo}
        monkeypatch.setattr("streams.agents.labelling.task_class", classes.__getitem__)
        task = Shouter()
        inference = await started(service(shout=task, echo=Echo()), "shout", "echo")
        settings = load(None, {"media": {"uploads": ("shout", "echo"), "audio": ("shout",), **given}})
        agent = kind(Services(settings, SystemClock(), Metrics("test"), inference, "test"))
        submitted = Submitted()
        agent.commit = submitted  # type: ignore[assignment]
        await agent.start()
        await test(Stage(agent, submitted, task))
        await agent.stop()
        await inference.stop(5)

    run(main())


def words(asset: str, text: str) -> bytes:
    return media(asset, "text/plain", text.encode())


def test_what_one_task_found_is_looked_at_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        await stage.batch(words("a", "one two"))
        first, second = stage.labels()
        assert (first["task"], first["value"], first["via"]) == ("shout", "ONE TWO", [])
        assert (second["task"], second["value"], second["via"]) == ("echo", "ONE TWO", ["shout"])
        assert first["id"] != second["id"]
        assert first["because"] == second["because"] == {"topic": "uploads", "partition": 3, "offset": 0}
        stages = ["wait_s", "fetch_s", "room_s", "prepare_s", "queue_s", "device_s", "finish_s"]
        assert list(first["timing"]) == list(second["timing"]) == stages
        assert first["model"]["sha256"] is not None and first["model"]["dtype"] == "float32"

    staged(UploadsAgent, test, monkeypatch)


def test_a_replay_gives_the_same_labels_once_more_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        for _ in range(2):
            await stage.batch(words("a", "one two"), words("b", "three"))
        ids = [label["id"] for label in stage.labels()]
        assert len(ids) == 8 and len(set(ids)) == 4

    staged(UploadsAgent, test, monkeypatch)


def test_a_chained_step_that_fails_costs_its_own_label_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        await stage.batch(words("a", "unspeakable"), words("b", "undecodable"))
        (label,) = stage.labels()
        assert (label["task"], label["value"]) == ("shout", "UNSPEAKABLE")
        ((_, work),) = stage.submitted.works
        assert [one.reason for one in work.rejected] == [
            "undecodable"
        ]  # a first step that fails is a dead letter

    staged(UploadsAgent, test, monkeypatch)


def test_a_long_recording_does_not_hold_back_its_neighbours_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch a record; what comes behind two hours of speech is submitted first, and the ledger waits."""

    async def test(stage: Stage) -> None:
        assert stage.agent.profile().max_records == 1
        stage.task.hold.clear()
        stage.task.entered.clear()
        long = stage.batch(media("long", "audio/wav", b" ".join(b"w%03d" % n for n in range(240))))
        await until(stage.task.entered.is_set)
        device = stage.agent.services.inference._device
        assert device is not None
        of_the_long = len(device)  # in its batch's turn; no more of it is let in meanwhile
        short = [stage.batch(media(f"short{n}", "audio/wav", b"s%d" % n)) for n in range(4)]
        await until(lambda: len(device) == of_the_long + len(short))
        stage.task.hold.set()
        await asyncio.gather(long, *short)
        order = [batch.entry.first for batch, _ in stage.submitted.works]
        assert sorted(order[:4]) == [1, 2, 3, 4] and order[4] == 0
        for batch, _ in stage.submitted.works[:4]:
            stage.ledger.finish(batch.entry)
        assert stage.ledger.committable is None  # the prefix is not whole
        stage.ledger.finish(stage.submitted.works[4][0].entry)
        assert stage.ledger.committable == 5

    staged(AudioAgent, test, monkeypatch)


def test_what_is_held_between_fetch_and_label_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        stage.task.hold.clear()
        stage.task.entered.clear()
        batch = stage.batch(*(words(f"a{n}", f"{n:02d}" + "x" * 98) for n in range(10)))
        await until(stage.task.entered.is_set)
        await until(lambda: stage.agent._room.bytes == 200)
        await asyncio.sleep(0.05)
        assert stage.agent._room.bytes == 200  # two of a hundred bytes, of ten
        stage.task.hold.set()
        await batch
        assert len(stage.labels()) == 20
        assert (stage.agent._room.bytes, stage.agent._room.units) == (0, 0)

    staged(UploadsAgent, test, monkeypatch, bytes_in_flight=250)


def test_a_topics_lane_reaches_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(stage: Stage) -> None:
        stage.task.hold.clear()
        stage.task.entered.clear()
        blocked = stage.batch(words("a", "blocks"))
        await until(stage.task.entered.is_set)
        waiting = stage.batch(words("b", "waits"))
        device = stage.agent.services.inference._device
        assert device is not None
        await until(lambda: len(device) == 1)
        (lane,) = (lane for (_, lane), queue in device._planner._queues.items() if len(queue))
        assert (lane.priority, lane.deadline_s) == (3, 0.01)
        await asyncio.sleep(0.02)
        stage.task.hold.set()
        await asyncio.gather(blocked, waiting)
        assert stage.agent.services.inference.totals["shout"].late >= 1

    lanes = {"uploads": {"priority": 3, "deadline_s": 0.01}}
    staged(UploadsAgent, test, monkeypatch, lanes=lanes)
