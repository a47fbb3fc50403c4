"""The pure parts of the page and of the queries: what is kept in bounds, what charts say, what an address may be."""

from typing import Any

import msgspec
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from streams.agents.registry import with_companions
from streams.events import Because, Label, ModelName
from streams.observe.agents import AgentMetrics
from streams.observe.catalogue import Metrics
from streams.observe.guard import is_loopback
from streams.page.flow import flow
from streams.page.hub import QUEUE, Client, Hub
from streams.page.numbers import KEPT_S, Numbers
from streams.query.latest import LatestLabels
from streams.transport.directory import _member, address_of, addressed


def label(asset: str, task: str, at: int = 1, value: str = "x", id_: str | None = None) -> bytes:
    model = ModelName("m", "1", "float32", "0" * 64)
    name = id_ or f"{asset}-{task}-{at}"
    return msgspec.json.encode(Label(name, asset, task, at, model, value, Because("uploads", 0, 1), {}))


def test_the_newest_labels_stay_and_bounds_hold() -> None:
    kept = LatestLabels(keep=4)
    for n in range(10):
        kept.add(label(f"a{n}", "tag"))
        kept.add(label(f"a{n}", "sentiment"))
    assert len(kept) == 4
    assert kept.of("a0") == [] and [one.task for one in kept.of("a9")] == ["sentiment", "tag"]
    assert kept.by_id("a9-tag-1") is not None and kept.by_id("a0-tag-1") is None
    kept.add(label("a9", "tag", at=2))
    assert len(kept) == 4 and kept.by_id("a9-tag-1") is None and kept.by_id("a9-tag-2") is not None
    assert kept.newest_at_ms == 2
    assert [one.asset for one in kept.newest()][:2] == ["a9", "a9"]
    kept.forget("a9")
    assert len(kept) == 2 and kept.of("a9") == []


def test_labels_are_bounded_in_bytes_and_nonsense_is_counted() -> None:
    kept = LatestLabels(keep=1000, keep_bytes=10_000)
    for n in range(100):
        kept.add(label(f"a{n}", "tag", value="y" * 1000))
    assert 5 <= len(kept) <= 10
    for nonsense in (b"", b"{", b"[]", b"\xff", b'{"id": 1}'):
        assert kept.add(nonsense) is None
    assert kept.add(None) is None and kept.add(label("big", "tag", value="z" * 20_000)) is None
    assert kept.unreadable == 5 and len(kept) <= 10


def test_charts_are_differences_of_the_registry() -> None:
    metrics = Metrics("1")
    clicks = AgentMetrics(metrics, "clicks", "clicks")
    numbers = Numbers(metrics, ("clicks", "items"))
    clicks.partitions(owned=2, open_=2)
    numbers.take(100.0, 1000)
    assert numbers.health()["items"]["word"] == "idle" and numbers.health()["clicks"]["word"] == "ok"
    for seconds, count in ((0.0015, 90), (0.03, 9), (7.0, 1)):
        for _ in range(count):
            clicks.group_done(1, 0.001, seconds)
    clicks.batch_read(0, 500, 1)
    clicks.lag(0, 7, 6.0)
    clicks.lag(1, 3, 0.0)
    clicks.dead_lettered("schema")
    clicks.published("recommendations", 40)
    chart = numbers.take(102.0, 3000)
    assert chart["rate.clicks"] == 250.0
    assert chart["lag.clicks"] == 10 and chart["lag_s.clicks"] == 6.0
    assert chart["letters"] == 0.5
    # straight within a bucket: 50 of 90 in 1..2 ms; the 99th of 99 at the end of 20..50 ms
    assert chart["p50.clicks"] == pytest.approx(0.001 + 0.001 * 50 / 90, abs=1e-6)
    assert chart["p99.clicks"] == pytest.approx(0.05, abs=1e-6)
    assert chart["p50.items"] is None and chart["padding"] is None
    assert numbers.rates()["clicks>recommendations"] == 20.0 and numbers.rates()[">clicks"] == 250.0
    assert (
        numbers.health()["clicks"] | {"letters": 1.0, "word": "behind", "lag": 10.0}
        == numbers.health()["clicks"]
    )
    clicks.partitions(owned=2, open_=1)
    numbers.take(103.0, 4000)
    assert numbers.health()["clicks"]["word"] == "recovering"
    assert 'headrace_dead_letters_total{agent="clicks",reason="schema"}' in numbers.shown()
    assert not any("partition=" in name or "_bucket" in name for name in numbers.shown())
    for n in range(2 * KEPT_S):
        numbers.take(104.0 + n, 5000 + n)
    history = numbers.history()
    assert {len(series) for series in history.values()} == {KEPT_S}


