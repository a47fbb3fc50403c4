"""Logs while a client retries: a message once in a while, however its arguments change."""

import asyncio
import io
import logging
from collections.abc import Iterator

import pytest

from streams.observe.logs import ClientInALine, RateLimit


class _Clock:
    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return 0


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, io.StringIO, _Clock]]:
    stream, clock = io.StringIO(), _Clock()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RateLimit(clock, quiet_s=30.0))
    logger = logging.Logger("aiokafka.conn")
    logger.addHandler(handler)
    yield logger, stream, clock


def test_the_same_template_passes_once_whatever_its_arguments(
    logged: tuple[logging.Logger, io.StringIO, _Clock],
) -> None:
    logger, stream, clock = logged
    for n in range(200):
        logger.error("Unable to connect to node %s: attempt %d", 1, n)
    clock.now_s += 31
    logger.error("Unable to connect to node %s: attempt %d", 1, 200)
    assert stream.getvalue().splitlines() == [
        "Unable to connect to node 1: attempt 0",
        "Unable to connect to node 1: attempt 200 (and 199 more like it)",
    ]


def test_messages_formatted_beforehand_that_differ_in_numbers_are_the_same_too(
    logged: tuple[logging.Logger, io.StringIO, _Clock],
) -> None:
    logger, stream, _ = logged
    for n in range(50):
        logger.error(f"request {n} to 127.0.0.1:{9000 + n} failed, 100% lost")
    assert len(stream.getvalue().splitlines()) == 1


def test_other_messages_and_information_pass(logged: tuple[logging.Logger, io.StringIO, _Clock]) -> None:
    logger, stream, _ = logged
    for text in ("one", "two", "one"):
        logger.warning(text)
    for _n in range(3):
        logger.info("progress")
    assert stream.getvalue().splitlines() == ["one", "two", "progress", "progress", "progress"]


def test_the_memory_of_messages_is_bounded(logged: tuple[logging.Logger, io.StringIO, _Clock]) -> None:
    logger, _, _ = logged
    for n in range(5000):
        logger.warning("message " + "x" * n)
    (limit,) = logger.handlers[0].filters
    assert isinstance(limit, RateLimit) and len(limit._seen) <= 512


def test_what_the_client_met_is_said_in_a_line_and_our_own_defects_with_their_stack() -> None:
    for name, lines in (("aiokafka.producer.sender", 1), ("streams.worker.app", 5)):
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.addFilter(ClientInALine())
        logger = logging.Logger(name)
        logger.addHandler(handler)
        try:
            raise ConnectionError("gone, 100 %")
        except ConnectionError:
            logger.exception("in routine %s", "sender")
        said = stream.getvalue().splitlines()
        assert said[0].startswith("in routine sender") and "gone, 100 %" in said[-1]
        assert len(said) == lines  # its message, four lines of the stack


def test_a_task_of_the_client_that_nobody_waits_for_is_a_line_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ClientInALine())
    logger = logging.Logger("asyncio")
    logger.addHandler(handler)
    for module in ("aiokafka.consumer.group_coordinator", "streams.worker.app"):
        try:
            exec("raise ConnectionError('gone')", {"__name__": module})
        except ConnectionError as error:
            logger.error("Task exception was never retrieved\nfuture: <Task>", exc_info=error)
    first, *rest = stream.getvalue().splitlines()
    assert first == "Task exception was never retrieved: ConnectionError('gone')"
    assert any(line.startswith("Traceback") for line in rest)  # of ours all is said


def test_work_that_was_called_off_is_a_line_though_an_error_came_before() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ClientInALine())
    logger = logging.Logger("faust.agents.actor")
    logger.addHandler(handler)
    try:
        try:
            raise ConnectionError("gone")
        except ConnectionError:
            raise asyncio.CancelledError from None
    except asyncio.CancelledError as error:
        logger.error("Crashed reason=CancelledError()", exc_info=error)
    assert stream.getvalue().splitlines() == ["Crashed reason=CancelledError(): CancelledError()"]
