"""The device thread really dies (an error raised in it from outside, or by the task) and is started anew: what waits is
labelled, what was on the device is done again, once; what kills it twice ends with an error that passes; what no
restart mends stops the service.
"""

import asyncio
import ctypes
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from models.errors import DeviceLost, DeviceRuined
from models.types import Unit
from shouting import Ears, Shouter, held, run, said, service, started, text, until, waiting
from streams.inference.failures import InferenceFailed, InferenceInterrupted
from streams.inference.limits import InferenceLimits
from streams.inference.restarts import Restarts


class Mortal(Shouter):
    """Dies at the next forward, once; and at every one of the word `deadly`."""

    def __init__(self) -> None:
        super().__init__()
        self.once: BaseException | None = None

    def forward(self, units: Sequence[Unit]) -> list[Any]:
        if any(unit.data == b"deadly" for unit in units):
            raise SystemExit(1)
        outputs = super().forward(units)
        death, self.once = self.once, None
        if death is not None:
            raise death
        return outputs


def kill(name: str) -> None:
    """Raise SystemExit in a thread, at its next instruction."""
    (ident,) = (one.ident for one in threading.enumerate() if one.name == name)
    set_error = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert set_error(ctypes.c_ulong(ident or 0), ctypes.py_object(SystemExit)) == 1


@pytest.mark.parametrize("death", [None, SystemExit(1), DeviceLost("gone"), KeyboardInterrupt()])
def test_what_was_on_the_device_is_done_again_and_what_waits_is_done(death: BaseException | None) -> None:
    async def main() -> None:
        task, ears = Mortal(), Ears()
        made = await started(service(shout=task, observer=ears))
        running = await held(task, made, "running")
        joined = asyncio.create_task(made.submit("shout", text("running")))
        queued = [asyncio.create_task(made.submit("shout", text(f"w{n}"))) for n in range(6)]
        long = asyncio.create_task(made.submit("shout", text(" ".join(f"x{n:02d}" for n in range(40)))))
        await until(lambda: waiting(made) == 6 + 16)
        task.once = death
        if death is None:
            kill("inference-device")
        task.hold.set()
        assert said(await running) == said(await joined) == "RUNNING"
        assert [said(one) for one in await asyncio.gather(*queued)] == [f"W{n}" for n in range(6)]
        assert said(await long) == " ".join(f"X{n:02d}" for n in range(40))
        assert ears.restarts == [type(death).__name__ if death is not None else "SystemExit"]
        assert not made.failed.is_set()
        await made.stop(5)
        admission = made._tasks["shout"].admission
        assert (admission.units, admission.bytes, len(made._desk)) == (0, 0, 0)

    run(main())


def test_a_long_payload_is_done_again_from_its_beginning_and_gives_its_place_back() -> None:
    async def main() -> None:
        task = Mortal()
        made = await started(service(shout=task))
        words = [" ".join(f"{kind}{n:02d}" for n in range(40)) for kind in "ab"]
        task.hold.clear()
        task.entered.clear()
        giants = [asyncio.create_task(made.submit("shout", text(one))) for one in words]
        await until(task.entered.is_set)
        task.once = SystemExit(1)
        task.hold.set()
        assert [said(answer) for answer in await asyncio.gather(*giants)] == [one.upper() for one in words]
        await made.stop(5)
        served = made._tasks["shout"]
        assert (served.admission.units, served.admission.bytes, served.giant) == (0, 0, None)

    run(main())


def test_what_kills_the_thread_twice_ends_with_an_error_that_passes_and_the_rest_is_done() -> None:
    async def main() -> None:
        task, ears = Mortal(), Ears()
        made = await started(service(shout=task, observer=ears))
        running = await held(task, made)
        words = ["deadly", *(f"word{n}" for n in range(12))]
        group = asyncio.create_task(made.submit_all("shout", [text(word) for word in words]))
        await until(lambda: waiting(made) == len(words))
        task.hold.set()
        await running
        results = await group
        interrupted = [
            word for word, one in zip(words, results, strict=True) if isinstance(one, InferenceInterrupted)
        ]
        assert "deadly" in interrupted and len(interrupted) <= task.max_units
        assert [said(one) for one in results if not isinstance(one, Exception)] == [
            word.upper() for word in words if word not in interrupted
        ]
        assert ears.restarts == ["SystemExit"] * 2
        await made.stop(5)
        assert made._tasks["shout"].admission.units == 0

    run(main())


def test_a_thread_that_dies_too_often_stops_the_service_with_its_reason() -> None:
    async def main() -> None:
        task = Mortal()
        made = await started(service(shout=task, limits=InferenceLimits(restarts=1)))
        results = await made.submit_all("shout", [text("fine")])
        assert said(results[0]) == "FINE"  # type: ignore[arg-type]
        with pytest.raises(
            InferenceFailed, match="the device thread died: SystemExit at test_inference_restarts"
        ):
            await made.submit("shout", text("deadly"))
        assert made.failed.is_set()
        await made.stop(5)

    run(main())


def test_a_ruined_device_is_not_started_anew() -> None:
    async def main() -> None:
        task, ears = Mortal(), Ears()
        made = await started(service(shout=task, observer=ears))
        task.once = DeviceRuined("CUDA error: an illegal memory access was encountered")
        with pytest.raises(InferenceFailed, match="illegal memory"):
            await made.submit("shout", text("x"))
        assert ears.restarts == []
        await made.stop(5)

    run(main())


def test_a_cancelled_caller_of_what_died_is_not_missed() -> None:
    async def main() -> None:
        task = Mortal()
        made = await started(service(shout=task))
        running = await held(task, made)
        task.once = SystemExit(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        task.hold.set()
        assert said(await made.submit("shout", text("next"))) == "NEXT"
        await made.stop(5)
        assert made._tasks["shout"].admission.units == 0
        assert task.ran.count(b"held") == 1  # not once more

    run(main())


def test_restarts_are_bounded_within_a_time() -> None:
    restarts = Restarts(2, within_s=10.0)
    assert [restarts.allowed(at_s) for at_s in (0.0, 1.0, 2.0, 10.0, 10.5, 11.5)] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
