"""Topics planned and applied on brokers: missing ones are created, differences are reported and left alone."""

import asyncio
from typing import Any

import pytest

from streams.demo.server import free_ports
from streams.errors import EnvironmentProblem
from streams.settings import Settings, load
from streams.topology import admin
from streams.topology.topics import TOPOLOGY


def settings_for(bootstrap: str, prefix: str, partitions: int = 3) -> Settings:
    return load(
        None,
        {"kafka": {"bootstrap": bootstrap, "topic_prefix": prefix}, "topics": {"partitions": partitions}},
    )


@pytest.fixture(
    params=[pytest.param(lane, marks=getattr(pytest.mark, lane)) for lane in ("embedded", "kafka")]
)
def bootstrap(request: pytest.FixtureRequest) -> str:
    broker: Any = request.getfixturevalue(f"{request.param}_broker")
    return str(broker.bootstrap)


def test_apply_creates_what_plan_names_and_a_second_apply_nothing(bootstrap: str, topic_prefix: str) -> None:
    settings = settings_for(bootstrap, topic_prefix)
    names = [f"{topic_prefix}{topic.name}" for topic in TOPOLOGY]

    planned = asyncio.run(admin.plan(settings))
    assert [(one.topic, one.kind) for one in planned] == [(name, "missing") for name in names]
    created, left = asyncio.run(admin.apply(settings))
    assert ([one.topic for one in created], left) == (names, [])
    assert asyncio.run(admin.plan(settings)) == []
    assert asyncio.run(admin.apply(settings)) == ([], [])


def test_another_partition_count_is_reported_and_left(bootstrap: str, topic_prefix: str) -> None:
    asyncio.run(admin.apply(settings_for(bootstrap, topic_prefix)))
    wanted = settings_for(bootstrap, topic_prefix, partitions=5)

    created, left = asyncio.run(admin.apply(wanted))

    assert created == []
    assert {one.topic for one in left if one.kind == "partitions"} == {
        f"{topic_prefix}{topic.name}" for topic in TOPOLOGY if topic.partitions is None
    }
    assert all((one.wanted, one.found) == ("5", "3") for one in left)
    assert asyncio.run(admin.require_topics(wanted, ["clicks"])) == {"clicks": 3}


@pytest.mark.kafka
def test_a_drifted_setting_is_reported(kafka_broker: Any, topic_prefix: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    name = f"{topic_prefix}recommendations"
    client = AdminClient({"bootstrap.servers": kafka_broker.bootstrap})
    wrong = NewTopic(name, 3, 1, config={"cleanup.policy": "delete"})
    for done in client.create_topics([wrong], operation_timeout=10).values():
        done.result(timeout=15)

    created, left = asyncio.run(admin.apply(settings_for(kafka_broker.bootstrap, topic_prefix)))

    assert len(created) == len(TOPOLOGY) - 1
    assert ("cleanup.policy", "compact", "delete") in [(d.setting, d.wanted, d.found) for d in left]


def test_a_missing_topic_and_a_missing_broker_are_named(bootstrap: str, topic_prefix: str) -> None:
    with pytest.raises(EnvironmentProblem, match=f"{topic_prefix}clicks.*topics apply"):
        asyncio.run(admin.require_topics(settings_for(bootstrap, topic_prefix), ["clicks"]))
    nowhere = settings_for(f"127.0.0.1:{free_ports(1)[0]}", topic_prefix)
    with pytest.raises(EnvironmentProblem, match="no answer from a Kafka broker"):
        asyncio.run(admin.plan(nowhere))
