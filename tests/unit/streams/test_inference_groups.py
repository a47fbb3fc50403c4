"""Payloads that are submitted together: each has its own result, in its place, whatever became of the others."""

import asyncio

import pytest

from models.errors import BadInput
from models.inference.batching import Lane
from shouting import Ears, Shouter, held, run, said, service, started, text, until, waiting
from streams.inference.admission import Admission
from streams.inference.answers import Answer
from streams.inference.failures import InferenceFailed
from streams.inference.limits import InferenceLimits


def test_each_has_its_result_in_its_place() -> None:
    async def main() -> None:
        ears = Ears()
        made = await started(service(shout=Shouter(), observer=ears))
        words = ["a", "undecodable", "b", "", "a", "poison", "c d", "b"]
        results = await made.submit_all("shout", [text(word) for word in words], Lane(1))
        told = [one.reason if isinstance(one, BadInput) else said(one) for one in results]  # type: ignore[arg-type]
        assert told == ["A", "undecodable", "B", "", "A", "poison", "C D", "B"]
        again = [one.repeated for one in results if isinstance(one, Answer)]
        assert again == [None, None, None, "joined", None, "joined"]
        assert await made.submit_all("shout", []) == []
        await made.stop(5)
        admission = made._tasks["shout"].admission
        assert (admission.units, admission.bytes, len(made._desk)) == (0, 0, 0)

    run(main())


def test_a_group_larger_than_the_room_goes_through_it() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task, limits=InferenceLimits(units_in_flight=4)))
        running = await held(task, made)
        group = asyncio.create_task(made.submit_all("shout", [text(f"w{n}") for n in range(30)]))
        await until(lambda: waiting(made) == 3)
        assert made._tasks["shout"].admission.units == 4
        task.hold.set()
        assert [said(one) for one in await group] == [f"W{n}" for n in range(30)]  # type: ignore[arg-type]
        await running
        await made.stop(5)
        assert made._tasks["shout"].admission.units == 0

    run(main())


@pytest.mark.parametrize("units_in_flight", [4, 100])
def test_a_cancelled_group_leaves_those_alone_who_joined_it(units_in_flight: int) -> None:
    async def main() -> None:
        task = Shouter()
        limits = InferenceLimits(units_in_flight=units_in_flight)
        made = await started(service(shout=task, limits=limits))
        running = await held(task, made)
        group = asyncio.create_task(made.submit_all("shout", [text(f"w{n}") for n in range(20)]))
        await until(lambda: waiting(made) == min(20, units_in_flight - 1))
        other = asyncio.create_task(made.submit_all("shout", [text("w1"), text("held")]))
        await asyncio.sleep(0)
        group.cancel()
        await asyncio.gather(group, return_exceptions=True)
        task.hold.set()
        assert [said(one) for one in await other] == ["W1", "HELD"]  # type: ignore[arg-type]
        await running
        await made.stop(5)
        assert (made._tasks["shout"].admission.units, len(made._desk)) == (0, 0)
        assert b"w0" not in task.ran

    run(main())


def test_one_bad_end_of_the_device_ends_the_group() -> None:
    async def main() -> None:
        task = Shouter()
        made = await started(service(shout=task))
        running = await held(task, made)
        group = asyncio.create_task(made.submit_all("shout", [text(f"w{n}") for n in range(20)]))
        await until(lambda: waiting(made) == 20)
        task.broken = SystemExit(1)
        task.hold.set()
        results = await asyncio.gather(running, group, return_exceptions=True)
        assert [type(one) for one in results] == [InferenceFailed] * 2
        await made.stop(5)

    run(main())


def test_room_for_many_is_taken_as_far_as_it_goes() -> None:
    room = Admission(limit_units=4, limit_bytes=10)
    assert room.enter_many([3, 3, 3, 3]) == 3  # bytes
    assert (room.units, room.bytes) == (3, 9)
    assert room.enter_many([1, 0]) == 1  # units
    room.resize(-4, -10)
    assert room.enter_many([99, 1]) == 1  # over the bound: alone
    room.resize(-1, -99)
    assert (room.units, room.bytes) == (0, 0)
