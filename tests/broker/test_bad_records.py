"""Every kind of bad record through a real broker: dead-lettered byte for byte with its reason, the rest processed."""

import asyncio
import io
import math
import struct
import wave
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bad_records import Bad, bad_audio, bad_clicks, bad_uploads, click, media
from running import committed, read_all, running, settings_for, until
from sending import Sent, send, value_of

PICTURE = Path(__file__).parents[1] / "golden" / "pictures" / "coffee.jpg"
LANES = [
    pytest.param("embedded", marks=pytest.mark.embedded),
    pytest.param("kafka", marks=pytest.mark.kafka),
]


def mixed(good: Sequence[bytes], bad: Sequence[Bad]) -> list[Sent]:
    """A good one, a bad one, a good one, ..."""
    records: list[Sent] = []
    for n in range(max(len(good), len(bad))):
        if n < len(good):
            records.append((b"good", good[n], []))
        if n < len(bad):
            records.append((bad[n].key, bad[n].value, list(bad[n].headers)))
    return records


async def check_dead_letters(
    bootstrap: str, prefix: str, topic: str, sent: Sequence[Sent], bad: Sequence[Bad]
) -> None:
    """Each bad record lies in the dead-letter topic as it was, each once, with its reason and place."""
    letters = await read_all(bootstrap, f"{prefix}{topic}.dlt", len(bad))
    assert len(letters) == len(bad)
    found: dict[int, Any] = {}
    for letter in letters:
        added = dict(letter.headers)
        assert letter.partition == 1
        assert added["__connect.errors.topic"] == topic.encode()
        assert added["__connect.errors.partition"] == b"1"
        assert added["dlt.worker"].startswith(b"headrace/") and added["__connect.errors.exception.message"]
        found[int(added["__connect.errors.offset"])] = letter
    inputs = await read_all(bootstrap, f"{prefix}{topic}", len(sent))
    offsets = [record.offset for record in inputs]
    places = [n for n, (key, _, _) in enumerate(sent) if key != b"good"]
    for place, one in zip(places, bad, strict=True):
        letter = found[offsets[place]]
        assert (letter.key, letter.value) == (one.key, one.value), one.name
        assert [tuple(h) for h in letter.headers[: len(one.headers)]] == one.headers, one.name
        assert dict(letter.headers)["dlt.reason"].decode() in one.reasons, (one.name, letter.headers)


@pytest.mark.parametrize("lane", LANES)
def test_bad_clicks(lane: str, request: pytest.FixtureRequest, topic_prefix: str) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    settings = settings_for(bootstrap, topic_prefix, ("clicks",), taste={"future_s": 86400})
    bad = bad_clicks()
    good = [click(n, user=f"u{n}") for n in range(60)]
    sent = mixed(good, bad)

    async def main() -> None:
        async with running(settings) as worker:
            await send(bootstrap, f"{topic_prefix}clicks", sent)
            applied = lambda: value_of(worker, "headrace_applied_total", agent="clicks")  # noqa: E731
            await until(lambda: applied() == len(sent), 20, "all finished")
            assert value_of(worker, "headrace_records_total", agent="clicks") == len(sent)
            assert value_of(worker, "headrace_dead_letters_total", agent="clicks") == len(bad)
            assert value_of(worker, "headrace_users") == len(good)
            for reason, n in Counter(b.reasons[0] for b in bad if len(b.reasons) == 1).items():
                assert value_of(worker, "headrace_dead_letters_total", reason=reason) >= n
        await check_dead_letters(bootstrap, topic_prefix, "clicks", sent, bad)
        lists = await read_all(bootstrap, f"{topic_prefix}recommendations", len(good))
        assert {record.key.decode() for record in lists} == {f"u{n}" for n in range(60)}
        group = f"{topic_prefix}group.clicks"
        assert (await committed(bootstrap, group, f"{topic_prefix}clicks", 2))[1] == len(sent)

    asyncio.run(main())


@pytest.mark.models
@pytest.mark.parametrize("lane", LANES)
def test_bad_media(lane: str, request: pytest.FixtureRequest, topic_prefix: str, tmp_path: Path) -> None:
    bootstrap = request.getfixturevalue(f"{lane}_broker").bootstrap
    root = tmp_path / "root"
    root.mkdir()
    settings = settings_for(
        bootstrap, topic_prefix, ("audio", "uploads"), media={"roots": [str(root)], "retry_attempts": 1}
    )
    picture = PICTURE.read_bytes()
    good_uploads = [
        media("p0", "image/jpeg", picture),
        media("p1", "text/plain", text="What a wonderful day."),
    ]
    cases = {
        "uploads": (good_uploads, bad_uploads(picture, root)),
        "audio": ([media("a0", "audio/wav", tone())], bad_audio(tone(), root)),
    }
    sent = {topic: mixed(good, bad) for topic, (good, bad) in cases.items()}

    async def main() -> None:
        async with running(settings) as worker:
            for topic, records in sent.items():
                await send(bootstrap, f"{topic_prefix}{topic}", records)
            for topic, records in sent.items():
                done = lambda t=topic: value_of(worker, "headrace_applied_total", agent=t)  # noqa: E731
                total = len(records)
                await until(lambda d=done, n=total: d() == n, 30, f"all of {topic} finished")
                letters = value_of(worker, "headrace_dead_letters_total", agent=topic)
                assert letters == len(cases[topic][1])
                assert value_of(worker, "headrace_records_total", agent=topic) == len(records)
        for topic, (_, bad) in cases.items():
            await check_dead_letters(bootstrap, topic_prefix, topic, sent[topic], bad)
        labels = await read_all(bootstrap, f"{topic_prefix}labels", 3)
        assert {record.key for record in labels} >= {b"p0", b"p1", b"a0"}

    asyncio.run(main())


def tone(seconds: float = 1.0) -> bytes:
    """A WAV file: a sine of 440 Hz."""
    raw = io.BytesIO()
    with wave.open(raw, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        samples = (int(9000 * math.sin(2 * math.pi * 440 * n / 16_000)) for n in range(int(16_000 * seconds)))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return raw.getvalue()
