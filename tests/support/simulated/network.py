"""Requests and answers between simulated clients and the simulated broker: late, lost, or answered to nobody."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError, RequestTimedOutError

from simulated.loop import Process, VirtualLoop, current

ROUND_S = (0.0005, 0.004)  # one way, on a good day
SLOW_S = (0.02, 0.4)
# Of `SimulatedClient`: requests by which a broker without the second part of KIP-890 cannot tell one transaction of a
# producer from its next, so that one which arrives after its own repetition spoils the next. No client can help that;
# those of a process that died or stands still do arrive.
UNNUMBERED = ("_end", "_commit_offsets", "_add_group")


@dataclass(slots=True)
class Weather:
    """How often what happens to a request. All 0: nothing ever."""

    lost: float = 0.0  # it never arrives
    unanswered: float = 0.0  # it arrives, the answer does not
    reset: float = 0.0  # it arrives, and the connection ends at once
    slow: float = 0.0


class Network:
    """Everything that goes between clients and the broker."""

    def __init__(self, loop: VirtualLoop, chance: random.Random) -> None:
        self._loop = loop
        self._chance = chance
        self.weather = Weather()
        self.down = False
        self.cut: dict[Process, object | None] = {}  # process -> the one service it cannot reach; None: all
        self.late_s = 0.0  # how much longer a slow request may be on its way

    async def call(self, timeout_s: float, answer: Callable[..., Any], *args: Any) -> Any:
        """What `answer(*args)` returns at the broker: at once, or by a future. Raises KafkaError."""
        return await self.ask(self._loop.create_future(), timeout_s, answer, *args)

    async def ask(
        self, future: "asyncio.Future[Any]", timeout_s: float, answer: Callable[..., Any], *args: Any
    ) -> Any:
        """The same by a future of the caller's, who may fail it meanwhile."""
        self._post(future, answer, args)
        timer = self._loop.call_later(timeout_s, _fail, future, RequestTimedOutError("no answer"))
        try:
            return await future
        finally:
            timer.cancel()

    def _post(self, future: "asyncio.Future[Any]", answer: Callable[..., Any], args: tuple[Any, ...]) -> None:
        draw, weather = self._chance.random(), self.weather
        if draw < weather.lost or self._is_cut(getattr(answer, "__self__", None)):
            return
        delay_s = self._chance.uniform(*ROUND_S)
        if self._chance.random() < weather.slow:
            delay_s += self._chance.uniform(*SLOW_S) + self._chance.random() * self.late_s
        draw -= weather.lost
        heard = draw >= weather.unanswered
        reset = 0 <= draw - weather.unanswered < weather.reset
        self._loop.later(delay_s, self._arrive, future, heard, reset, answer, args)

    @property
    def silent(self) -> bool:
        """Whether the process that runs now gets nothing to read."""
        return self.down or self._is_cut(None)

    def _is_cut(self, service: object) -> bool:
        process = current()
        return process is not None and process in self.cut and self.cut[process] in (None, service)

    def _arrive(
        self,
        future: "asyncio.Future[Any]",
        heard: bool,
        reset: bool,
        answer: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        if future.done() and getattr(answer, "__name__", "") in UNNUMBERED:
            return  # its sender gave it up and closed the connection
        if self.down:
            self._answer(future, KafkaConnectionError("connection refused"))
            return
        try:
            result = answer(*args)
        except KafkaError as error:
            result = error
        if not heard:
            return
        if reset:
            result = KafkaConnectionError("connection reset")
        if isinstance(result, asyncio.Future):
            result.add_done_callback(lambda done: done.cancelled() or self._answer(future, done.result()))
        else:
            self._answer(future, result)

    def _answer(self, future: "asyncio.Future[Any]", result: Any) -> None:
        self._loop.later(self._chance.uniform(*ROUND_S), _settle, future, result)


def _settle(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
