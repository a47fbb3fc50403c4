"""Media that cannot be fetched yet: tried again by the retry topic, labelled as if nothing had been, or dead-lettered
once; nothing else waits for them, and nothing is lost when workers die meanwhile."""

import asyncio
import contextlib
import io
import json
import signal
import time
import wave
from pathlib import Path
from typing import Any

import pytest

from bad_records import claim, media
from processes import WorkerProcess, options_of, run_command
from running import committed, read_all, running, settings_for, until
from sending import Sent, send, value_of
from streams.claims.payloads import payload_of
from streams.settings import Settings

pytestmark = pytest.mark.models

BOTH = [
    pytest.param("embedded", "at_least_once", marks=pytest.mark.embedded),
    pytest.param("kafka", "at_least_once", marks=pytest.mark.kafka),
    pytest.param("kafka", "exactly_once", marks=pytest.mark.kafka),
]
TEXT = b"What a wonderful, generous concert."
ATTEMPTS = 4
OWN: list[tuple[str, bytes | None]] = [("ce_type", b"media.asset.v1"), ("trace", b"\x00\xff"), ("null", None)]


def settings_of(bootstrap: str, prefix: str, root: Path, delivery: str, **waits: float) -> Settings:
    wanted = {"roots": [str(root)], "retry_attempts": ATTEMPTS, "uploads": ("sentiment",)} | waits
    worker = {"delivery": delivery, "agents": ("uploads",), "drain_s": 12.0, "grace_s": 20.0}
    return settings_for(bootstrap, prefix, ("uploads",), worker=worker, media=wanted)


def late(name: str, root: Path, data: bytes = TEXT) -> Sent:
    """A text that lies, or does not lie yet, in a file."""
    event = media(name, "text/plain", claim((root / name).as_uri(), data))
    return name.encode(), event, OWN  # type: ignore[return-value]


def text(name: str) -> Sent:
    return name.encode(), media(name, "text/plain", text="They sang well."), []


async def seen(settings: Settings, topic: str, at_least: int = 0) -> list[Any]:
    kafka = settings.kafka
    return await read_all(
        kafka.bootstrap, f"{kafka.topic_prefix}{topic}", at_least, isolation_level="read_committed"
    )


