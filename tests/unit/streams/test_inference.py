"""The inference seam: every future ends, whatever happens to its caller, its batch mates or the device.

The task is a fake whose forward can be held and broken; threads, planner and engine are real.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest

from models.errors import BadInput, DeviceLost, WeightsMismatch
from models.inference.batching import Lane
from models.inference.captures import Eager
from models.types import LoadOptions, Task, Unit
from shouting import Ears, Shouter, held, run, said, service, started, text, until, waiting
from streams.inference.answers import Answer
from streams.inference.failures import InferenceClosed, InferenceFailed
from streams.inference.limits import InferenceLimits
from streams.inference.service import InferenceService


async def error_of(waiting: Awaitable[Any]) -> BaseException | None:
    results = await asyncio.gather(waiting, return_exceptions=True)
    return results[0] if isinstance(results[0], BaseException) else None


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, streams.inference.service; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_callers_get_their_own_answers_from_shared_batches() -> None:
    async def main() -> None:
        ears = Ears()
        made = await started(service(shout=Shouter(), observer=ears))
        outcomes = await asyncio.gather(*(made.submit("shout", text(f"word number {n}")) for n in range(50)))
        assert [said(outcome) for outcome in outcomes] == [f"WORD NUMBER {n}" for n in range(50)]
        totals = made.totals["shout"]
        assert totals.units == sum(batch.units for batch in ears.batches) == 150
        assert totals.batches == len(ears.batches) < 150
        assert (
            totals.real_length
            == sum(batch.total_length for batch in ears.batches)
            == sum(len(f"wordnumber{n}") for n in range(50))
        )
        assert 0 <= totals.padding < 1
        assert made.model("shout").name == "shout"
        await made.stop(5)

    run(main())


def test_a_payload_with_nothing_to_run_is_finished_without_the_device() -> None:
    async def main() -> None:
        made = await started(service(shout=Shouter()))
        assert said(await made.submit("shout", text(""))) == ""
        assert made.totals["shout"].batches == 0
        await made.stop(5)

    run(main())


def test_bad_payloads_fail_alone() -> None:
    async def main() -> None:
        ears = Ears()
        made = await started(service(shout=Shouter(), observer=ears))
        words = ["a", "undecodable", "b", "this is poison too", "c"]
        results = await asyncio.gather(
            *(made.submit("shout", text(word)) for word in words), return_exceptions=True
        )
        reasons = [result.reason if isinstance(result, BadInput) else said(result) for result in results]  # type: ignore[arg-type]
        assert reasons == ["A", "undecodable", "B", "poison", "C"]
        assert sorted(ears.failures) == [("shout", "poison"), ("shout", "undecodable")]
        assert made.totals["shout"].failed == 2
        await made.stop(5)

    run(main())


def test_an_observer_that_fails_costs_no_answer() -> None:
    class Broken(Ears):
        def batch_done(self, *_: Any) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        heard: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: heard.append(context["exception"])
        )
        made = await started(service(shout=Shouter(), observer=Broken()))
        outcomes = await asyncio.gather(*(made.submit("shout", text(f"w{n}")) for n in range(20)))
        assert [said(outcome) for outcome in outcomes] == [f"W{n}" for n in range(20)]
        assert {type(error) for error in heard} == {ZeroDivisionError}  # and is not swallowed
        await made.stop(5)

    run(main())


def test_an_unknown_task_is_refused() -> None:
    async def main() -> None:
        made = await started(service(shout=Shouter()))
        with pytest.raises(KeyError):
            await made.submit("other", text("a"))
        await made.stop(5)

    run(main())


def test_a_cancelled_caller_leaves_its_batch_mates_alone() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        running = await held(task, made)
        queued = [asyncio.create_task(made.submit("shout", text(word))) for word in ("one", "two", "three")]
        await until(lambda: waiting(made) == 3)
        queued[1].cancel()
        running.cancel()
        await asyncio.gather(queued[1], running, return_exceptions=True)
        assert queued[1].cancelled()
        assert running.cancelled()
        assert made._tasks["shout"].admission.units == 4  # their units still take up room
        task.hold.set()
        assert [said(await queued[0]), said(await queued[2])] == ["ONE", "THREE"]
        assert b"two" not in task.ran  # nobody wanted it any more
        await made.stop(5)
        assert made._tasks["shout"].admission.units == 0

    run(main())


@pytest.mark.parametrize("death", [SystemExit(1), DeviceLost("gone"), KeyboardInterrupt()])
def test_when_the_device_thread_dies_everyone_hears_of_it(death: BaseException) -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(units_in_flight=3)))
        running = await held(task, made)
        queued = [asyncio.create_task(made.submit("shout", text(f"w{n}"))) for n in range(6)]
        await until(lambda: waiting(made) == 2)
        assert not made.failed.is_set()
        assert made.failure == ""
        task.broken = death
        task.hold.set()
        results = await asyncio.gather(running, *queued, return_exceptions=True)
        assert [type(result) for result in results] == [InferenceFailed] * 7
        await asyncio.wait_for(made.failed.wait(), 60)
        assert "device thread died" in made.failure and type(death).__name__ in made.failure
        with pytest.raises(InferenceFailed, match="device thread died"):
            await made.submit("shout", text("late"))
        await made.stop(5)
        assert not made._desk._open
        assert not made._desk._open

    run(main())


def test_a_task_that_breaks_for_good_stops_the_service_and_is_not_called_poison() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        task.broken = ZeroDivisionError()
        error = await error_of(made.submit("shout", text("fine words")))
        assert isinstance(error, InferenceFailed)
        assert "its own example" in str(error)
        assert made.failed.is_set()
        await made.stop(5)

    run(main())


def test_a_full_task_holds_up_its_own_callers_alone_and_sheds_nothing() -> None:
    async def main() -> None:
        task, other = Shouter(), Shouter()
        made = service(shout=task, other=other, limits=InferenceLimits(units_in_flight=4))
        await started(made, "shout", "other")
        running = await held(task, made)
        queued = [asyncio.create_task(made.submit("shout", text(f"w{n}"))) for n in range(20)]
        free = asyncio.create_task(made.submit("other", text("free")))
        await until(lambda: waiting(made) == 4)  # three of the full task, one of the other
        assert made.saturated == {"shout"}
        task.hold.set()
        assert [said(outcome) for outcome in await asyncio.gather(running, free, *queued)] == [
            "HELD",
            "FREE",
            *[f"W{n}" for n in range(20)],
        ]
        assert made.saturated == frozenset()
        await made.stop(5)

    run(main())


def test_bytes_in_flight_are_bounded_and_a_giant_goes_alone() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(bytes_in_flight=10)))
        running = await held(task, made, "12345678")
        giant = asyncio.create_task(made.submit("shout", text("x" * 1000)))
        small = asyncio.create_task(made.submit("shout", text("y")))
        await until(lambda: made.saturated == {"shout"})
        assert made._tasks["shout"].admission.bytes == 8
        task.hold.set()
        assert said(await running) == "12345678"
        assert said(await giant) == "X" * 1000
        assert said(await small) == "Y"
        assert made._tasks["shout"].admission.bytes == 0
        await made.stop(5)

    run(main())


def test_a_caller_cancelled_while_it_waits_for_room_makes_way() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(bytes_in_flight=10)))
        running = await held(task, made, "1234567")
        giant = asyncio.create_task(made.submit("shout", text("x" * 9)))
        small = asyncio.create_task(made.submit("shout", text("y")))
        await until(lambda: len(made._tasks["shout"].admission._waiters) == 2)
        giant.cancel()
        await until(lambda: waiting(made) == 1)  # the small one fits beside the running one
        task.hold.set()
        await asyncio.gather(running, small)
        await made.stop(5)

    run(main())


def test_stopping_finishes_what_is_in_flight_and_refuses_what_is_new() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        running = await held(task, made)
        stopping = asyncio.create_task(made.stop(10))
        await until(lambda: made._refusal is not None)
        with pytest.raises(InferenceClosed):
            await made.submit("shout", text("late"))
        task.hold.set()
        assert said(await running) == "HELD"
        await stopping
        # it says that it ends a moment before it has
        await until(lambda: not any(t.name == "inference-device" for t in threading.enumerate()))
        assert not made.failed.is_set()  # that is for a worker that must stop because of it

    run(main())


def test_stopping_is_bounded_even_if_a_forward_hangs() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(units_in_flight=2)))
        running = await held(task, made)
        queued = [asyncio.create_task(made.submit("shout", text("w"))) for _ in range(3)]
        before_s = time.monotonic()
        await made.stop(0.05)
        assert time.monotonic() - before_s < 5
        results = await asyncio.gather(running, *queued, return_exceptions=True)
        assert [type(result) for result in results] == [InferenceClosed] * 4
        task.hold.set()

    run(main())


def test_a_task_that_cannot_load_fails_the_start() -> None:
    class Missing(Shouter):
        @classmethod
        def load(cls, options: LoadOptions) -> "Shouter":
            raise WeightsMismatch("weights.safetensors is missing")

    async def main() -> None:
        made = InferenceService(clock=time.monotonic, find_class=lambda _: Missing)
        with pytest.raises(WeightsMismatch):
            await started(made)
        await until(lambda: not any(t.name == "inference-device" for t in threading.enumerate()))

    run(main())


def test_tasks_are_found_and_loaded_off_the_loop() -> None:
    threads: list[str] = []

    class Found(Shouter):
        @classmethod
        def load(cls, options: LoadOptions) -> "Shouter":
            threads.append(threading.current_thread().name)
            return cls()

    def find(name: str) -> type[Task]:
        threads.append(threading.current_thread().name)  # finding imports
        return Found

    async def main() -> None:
        made = await started(InferenceService(clock=time.monotonic, find_class=find))
        await made.stop(5)
        assert threads == ["inference-device"] * 2
        other = InferenceService(clock=time.monotonic)
        with pytest.raises(KeyError):
            await started(other, "no such task")

    run(main())


def test_a_task_that_fails_on_its_own_example_does_not_start() -> None:
    async def main() -> None:
        task = Shouter()
        task.broken = ValueError("wrong weights")
        with pytest.raises(BadInput):
            await started(service(shout=task))

    run(main())


def test_the_loop_turns_while_the_device_works() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        running = await held(task, made)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not running.done()
        task.hold.set()
        await running
        await made.stop(5)

    run(main())


def test_under_cancellation_and_poison_every_caller_is_answered_and_all_room_given_back() -> None:
    async def main() -> None:
        made = await started(service(shout=Shouter(), limits=InferenceLimits(units_in_flight=16)))
        submitted = []
        for n in range(400):
            words = "poison" if n % 17 == 0 else f"text number {n}"
            submitted.append(asyncio.create_task(made.submit("shout", text(words), Lane(n % 3))))
            if n % 5 == 0:
                await asyncio.sleep(0)
            if n % 7 == 0:
                submitted[n // 2].cancel()
        results = await asyncio.gather(*submitted, return_exceptions=True)
        for n, result in enumerate(results):
            if isinstance(result, Answer):
                assert said(result) == f"TEXT NUMBER {n}"
            else:
                assert isinstance(result, asyncio.CancelledError) or n % 17 == 0
        await made.stop(5)
        admission = made._tasks["shout"].admission
        assert (admission.units, admission.bytes, len(made._desk._open), waiting(made)) == (0, 0, 0, 0)
        assert not made._desk._open

    run(main())


def test_graphs_compiled_after_the_warm_up_are_counted() -> None:
    import torch

    class Compiling(Shouter):
        def __init__(self) -> None:
            super().__init__()
            self.double = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)

        def forward(self, units: Sequence[Unit]) -> list[Any]:
            self.double(torch.ones(len(units[0].data)))  # a shape a length
            return super().forward(units)

    async def main() -> None:
        made = await started(service(shout=Compiling()))  # its example has five letters
        await made.submit("shout", text("words"))
        assert made.totals["shout"].compiles == 0
        await made.submit("shout", text("longer"))
        assert made.totals["shout"].compiles == 1
        await made.submit("shout", text("length"))
        assert made.totals["shout"].compiles == 1
        await made.stop(5)

    run(main())


def test_shapes_that_could_not_be_captured_are_told() -> None:
    class Uncaptured(Eager):
        def warm_up(self) -> None:
            self.failures = {(1, 8): "no memory", (2, 8): "no memory"}

    class Captured(Shouter):
        captures = (Uncaptured(lambda ids: ids),)

    async def main() -> None:
        ears = Ears()
        made = service(shout=Captured(), plain=Shouter(), observer=ears)
        await started(made, "shout", "plain")
        assert ears.uncaptureds == [("shout", 2), ("plain", 0)]
        await made.stop(5)

    run(main())
