"""The query API of running workers: answers equal the state and what was published; keys find their owner."""

import asyncio
import json
import random
from typing import Any

import aiohttp
import hypothesis
import msgspec
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error

from bad_records import NOW_MS, click
from running import produce, read_all, running, settings_for, until
from settled import clicks_agent, table_settled
from streams.feed.records import partition_of
from streams.query.answers import Explanation, Neighbours, ReaderList, ReaderVector
from streams.worker.app import Worker

LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]
USERS = [f"u{n}" for n in range(20)]


def clicks(count: int = 600) -> list[tuple[bytes | None, bytes | None]]:
    draw = random.Random(7)
    records: list[tuple[bytes | None, bytes | None]] = []
    for n in range(count):
        user = USERS[n % len(USERS)]
        item = f"i{draw.randrange(40)}"
        records.append((user.encode(), click(n, user=user, at=NOW_MS + 100 * n, item=item, kind="click")))
    return records


async def ask(worker: Worker, path: str, follow: bool = False) -> tuple[int, Any, str | None]:
    """Status, body, Location."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{worker.port.port}{path}", allow_redirects=follow) as reply,
    ):
        body = json.loads(await reply.read())
        return reply.status, body, reply.headers.get("Location")


def applied(*workers: Worker) -> float:
    return sum(float(worker.metrics.applied.labels("clicks")._value.get()) for worker in workers)


def fuzz(port: int) -> None:
    """Any key, also ones that no client would send: statuses and bodies are those of the document."""
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    session = requests.Session()
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) == 5
    for operation in operations:

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=8, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), database=None
        )
        def one(case: Any) -> None:
            # 503 is in the document: this worker has no labels
            answer = case.call_and_validate(session=session, excluded_checks=[not_a_server_error])
            assert answer.status_code != 500

        one()


def test_answers_of_one_worker(embedded_broker: Any, topic_prefix: str) -> None:
    bootstrap = embedded_broker.bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks", "items"))

    async def main() -> None:
        async with running(settings) as worker:
            await produce(bootstrap, f"{topic_prefix}clicks", clicks())
            await until(lambda: applied(worker) == 600, 20, "all applied")
            agent = clicks_agent(worker)
            await table_settled(worker)  # all items: of those lists are made from here on
            await produce(
                bootstrap,
                f"{topic_prefix}clicks",
                [
                    (u.encode(), click(1000 + n, user=u, at=NOW_MS + 90_000, item="i1"))
                    for n, u in enumerate(USERS)
                ],
            )
            await until(lambda: applied(worker) == 620, 20, "all applied")
            await table_settled(worker)  # from here on nothing changes
            published = {
                json.loads(r.value)["user"]: json.loads(r.value)
                for r in sorted(
                    await read_all(bootstrap, f"{topic_prefix}recommendations", 20), key=lambda r: r.offset
                )
            }
            for user in USERS[:5]:
                status, body, _ = await ask(worker, f"/users/{user}/recommendations")
                assert status == 200
                found = msgspec.convert(body, ReaderList)
                assert found.user == user and found.at == NOW_MS + 90_000
                assert len(found.items) == len(published[user]["items"])
                assert {i.item for i in found.items} & {i["item"] for i in published[user]["items"]}
                assert found.staleness.partition == partition_of(user.encode(), 4)
                assert found.staleness.applied_offset is not None and found.staleness.age_s is not None

                status, body, _ = await ask(worker, f"/users/{user}/explain")
                why = msgspec.convert(body, Explanation)
                assert [one.item for one in why.items] == [one.item for one in found.items]
                for one in why.items:
                    assert sum(one.layers.values()) == pytest.approx(one.score, abs=1e-5)
                    parts = sum(cause.score for cause in one.causes)
                    assert parts == pytest.approx(one.layers["counts"], abs=1e-5)

                status, body, _ = await ask(worker, f"/users/{user}/vector")
                state = msgspec.convert(body, ReaderVector)
                assert [half.half_life_s for half in state.bank] == [60.0, 3600.0, 86400.0, 2592000.0]
                assert state.events[0].item == "i1" and len(state.events) == 31
                # 31 clicks of weight 1 in 90 s: all stand in the bank of a month, half a minute's worth in the first
                assert state.bank[3].net == pytest.approx(31, abs=0.01)
                assert 1 < state.bank[0].net < 25
                assert sum(x * x for x in state.bank[1].vector) == pytest.approx(1, abs=1e-3)

            before = len(agent.shelf().rows)
            assert (await ask(worker, "/users/nobody/vector"))[0] == 404
            assert (await ask(worker, f"/users/{'x' * 257}/vector"))[0] == 400
            assert len(agent.shelf().rows) == before  # a question makes no reader

            status, body, _ = await ask(worker, "/items/i1/neighbours")
            near = msgspec.convert(body, Neighbours)
            assert status == 200 and near.neighbours and 0 < sum(n.share for n in near.neighbours) <= 1.0001
            assert (await ask(worker, "/items/never/neighbours"))[0] == 404
            assert (await ask(worker, "/labels/never%2F1"))[0] == 503  # no media agents here
            for trick in ("/..%2f..%2fetc/passwd", "/users/../../etc/passwd", "/labels/", "/users//vector"):
                status, body, _ = await ask(worker, trick)
                assert status == 404 and "Traceback" not in json.dumps(body), trick
            await asyncio.to_thread(fuzz, worker.port.port)

    asyncio.run(main())


@pytest.mark.parametrize("lane", LANES)
def test_a_key_finds_its_owner(lane: str, request: pytest.FixtureRequest, topic_prefix: str) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",))

    async def main() -> None:
        async with running(settings) as first, running(settings) as second:
            readers = [worker._lines[0].reader for worker in (first, second)]
            await until(lambda: sorted(len(r.owned) for r in readers) == [2, 2], 20, "they share")
            await until(lambda: first.ready and second.ready, 20, "both ready")
            await produce(bootstrap, f"{topic_prefix}clicks", clicks(40))
            await until(lambda: applied(first, second) == 40, 20, "all applied")
            address = {worker: f"http://127.0.0.1:{worker.port.port}" for worker in (first, second)}
            for user in USERS:
                partition = partition_of(user.encode(), 4)
                owner = first if partition in readers[0].owned else second
                other = second if owner is first else first
                path = f"/users/{user}/recommendations"
                assert (await ask(owner, path))[0] == 200
                status, body, location = await ask(other, path)
                if lane == "embedded":  # Tansu 0.6 does not say which member has which partitions
                    assert status == 503 and body["partition"] == partition
                    continue
                assert (status, location) == (307, f"{address[owner]}{path}?routed=1")
                status, body, _ = await ask(other, path, follow=True)
                assert status == 200 and body["user"] == user
                status, body, _ = await ask(other, f"{path}?routed=1")  # not on and on
                assert status == 503 and body["partition"] == partition

    asyncio.run(main())


def test_without_a_worker_the_answer_names_the_partition(embedded_broker: Any, topic_prefix: str) -> None:
    settings = settings_for(embedded_broker.bootstrap, topic_prefix, ("items",))

    async def main() -> None:
        async with running(settings) as worker:
            status, body, _ = await ask(worker, "/users/u1/vector")
            assert status == 503 and body["partition"] == partition_of(b"u1", 4)
            status, body, _ = await ask(worker, "/items/i1/neighbours")
            assert status == 503

    asyncio.run(main())