@pytest.mark.parametrize(("lane", "delivery"), BOTH)
def test_what_comes_later_is_labelled_and_what_never_comes_is_a_dead_letter(
    lane: str, delivery: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_of(
        bootstrap, topic_prefix, tmp_path, delivery, retry_backoff_s=1.0, retry_backoff_max_s=2.0
    )
    cut_off = late("cut-off", tmp_path)[1][:-9]  # type: ignore[index]
    forbidden = media("f", "text/plain", claim("file:///etc/hostname", b"x"))
    sent: list[Sent] = [
        late("comes", tmp_path),
        text("good1"),
        late("never", tmp_path),
        (b"bad", cut_off, []),
        (b"forbidden", forbidden, []),
        text("good2"),
    ]

    async def main() -> None:
        async with running(settings) as worker:
            await send(bootstrap, f"{topic_prefix}uploads", sent)
            labels = await seen(settings, "labels", 2)
            assert {record.key for record in labels} == {b"good1", b"good2"}  # they did not wait
            (tmp_path / "comes").write_bytes(TEXT)
            labels = await seen(settings, "labels", 3)
            await until(
                lambda: value_of(worker, "headrace_dead_letters_total", agent="uploads-retry") == 1,
                60,
                "the last attempt",
            )
            assert value_of(worker, "headrace_dead_letters_total", agent="uploads") == 2  # at once
            retries = value_of(worker, "headrace_retries_total", reason="payload_unavailable")
            # the same event, there at the first look
            await send(bootstrap, f"{topic_prefix}uploads", [late("comes", tmp_path)])
            labels = await seen(settings, "labels", 4)
            again = await seen(settings, "uploads.retry")
            await check_replay(settings, tmp_path)
            assert retries == len(again) == value_of(worker, "headrace_retry_wait_seconds_count")
        first, second = (json.loads(record.value) for record in labels if record.key == b"comes")
        assert first["id"] == second["id"] and first["value"] == second["value"]
        assert first["because"] == {"topic": "uploads", "partition": 1, "offset": 0}
        await check_retries(settings, again, sent)
        letters = await seen(settings, "uploads.dlt", 4)
        assert len(letters) == 4  # one of them replayed, and refused again
        letters = [letter for letter in letters if dict(letter.headers)["dlt.replays"] == b"0"]
        (never,) = [letter for letter in letters if letter.key == b"never"]
        check_never(never, sent)
        attempts = {letter.key: dict(letter.headers)["dlt.attempts"] for letter in letters}
        assert attempts == {b"never": b"%d" % ATTEMPTS, b"bad": b"1", b"forbidden": b"1"}
        group = f"{topic_prefix}group.uploads-retry"
        done = await committed(bootstrap, group, f"{topic_prefix}uploads.retry", 2)
        assert done[1] is not None and done[1] >= len(again)

    asyncio.run(main())


@pytest.mark.embedded
def test_a_fetch_that_hangs_is_given_up_and_tried_again(
    embedded_broker: Any, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network share whose server has gone."""
    settings = settings_of(
        embedded_broker.bootstrap,
        topic_prefix,
        tmp_path,
        "at_least_once",
        fetch_timeout_s=1.5,
        retry_backoff_s=0.5,
    )
    (tmp_path / "hangs").write_bytes(TEXT)
    fetched = 0

    def hanging(*arguments: Any, **options: Any) -> Any:
        nonlocal fetched
        fetched += 1
        if fetched == 1:
            time.sleep(3)
        return payload_of(*arguments, **options)

    async def main() -> None:
        monkeypatch.setattr("streams.claims.payloads.payload_of", hanging)
        async with running(settings):
            await send(settings.kafka.bootstrap, f"{topic_prefix}uploads", [late("hangs", tmp_path)])
            await seen(settings, "labels", 1)
        (again,) = await seen(settings, "uploads.retry")
        assert dict(again.headers)["headrace.retry.message"] == b"not fetched within 1.5 s"
        assert await seen(settings, "uploads.dlt") == []

    asyncio.run(main())
    assert fetched == 2


@pytest.mark.embedded
def test_a_recording_that_comes_later(embedded_broker: Any, topic_prefix: str, tmp_path: Path) -> None:
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    root, recording = tmp_path, raw.getvalue()
    settings = settings_for(
        embedded_broker.bootstrap,
        topic_prefix,
        ("audio",),
        media={"roots": [str(root)], "retry_backoff_s": 0.5, "retry_backoff_max_s": 0.5},
    )
    event = media("show", "audio/wav", claim((root / "show").as_uri(), recording))

    async def main() -> None:
        async with running(settings) as worker:
            await send(settings.kafka.bootstrap, f"{topic_prefix}audio", [(b"show", event, [])])
            await until(lambda: value_of(worker, "headrace_retries_total", agent="audio") == 1, 60, "a retry")
            (root / "show").write_bytes(recording)
            (label,) = await seen(settings, "labels", 1)
            assert json.loads(label.value)["because"]["topic"] == "audio"
            assert value_of(worker, "headrace_dead_letters_total") == 0

    asyncio.run(main())


async def check_retries(settings: Settings, again: list[Any], sent: list[Sent]) -> None:
    """Bytes and own headers untouched, attempts counted, not before the time, at least half the wait apart."""
    values = {key: value for key, value, _ in sent}
    inputs = {record.key: record for record in reversed(await seen(settings, "uploads", len(sent)))}
    assert {record.partition for record in again} == {1}
    for name in (b"comes", b"never"):
        tries = [record for record in again if record.key == name]
        tried_ms = inputs[name].timestamp  # or later
        assert 1 <= len(tries) < ATTEMPTS and (name != b"never" or len(tries) == ATTEMPTS - 1)
        for n, record in enumerate(tries):
            assert record.value == values[name]
            assert [tuple(header) for header in record.headers[: len(OWN)]] == OWN
            added = dict(record.headers[len(OWN) :])
            assert added["headrace.retry.attempts"] == b"%d" % (n + 1)
            assert added["headrace.retry.topic"] == b"uploads"
            assert added["headrace.retry.partition"] == b"1"
            assert added["headrace.retry.reason"] == b"payload_unavailable"
            assert int(added["headrace.retry.offset"]) == inputs[name].offset
            not_before_ms = int(added["headrace.retry.not-before"])
            assert tried_ms + 499 <= not_before_ms <= record.timestamp + 2000
            tried_ms = not_before_ms
            if n + 1 < len(tries):
                assert tries[n + 1].timestamp >= not_before_ms


async def check_replay(settings: Settings, folder: Path) -> None:
    """What never came has come at last: listed with its attempts, sent again, labelled."""

    async def dlq(*arguments: str) -> Any:
        command = [*options_of(settings), "dlq", *arguments, "--topic", "uploads", "--json"]
        ended = await asyncio.to_thread(run_command, command, folder)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    letters = (await dlq("list", "--reason", "payload_unavailable"))["dead_letters"]
    assert sorted(letter["attempts"] for letter in letters) == [1, ATTEMPTS]
    (folder / "never").write_bytes(TEXT)
    done = await dlq("replay", "--reason", "payload_unavailable")
    assert done["topics"]["uploads"]["sent"] == 2
    labels = await seen(settings, "labels", 5)
    assert b"never" in {record.key for record in labels}


def check_never(letter: Any, sent: list[Sent]) -> None:
    added = dict(letter.headers)
    assert letter.value == next(value for key, value, _ in sent if key == b"never")
    assert [tuple(header) for header in letter.headers[: len(OWN)]] == OWN
    assert not any(name.startswith("headrace.retry") for name in added)
    assert added["__connect.errors.topic"] == b"uploads"
    assert added["__connect.errors.partition"] == b"1"
    assert added["__connect.errors.connector.name"].endswith(b".uploads-retry")
    assert added["__connect.errors.class.name"] == b"streams.agents.retry.UploadsRetryAgent"
    assert added["__connect.errors.exception.class.name"] == b"streams.errors.Retry"
    assert b"Caused by: FileNotFoundError" in added["__connect.errors.exception.stacktrace"]
    assert b"payloads._read" in added["__connect.errors.exception.stacktrace"]
    assert added["dlt.reason"] == b"payload_unavailable"


@pytest.mark.parametrize(("lane", "delivery"), BOTH)
def test_workers_that_end_while_it_waits_lose_nothing(
    lane: str, delivery: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path
) -> None:
    """One is killed, the next told to stop; waiting is longer than a session, and costs no membership."""
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    root = tmp_path / "root"
    root.mkdir()
    patient = settings_of(
        bootstrap, topic_prefix, root, delivery, retry_backoff_s=600.0, retry_backoff_max_s=600.0
    )
    napping = 'headrace_partitions_napping{agent="uploads-retry"}'
    moved = 'headrace_rebalances_total{agent="uploads-retry"}'

    with contextlib.ExitStack() as stack:
        asyncio.run(prepared(patient, late("comes", root)))
        first = stack.enter_context(WorkerProcess(patient, tmp_path / "first.log"))
        first.wait_until(lambda: first.metric(napping) == 1, 120, "it waits")
        first.signal(signal.SIGKILL)
        first.ended(5)
        second = stack.enter_context(WorkerProcess(patient, tmp_path / "second.log"))
        second.wait_until(lambda: second.metric(napping) == 1, 120, "it waits, too")
        before = second.metric(moved)
        time.sleep(patient.kafka.session_timeout_s + 1)
        assert second.ready and second.metric(moved) == before and second.metric(napping) == 1
        asyncio.run(send(bootstrap, f"{topic_prefix}uploads", [text("good")]))
        second.wait_until(
            lambda: second.metric('headrace_labels_total{task="sentiment"}') == 1, 60, "others go on"
        )
        started_s = time.monotonic()
        second.signal(signal.SIGTERM)
        assert second.ended(patient.worker.grace_s) == 0, second.said
        assert time.monotonic() - started_s < patient.worker.drain_s, second.said  # nothing to drain
        assert "Traceback" not in second.said and "unfinished" not in second.said, second.said

    (root / "comes").write_bytes(TEXT)
    hasty = settings_of(bootstrap, topic_prefix, root, delivery, retry_backoff_s=1.0, retry_backoff_max_s=1.0)

    async def main() -> None:
        async with running(hasty):
            labels = await seen(hasty, "labels", 2)
        # killed before it had committed, a worker leaves the record to be read and put off once more
        names = [record.key for record in labels]
        exact = delivery == "exactly_once"
        assert (sorted(names) if exact else sorted(set(names))) == [b"comes", b"good"]
        assert len({json.loads(record.value)["id"] for record in labels}) == 2
        assert await seen(hasty, "uploads.dlt") == []
        assert len(await seen(hasty, "uploads.retry")) == (1 if exact else names.count(b"comes"))

    asyncio.run(main())


async def prepared(settings: Settings, *records: Sent) -> None:
    from streams.topology.admin import apply

    await apply(settings)
    await send(settings.kafka.bootstrap, f"{settings.kafka.topic_prefix}uploads", records)
