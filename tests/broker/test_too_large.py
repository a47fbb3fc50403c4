"""What no topic would take: the record that caused it is a dead letter, the rest goes on, and the worker with it."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from bad_records import NOW_MS, click, media
from processes import options_of, run_command
from running import read_all, running, settings_for, until
from sending import Sent, send, value_of
from streams.errors import EnvironmentProblem
from streams.topology.admin import apply
from taste_oracle import replayed

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
LIMIT_BYTES = 8_192


def limit(bootstrap: str, topic: str, limit_bytes: int) -> None:
    """As an administrator does it."""
    entry = ConfigEntry("max.message.bytes", str(limit_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for changed in admin.incremental_alter_configs([resource]).values():
        changed.result(timeout=15)
    until_s = time.monotonic() + 15
    while time.monotonic() < until_s:  # brokers learn of it a moment later
        (asked,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        if asked.result(timeout=15)["max.message.bytes"].value == str(limit_bytes):
            return
        time.sleep(0.1)
    raise AssertionError(f"{topic} is as it was")


@pytest.mark.parametrize("lane", LANES)
def test_a_list_that_is_too_large(lane: str, request: pytest.FixtureRequest, topic_prefix: str) -> None:
    """The click counts in its reader's state; what comes of the others is published."""
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(
        bootstrap, topic_prefix, ("clicks", "items"), kafka={"max_message_bytes": LIMIT_BYTES}
    )

    def wide(n: int, user: str) -> Sent:
        at = NOW_MS + 1000 * n
        return user.encode(), click(n, user=user, item=f"{n % 30}".rjust(250, "x"), at=at), []

    async def main() -> None:
        async with running(settings) as worker:
            readers = [wide(n, f"u{n % 5}") for n in range(60)]
            await send(bootstrap, f"{topic_prefix}clicks", readers)
            await until(lambda: value_of(worker, "headrace_items") >= 30, 15, "the items are known")
            for n in range(60, 200):  # until the item table has come round
                await send(bootstrap, f"{topic_prefix}clicks", [wide(n, f"v{n}")])
                readers.append(wide(n, f"v{n}"))
                await asyncio.sleep(0.1)
                if value_of(worker, "headrace_dead_letters_total", reason="too_large") >= 3:
                    break
            applied = lambda: value_of(worker, "headrace_applied_total", agent="clicks")  # noqa: E731
            await until(lambda: applied() == len(readers), 15, "all are done")
            large = value_of(worker, "headrace_dead_letters_total", agent="clicks", reason="too_large")
            lists = value_of(worker, "headrace_recommendations_total")
        letters = await read_all(bootstrap, f"{topic_prefix}clicks.dlt", 3)
        assert len(letters) == large >= 3
        log = await read_all(bootstrap, f"{topic_prefix}clicks", len(readers))
        values = {record.offset: record.value for record in log}
        for letter in letters:
            added = dict(letter.headers)
            assert added["dlt.reason"] == b"too_large"
            assert letter.value == values[int(added["__connect.errors.offset"])]
        published = await read_all(bootstrap, f"{topic_prefix}recommendations", 5)
        assert len(published) == lists and all(len(record.value) < LIMIT_BYTES for record in published)
        rows = await read_all(bootstrap, f"{topic_prefix}taste-changelog", 5)
        state = {(row.partition, row.key.decode()): row.value for row in rows}
        assert state == replayed(settings, log)

    asyncio.run(main())


