"""The inference engine as a contender: the same texts one at a time, in batches as they arrive, sorted, and by it."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from models.types import Finding, LoadOptions, ModelInfo, Outcome, Payload, Prepared, Task, Unit
from streams.agents.media import BATCH_RECORDS
from streams.bench.child import Job, cpu_s
from streams.bench.texts import mixed_feed
from streams.clock import SystemClock
from streams.inference.answers import Answer
from streams.inference.limits import InferenceLimits
from streams.inference.service import InferenceService
from streams.worker import collector

ARRIVAL_BATCH = 32
IN_FLIGHT = 512
GROUP = BATCH_RECORDS  # records of a partition batch


def payloads(texts: int, seed: int) -> list[Payload]:
    """The feed; its language is declared, as most newsrooms know it."""
    return [Payload("text/plain", text.encode(), "en") for text in mixed_feed(texts, seed)]


def by_arrival(task: Task, feed: Sequence[Payload], size: int) -> dict[str, float]:
    """Batches of `size`, in order of arrival."""
    prepared = [task.prepare(payload) for payload in feed]
    return _run(task, [prepared[start : start + size] for start in range(0, len(prepared), size)])


def sorted_by_length(task: Task, feed: Sequence[Payload]) -> dict[str, float]:
    """All sorted, cut by the task's own budget: what can be done when nobody waits."""
    prepared = sorted((task.prepare(payload) for payload in feed), key=lambda one: one.units[0].length)
    batches: list[list[Prepared]] = [[]]
    for one in prepared:
        if (
            one.units[0].length * (len(batches[-1]) + 1) > task.batch_cost
            or len(batches[-1]) >= task.max_units
        ):
            batches.append([])
        batches[-1].append(one)
    return _run(task, batches)


def _run(task: Task, batches: Sequence[Sequence[Prepared]]) -> dict[str, float]:
    from models.inference.engine import run_batch

    real = padded = 0
    for batch in batches:
        units = [one.units[0] for one in batch]
        ran = run_batch(task, units)
        for one, output in zip(batch, ran.outputs, strict=True):
            task.finish(one, [output])
        real += sum(unit.length for unit in units)
        padded += max(unit.length for unit in units) * len(units)
    return {"padding": round(1 - real / padded, 4), "batches": len(batches)}


