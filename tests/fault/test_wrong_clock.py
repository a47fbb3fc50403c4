"""A worker whose time of day is wrong: its records are stamped by the broker, and where they are not, it says so."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from streams.clock import SystemClock
from streams.errors import EnvironmentProblem
from streams.topology.admin import admin_client, apply
from streams.worker.app import Worker

DAY_MS = 86_400_000


class WrongClock(SystemClock):
    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def wall_ms(self) -> int:
        return super().wall_ms() + self._ahead_ms


@pytest.mark.parametrize("ahead_ms", [-30 * DAY_MS, DAY_MS])
def test_outputs_are_stamped_by_the_broker(kafka_broker: Any, topic_prefix: str, ahead_ms: int) -> None:
    """Kafka refuses records from more than an hour ahead, and deletes at once what is older than the retention."""
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        async with running(settings, clock=WrongClock(ahead_ms)):
            await produce(bootstrap, f"{topic_prefix}clicks", [(b"u1", click(1, user="u1", at=NOW_MS))])
            (made,) = await read_all(bootstrap, f"{topic_prefix}recommendations", 1)
            (told,) = await read_all(bootstrap, f"{topic_prefix}transitions", 1)
        assert json.loads(made.value)["user"] == "u1"
        for record in (made, told):
            assert abs(record.timestamp - SystemClock().wall_ms()) < 60_000

    asyncio.run(main())


def test_an_order_is_carried_out_whatever_the_time_of_day(kafka_broker: Any, topic_prefix: str) -> None:
    """Orders and what became of them go into inputs, which keep their writers' times: they have the request's."""
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "privacy"))

    async def main() -> None:
        async with running(settings, clock=WrongClock(DAY_MS)):
            await produce(bootstrap, f"{topic_prefix}clicks", [(b"u1", click(1, user="u1", at=NOW_MS))])
            await read_all(bootstrap, f"{topic_prefix}recommendations", 1)
            order = {"id": "p-1", "user": "u1", "kind": "forget", "at": NOW_MS}
            await produce(bootstrap, f"{topic_prefix}privacy", [(b"u1", json.dumps(order).encode())])
            receipts = await read_all(bootstrap, f"{topic_prefix}privacy-receipts", 1)
        assert json.loads(receipts[0].value)["request"] == "p-1"

    asyncio.run(main())


def test_a_topic_that_keeps_the_writers_time_refuses_in_one_line(
    kafka_broker: Any, topic_prefix: str
) -> None:
    bootstrap = kafka_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        async with admin_client(settings.kafka) as client:
            own_time = {"message.timestamp.type": "CreateTime"}
            topic = ConfigResource(ConfigResourceType.TOPIC, f"{topic_prefix}taste-changelog", own_time)
            await client.alter_configs([topic])
        worker = Worker(settings, WrongClock(DAY_MS))
        try:
            await worker.start()
            await produce(bootstrap, f"{topic_prefix}clicks", [(b"u1", click(1, user="u1", at=NOW_MS))])
            await until(worker.failed.done, 30, "it gives up")
            problem = worker.failed.result()
        finally:
            await worker.stop()
        assert isinstance(problem, EnvironmentProblem) and "set the clock" in str(problem)

    asyncio.run(main())