@pytest.mark.models
@pytest.mark.parametrize("lane", LANES)
def test_a_label_that_is_too_large(lane: str, request: pytest.FixtureRequest, topic_prefix: str) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("uploads",), kafka={"max_message_bytes": 1_024})
    names = ["a", "b" * 250, "c", "d" * 250]
    sent = [(name.encode(), media(name, "text/plain", text="They sang well."), []) for name in names]

    async def main() -> None:
        async with running(settings) as worker:
            await send(bootstrap, f"{topic_prefix}uploads", sent)  # type: ignore[arg-type]
            applied = lambda: value_of(worker, "headrace_applied_total", agent="uploads")  # noqa: E731
            await until(lambda: applied() == 4, 20, "all are done")
            assert value_of(worker, "headrace_dead_letters_total", reason="too_large") == 2
            assert value_of(worker, "headrace_retries_total") == 0
        letters = await read_all(bootstrap, f"{topic_prefix}uploads.dlt", 2)
        assert [(letter.key, letter.value) for letter in letters] == [record[:2] for record in sent[1::2]]
        message = dict(letters[0].headers)["__connect.errors.exception.message"]
        assert b"sentiment label" in message and b"1024" in message
        labels = await read_all(bootstrap, f"{topic_prefix}labels", 2)
        assert [record.key for record in labels] == [b"a", b"c"]

    asyncio.run(main())


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_dead_letter_that_its_topic_would_not_take(
    delivery: str, kafka_broker: object, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = kafka_broker.bootstrap  # type: ignore[attr-defined]
    worker_settings = {"delivery": delivery, "agents": ("clicks",)}
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), worker=worker_settings)
    huge = click(1, user="ann")[:-1] + b', "more": "' + b"x" * 3_000_000 + b'"}'
    sent: list[Sent] = [
        (b"ann", huge, [("own", b"1")]),
        (b"bob", b"{", []),
        (b"cem", click(2, user="cem"), []),
    ]

    async def main() -> None:
        await apply(settings)
        limit(bootstrap, f"{topic_prefix}clicks.dlt", 1_100_000)
        async with running(settings, create=False) as worker:
            await send(bootstrap, f"{topic_prefix}clicks", sent)
            applied = lambda: value_of(worker, "headrace_applied_total", agent="clicks")  # noqa: E731
            await until(lambda: applied() == 3, 20, "all are done")
            assert value_of(worker, "headrace_dead_letters_total", agent="clicks") == 2
            assert value_of(worker, "headrace_dead_letters_left_out_total", agent="clicks") == 1
        first, second = await read_all(bootstrap, f"{topic_prefix}clicks.dlt", 2)
        added = dict(first.headers)
        assert (first.key, first.value, second.value) == (b"ann", None, b"{")
        assert added["own"] == b"1" and added["dlt.reason"] == b"too_large"
        assert int(added["dlt.left_out.bytes"]) > len(huge)
        topic, partition, offset = added["dlt.left_out.at"].decode().split("/")
        log = await read_all(bootstrap, f"{topic_prefix}{topic}", 3)
        assert next(r for r in log if (r.partition, r.offset) == (int(partition), int(offset))).value == huge

    asyncio.run(main())
    ended = run_command([*options_of(settings), "dlq", "replay", "--topic", "clicks", "--json"], tmp_path)
    assert ended.returncode == 0, ended.stderr
    done = json.loads(ended.stdout)["topics"]["clicks"]
    assert (done["sent"], done["without_value"]) == (1, 1)


@pytest.mark.kafka
def test_a_topic_that_takes_less_than_is_sent_is_named_at_the_start(
    kafka_broker: object, topic_prefix: str
) -> None:
    bootstrap = kafka_broker.bootstrap  # type: ignore[attr-defined]
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        await apply(settings)
        limit(bootstrap, f"{topic_prefix}labels", 100_000)
        with pytest.raises(EnvironmentProblem, match=r"labels 100000.*max\.message\.bytes"):
            async with running(settings, create=False):
                pass

    asyncio.run(main())


@pytest.mark.parametrize(("agent", "topic"), [("clicks", "taste-changelog"), ("items", "item-table")])
def test_state_that_no_broker_would_take_is_refused_at_the_start(
    agent: str, topic: str, embedded_broker: object, topic_prefix: str
) -> None:
    """A row could be neither left out nor repeated: the settings that make it possible are named."""
    bootstrap = embedded_broker.bootstrap  # type: ignore[attr-defined]
    settings = settings_for(bootstrap, topic_prefix, (agent,), kafka={"max_message_bytes": 2_000})

    async def main() -> None:
        with pytest.raises(EnvironmentProblem, match=rf"a row of {topic} takes up to \d+ .*taste\.ring"):
            async with running(settings):
                pass

    asyncio.run(main())
