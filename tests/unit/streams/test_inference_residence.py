"""Several models under one bound in memory: real tensors come and go, everyone is answered, nobody starves."""

import asyncio
import gc
import random
import sys
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models.errors import WeightsMismatch
from models.inference.memory import victims, weights_bytes
from models.types import LoadOptions, Task, Unit
from shouting import Shouter, run, said, text, until
from streams.clock import SystemClock
from streams.inference.failures import InferenceFailed
from streams.inference.limits import InferenceLimits
from streams.inference.service import InferenceService

MODEL_BYTES = 4 << 20


class Heavy(Shouter):
    """Four megabytes of weights, looked at by every forward."""

    alive: "list[weakref.ref[Heavy]]" = []
    broken_reload = False

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.ones(MODEL_BYTES // 4)
        Heavy.alive.append(weakref.ref(self))

    @classmethod
    def load(cls, options: LoadOptions) -> "Heavy":
        if cls.broken_reload and len(cls.alive) >= 2:
            raise WeightsMismatch("model.safetensors is gone")
        return cls()

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        assert float(self.weights[-1]) == 1.0
        return super().forward(units)


@pytest.fixture(autouse=True)
def _none_alive() -> Iterator[None]:
    Heavy.alive = []
    gc.collect()
    gc.freeze()  # unloading collects; the objects of the other tests are many
    yield
    gc.unfreeze()


async def started(
    names: str, models: float, idle_s: float | None = None, kind: type[Task] = Heavy
) -> InferenceService:
    """One with room for so many models."""
    limits = InferenceLimits(weights_bytes=int(models * MODEL_BYTES), idle_s=idle_s, kept_bytes=0)
    made = InferenceService(
        clock=SystemClock().monotonic_s, limits=limits, compute_threads=1, find_class=lambda _: kind
    )
    await made.start({name: LoadOptions(cache=Path("unused")) for name in names})
    return made


def resident(made: InferenceService) -> str:
    return "".join(sorted(name for name, served in made._tasks.items() if served.task is not None))


def weights() -> int:
    """Of the models that are really there."""
    return sum(ref() is not None for ref in Heavy.alive)


def test_the_weights_of_a_task_are_measured_wherever_it_holds_them() -> None:
    others = torch.zeros(1 << 20)  # somebody else's

    class Holding:
        def __init__(self) -> None:
            hidden, self.net = torch.zeros(1 << 10), torch.nn.Linear(8, 4)
            self.forward = lambda: hidden.sum()
            self.views = {"same": [hidden[10:]]}

    assert weights_bytes(Holding()) == (1 << 12) + 4 * (8 * 4 + 4)
    assert weights_bytes(object()) == 0
    del others


@pytest.mark.parametrize(
    ("wanted", "busy", "leaving"),
    [
        (10, "", ["b"]),  # the longest unused
        (20, "", ["b", "a"]),
        (10, "b", ["a"]),
        (10, "abc", None),
        (30, "a", None),
        (99, "", ["b", "a", "c"]),  # larger than all: alone
        (0, "", []),
    ],
)
def test_the_longest_unused_gives_way(wanted: int, busy: str, leaving: list[str] | None) -> None:
    loaded, used_s = {"a": 10, "b": 10, "c": 10}, {"a": 2.0, "b": 1.0, "c": 3.0}
    assert victims(wanted, 30, loaded, used_s, busy) == leaving


def test_where_all_fit_all_stay() -> None:
    async def main() -> None:
        made = await started("abc", 3.5)
        assert (resident(made), weights()) == ("abc", 3)
        await asyncio.gather(*(made.submit(name, text("x")) for name in "abc"))
        assert (resident(made), len(Heavy.alive)) == ("abc", 3)
        await made.stop(5)

    run(main())


def test_where_they_do_not_fit_the_idle_give_way_and_come_back() -> None:
    async def main() -> None:
        made = await started("abc", 2.5)
        assert (resident(made), weights()) == ("bc", 2)  # the first gave way at the start
        assert made.model("a").name == "shout"
        assert said(await made.submit("a", text("one"))) == "ONE"
        assert "a" in resident(made)
        await until(lambda: weights() == 2)
        for name in "bcabca":
            assert said(await made.submit(name, text(name))) == name.upper()
            assert len(resident(made)) == 2
        await until(lambda: weights() == 2)
        await made.stop(5)

    run(main())


def test_a_busy_model_stays_until_its_work_is_done_and_what_comes_meanwhile_waits() -> None:
    async def main() -> None:
        made = await started("ab", 1.5)
        assert resident(made) == "b"
        task = made._tasks["b"].task
        assert isinstance(task, Heavy)
        task.hold.clear()
        task.entered.clear()
        running = asyncio.create_task(made.submit("b", text("running")))
        await until(task.entered.is_set)
        wanted = asyncio.create_task(made.submit("a", text("wanted")))
        await asyncio.sleep(0.05)
        later = asyncio.create_task(made.submit("b", text("later")))  # would hold the other up for ever
        await asyncio.sleep(0.05)
        assert resident(made) == "b"
        assert made._tasks["b"].admission.units == 1
        task.hold.set()
        del task
        assert [said(one) for one in await asyncio.gather(running, wanted, later)] == [
            "RUNNING",
            "WANTED",
            "LATER",
        ]
        await until(lambda: weights() == 1)
        await made.stop(5)

    run(main())


def test_many_callers_of_many_models_are_all_answered_within_the_bound() -> None:
    async def main() -> None:
        chance = random.Random(1)
        made = await started("abcd", 2.5)
        most = 0

        async def caller(number: int) -> None:
            nonlocal most
            for n in range(5):
                words = f"{number} {n}"
                assert said(await made.submit(chance.choice("abcd"), text(words))) == words
                most = max(most, len(resident(made)))

        await asyncio.gather(*(caller(number) for number in range(20)))
        assert most <= 2
        await until(lambda: weights() <= 2)
        await made.stop(5)
        assert not made._desk._open

    run(main())


def test_a_caller_that_goes_away_while_it_waits_holds_nobody_up() -> None:
    async def main() -> None:
        made = await started("ab", 1.5)
        waiting = [asyncio.create_task(made.submit("a", text(f"w{n}"))) for n in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert [said(one) for one in await asyncio.gather(*waiting[1:])] == ["W1", "W2"]
        await made.stop(5)

    run(main())


def test_an_unused_model_is_unloaded_and_loaded_when_it_is_asked_for() -> None:
    async def main() -> None:
        made = await started("a", 10, idle_s=0.1)
        await until(lambda: resident(made) == "")
        await until(lambda: weights() == 0)
        assert said(await made.submit("a", text("back"))) == "BACK"
        assert resident(made) == "a"
        await made.stop(5)

    run(main())


def test_a_model_that_cannot_be_loaded_again_stops_the_service_with_its_message() -> None:
    class Vanishing(Heavy):
        broken_reload = True

    async def main() -> None:
        made = await started("ab", 1.5, kind=Vanishing)
        results = await asyncio.gather(
            *(made.submit("a", text(f"w{n}")) for n in range(3)), return_exceptions=True
        )
        assert [type(one) for one in results] == [InferenceFailed] * 3
        assert "model.safetensors is gone" in str(results[0])
        assert made.failed.is_set()
        await made.stop(1)

    run(main())


def test_those_who_wait_for_a_model_hear_of_the_end() -> None:
    async def main() -> None:
        made = await started("ab", 1.5)
        task = made._tasks["b"].task
        assert isinstance(task, Heavy)
        task.hold.clear()
        task.entered.clear()
        running = asyncio.create_task(made.submit("b", text("running")))
        await until(task.entered.is_set)
        wanted = asyncio.create_task(made.submit("a", text("wanted")))
        await asyncio.sleep(0.02)
        await made.stop(0.05)
        results = await asyncio.gather(running, wanted, return_exceptions=True)
        assert all(isinstance(one, InferenceFailed) for one in results)
        task.hold.set()

    run(main())


def test_without_a_bound_nothing_is_ever_unloaded() -> None:
    assert InferenceLimits().weights_bytes == sys.maxsize
