"""A consumer that its group has forgotten commits nothing, not even where the group is empty by then."""

import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError

from running import committed, produce
from streams.demo.kafka import KafkaBroker
from streams.transport.client import close
from streams.transport.offsets import only_as_member


@pytest.mark.kafka
@pytest.mark.parametrize("guarded", [False, True])
def test_whoever_is_no_member_any_more_sets_nothing_back(
    kafka_broker: KafkaBroker, topic_prefix: str, guarded: bool
) -> None:
    """Unguarded, the client commits as one of no group, and the broker takes it: this is what the guard is for."""
    bootstrap, topic, group = kafka_broker.bootstrap, f"{topic_prefix}t", f"{topic_prefix}group"

    async def main() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1)])
        await admin.close()
        await produce(bootstrap, topic, [(None, b"%d" % n) for n in range(10)])
        stale = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=2_000,
            heartbeat_interval_ms=300,
        )
        await stale.start()
        if guarded:
            only_as_member(stale)
        await stale.getone()
        place = TopicPartition(topic, 0)
        await stale.commit({place: 9})
        await _forgotten(stale, group, bootstrap)
        with pytest.raises(CommitFailedError) if guarded else contextlib.nullcontext():
            await stale.commit({place: 3})
        assert (await committed(bootstrap, group, topic, 1))[0] == (9 if guarded else 3)
        await close(stale)

    asyncio.run(main())


async def _forgotten(consumer: AIOKafkaConsumer, group: str, bootstrap: str) -> None:
    """No heartbeat for longer than a session, and the client has heard that it is out."""
    coordinator = consumer._coordinator
    for task in (coordinator._coordination_task, coordinator._heartbeat_task):
        task.cancel()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    deadline = asyncio.get_running_loop().time() + 60
    while (await _state(admin, group)) != "Empty":
        assert asyncio.get_running_loop().time() < deadline, "its group remembers it"
        await asyncio.sleep(0.1)
    await admin.close()
    coordinator.reset_generation()


async def _state(admin: AIOKafkaAdminClient, group: str) -> str:
    (answer,) = await admin.describe_consumer_groups([group])
    ((_, _, state, *_),) = answer.groups
    return str(state)
