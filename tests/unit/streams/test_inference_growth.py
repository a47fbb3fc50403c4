"""Good and bad payloads leave nothing behind: no object of theirs, even with the collector off, and no memory."""

import asyncio
import gc
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from bad_records import FakeRecord, bad_uploads, claim, media
from models.inference.batching import Batch
from models.inference.window import Waiting
from models.types import Payload
from shouting import Shouter, run, service, started, text
from streams.agents.base import Services
from streams.agents.labelling import Opened
from streams.agents.media import MediaWork, UploadsAgent
from streams.clock import SystemClock
from streams.inference.limits import InferenceLimits
from streams.inference.request import Call, Request
from streams.observe.catalogue import Metrics
from streams.settings import load
from streams.transport.batch import PartitionBatch
from streams.transport.ledger import Ledger

OURS = (Call, Request, Waiting, Batch, Payload, Opened)
LIMITS = InferenceLimits(units_in_flight=100, kept_bytes=20_000)
ROUNDS, GROWTH_BYTES = 6, 50_000


@pytest.fixture(autouse=True)
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def alive() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in OURS)


async def grown(work: Callable[[int], Awaitable[None]]) -> tuple[int, Counter[str]]:
    """Bytes that all rounds but the first two have added, and which of the engine's objects are left: what a cycle
    keeps shows here."""
    after, left, others = [], Counter[str](), alive()  # threads of other tests may hold some
    tracemalloc.start()
    for number in range(ROUNDS):
        await work(number)
        await asyncio.sleep(0.01)  # the device thread lets go of its last batch
        left += alive() - others
        gc.collect()
        after.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return after[-1] - after[1], left


def test_the_engine_keeps_nothing_of_what_it_was_given() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=LIMITS))
        padding = "x" * 500

        async def work(number: int) -> None:
            words = [f"{padding}{number} {n} {n}" for n in range(150)]
            words[10::40] = ["poison"] * len(words[10::40])
            words[20::40] = ["undecodable"] * len(words[20::40])
            words[30::40] = ["long " * 40] * len(words[30::40])
            group = asyncio.create_task(made.submit_all("shout", [text(word) for word in words]))
            again = asyncio.create_task(made.submit_all("shout", [text(word) for word in words[:50]]))
            gone = asyncio.create_task(made.submit_all("shout", [text(f"{padding}{number} gone")] * 3))
            await asyncio.sleep(0.001)
            gone.cancel()
            await asyncio.gather(group, again)
            await asyncio.gather(gone, return_exceptions=True)
            task.ran.clear()

        bytes_, left = await grown(work)
        assert left == {}
        assert bytes_ < GROWTH_BYTES
        await made.stop(5)

    run(main())


def test_the_payload_path_keeps_nothing_of_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    bad = [one for one in bad_uploads(b"\xff\xd8" + bytes(1000), root) if "huge" not in one.name]
    (root / "good").write_bytes(b"a good file")

    async def main() -> None:
        monkeypatch.setattr("streams.agents.labelling.task_class", {"shout": Shouter}.__getitem__)
        task = Shouter()
        made = await started(service(shout=task, limits=LIMITS))
        settings = load(None, {"media": {"uploads": ("shout",), "roots": [str(root)]}})
        agent = UploadsAgent(Services(settings, SystemClock(), Metrics("test"), made, "test"))
        counted: Counter[str] = Counter()

        class Commit:
            def submit(self, batch: PartitionBatch, work: MediaWork) -> None:
                counted.update(labels=len(work.labels), rejected=len(work.rejected), failed=len(work.failed))

        agent.commit = Commit()  # type: ignore[assignment]
        await agent.start()
        ledger, offset = Ledger(), 0

        async def work(number: int) -> None:
            nonlocal offset
            good = [media(f"g{number}-{n}", "text/plain", b"words %d %d" % (number, n)) for n in range(40)]
            good += [
                media(f"f{number}-{n}", "text/plain", claim((root / "good").as_uri(), b"a good file"))
                for n in range(8)
            ]
            values = [(one.value, one.headers) for one in bad if len(one.value or b"") < 100_000]
            values += [(value, []) for value in good]
            records = [
                FakeRecord(offset + n, value, headers=headers) for n, (value, headers) in enumerate(values)
            ]
            entry = ledger.append(offset, offset + len(records), 100)
            offset += len(records)
            await agent._on(PartitionBatch("uploads", 0, records, entry, 0.0))  # type: ignore[arg-type]
            ledger.finish(entry)
            task.ran.clear()

        bytes_, left = await grown(work)
        assert counted["labels"] >= 48 * ROUNDS
        assert counted["rejected"] >= 15 * ROUNDS
        assert counted["failed"] >= ROUNDS  # the file that may come yet
        assert left == {}
        assert bytes_ < GROWTH_BYTES
        assert (agent._room.units, agent._room.bytes) == (0, 0)
        await agent.stop()
        await made.stop(5)

    run(main())