async def by_engine(
    service: InferenceService, task: str, feed: Sequence[Payload], group: int = GROUP
) -> dict[str, float]:
    """As agents do: groups of records, a bounded number of them at once."""
    before = service.totals[task]
    real, padded, batches = before.real_length, before.padded_length, before.batches
    waiting = iter([feed[start : start + group] for start in range(0, len(feed), group)])

    async def caller() -> None:
        for payloads_ in waiting:
            for result in await service.submit_all(task, payloads_):
                if not isinstance(result, Answer):
                    raise result

    await asyncio.gather(*(caller() for _ in range(max(1, IN_FLIGHT // group))))
    after = service.totals[task]
    share = (after.real_length - real) / (after.padded_length - padded)
    return {"padding": round(1 - share, 4), "batches": after.batches - batches}


@asynccontextmanager
async def serving(name: str, found: Task, threads: int) -> Any:
    """A service around a task that is loaded already."""

    class Found:
        @classmethod
        def load(cls, options: LoadOptions) -> Task:
            return found

    service = InferenceService(
        clock=SystemClock().monotonic_s,
        limits=InferenceLimits(kept_bytes=0),
        compute_threads=threads,
        find_class=lambda _: Found,  # type: ignore[arg-type,return-value]
    )
    await service.start({name: LoadOptions(cache=Path("unused"))})
    collector.settle()
    try:
        yield service
    finally:
        gc.unfreeze()
        await service.stop(5.0)


async def rows_job(job: Job) -> dict[str, Any]:
    """All rows of one model and dtype, round by round, so that what else the machine does meets all alike.

    `options`: `task`, `folder`, `dtype`, `device`, `threads`, `rounds`.
    """
    import torch

    from models.registry import task_class

    options = job.options
    torch.set_num_threads(options["threads"])
    loaded = LoadOptions(
        Path("unused"), Path(options["folder"]), device=options["device"], dtype=options["dtype"]
    )
    task = task_class(options["task"]).load(loaded)
    feed = payloads(job.clicks, seed=1)
    found: dict[str, list[dict[str, Any]]] = {}
    async with serving(options["task"], task, options["threads"]) as service:
        cases: dict[str, Callable[[], Any]] = {
            "one_at_a_time": lambda: by_arrival(task, feed, 1),
            "arrival_batches": lambda: by_arrival(task, feed, ARRIVAL_BATCH),
            "offline_sorted": lambda: sorted_by_length(task, feed),
        }
        for _ in range(options["rounds"]):
            for name, case in cases.items():
                found.setdefault(name, []).append(_timed(len(feed), case))
            watch = _Watch()
            figures = await by_engine(service, options["task"], feed)
            found.setdefault("engine", []).append(watch.figures(len(feed)) | figures)
    rows = [_together(name, rounds) for name, rounds in found.items()]
    return {"rows": rows, "dtype": task.model.dtype, "threads": options["threads"]}


class _Watch:
    def __init__(self) -> None:
        gc.collect()
        self._clock = SystemClock()
        self._wall_s, self._cpu_s = self._clock.monotonic_s(), cpu_s()

    def figures(self, texts: int) -> dict[str, float]:
        return {
            "texts": texts,
            "seconds": self._clock.monotonic_s() - self._wall_s,
            "cpu_s": cpu_s() - self._cpu_s,
        }


def _timed(texts: int, case: Callable[[], dict[str, float]]) -> dict[str, float]:
    watch = _Watch()
    figures = case()
    return watch.figures(texts) | figures


def _together(name: str, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    texts, seconds, used_s = (sum(one[key] for one in rounds) for key in ("texts", "seconds", "cpu_s"))
    return {
        "case": name,
        "texts": texts,
        "texts_per_s": round(texts / seconds, 2),
        "cpu_ms_per_text": round(used_s / texts * 1000, 3),
        "padding": rounds[-1]["padding"],
        "batches": rounds[-1]["batches"],
    }


class _Nothing:
    """A task that costs nothing, so that what remains is the engine."""

    name = "nothing"
    model = ModelInfo("nothing", "1", "", "float32")
    batch_cost = 2048
    max_units = 256
    _answer = Outcome((Finding("nothing", "nothing"),))

    def prepare(self, payload: Payload) -> Prepared:
        return _PREPARED[len(payload.data)]

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        return [0.5] * len(units)

    def finish(self, prepared: Prepared, outputs: Sequence[Any]) -> Outcome:
        return self._answer

    def examples(self) -> Sequence[Payload]:
        return [Payload("text/plain", b"x")]


_PREPARED = [Prepared((Unit(length, None),)) for length in range(100)]


async def overhead_job(job: Job) -> dict[str, Any]:
    """Processor time an item takes beside its task: admission, hash, planner, two hand-overs, the answer; in groups as
    agents have them, and one by one."""
    feed = [Payload("text/plain", b"%d " % n + b"x" * (n * 7919 % 60)) for n in range(job.clicks)]
    found: dict[str, Any] = {"items": len(feed)}
    async with serving("nothing", _Nothing(), 1) as service:  # type: ignore[arg-type]
        for name, group in (("cpu_us_per_item", GROUP), ("cpu_us_per_item_one_by_one", 1)):
            used: list[float] = []
            for _ in range(5):
                watch = _Watch()
                await by_engine(service, "nothing", feed, group)
                used.append(watch.figures(len(feed))["cpu_s"])
            found[name] = round(min(used) / len(feed) * 1e6, 2)
    return found