def test_the_flow_is_that_of_the_table_of_rights() -> None:
    agents = with_companions(["clicks", "items", "audio", "uploads"])
    graph = flow({agent.name: agent.topic for agent in agents})
    columns = {node["id"]: node["column"] for node in graph["nodes"]}
    assert columns["topic:clicks"] == 0 and columns["agent:clicks"] == 1
    assert columns["topic:item-table"] > columns["agent:items"] > columns["topic:transitions"]
    edges = {(edge["from"], edge["to"]): edge for edge in graph["edges"]}
    for agent in (
        "audio",
        "uploads",
        "audio-retry",
        "uploads-retry",
    ):  # a label that comes late is no way back
        assert not edges[f"agent:{agent}", "topic:labels"]["back"]
    assert edges["agent:audio-retry", "topic:audio.retry"]["back"]
    assert edges["topic:item-table", "agent:clicks"]["back"]
    assert edges["topic:uploads", "agent:uploads"]["kind"] == "read"
    assert not any(node["id"].endswith((".dlt", "changelog")) for node in graph["nodes"])
    assert flow({"unheard-of": "clicks"})["nodes"]  # an agent of somebody's own


def test_a_full_queue_ends_the_page_and_no_other() -> None:
    hub, ended = Hub(most=3), []
    clients = [Client("u1" if n else None, lambda n=n: ended.append(n)) for n in range(4)]
    assert [hub.join(client) for client in clients] == [True, True, True, False]
    for _ in range(QUEUE):
        hub.send(b"x", "u1")
    assert not ended and clients[0].waiting.empty()
    hub.send(b"x")
    assert sorted(ended) == [1, 2] and hub.dropped == 2 and len(hub) == 1
    hub.close()
    assert sorted(ended) == [0, 1, 2] and not hub.join(clients[3])


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (b"http://10.0.0.7:8780", "http://10.0.0.7:8780"),
        (b"https://worker-1.headrace:443", "https://worker-1.headrace:443"),
        (b"http://[::1]:8780", "http://[::1]:8780"),
        (b"", None),
        (None, None),
        (b"javascript:alert(1)", None),
        (b"http://a:1/path", None),
        (b"http://user@host:1", None),
        (b"http://a:1\r\nSet-Cookie: x", None),
        (b"http://a:1\n", None),
        (b"\xff\xfe", None),
        (b"http://" + b"a" * 400 + b":1", None),
    ],
)
def test_what_may_go_into_a_redirect(given: bytes | None, address: str | None) -> None:
    assert address_of(given) == address


def test_members_of_any_kind_are_read() -> None:
    told = addressed("http://10.0.0.7:8780").metadata(["clicks"]).encode()
    owns = ConsumerProtocolMemberAssignment(0, [("clicks", [3, 1])], b"").encode()
    found = _member("m", "client", "/10.0.0.7", told, owns)
    assert found.address == "http://10.0.0.7:8780" and found.partitions == {"clicks": [1, 3]}
    silent = _member("m", "c", "h", ConsumerProtocolMemberMetadata(0, ["clicks"], b"").encode(), owns)
    assert silent.address is None and silent.partitions == {"clicks": [1, 3]}
    strange: list[tuple[Any, Any]] = [(b"", b""), (b"\x00", b"\xff\xff"), (b"garbage" * 9, owns)]
    for metadata, assignment in strange:
        assert _member("m", "c", "h", metadata, assignment).address is None


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "localhost", "LOCALHOST", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "evil", "")))
