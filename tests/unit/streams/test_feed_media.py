"""Files as media events: told by content, small ones inline, large ones by claim check, the same id each time."""

import hashlib
import json
from pathlib import Path

import pytest

from streams.claims.payloads import payload_of
from streams.cli.run import run
from streams.clock import SystemClock
from streams.demo.feed import DATA
from streams.events import ClaimCheck
from streams.feed.clicks import BadLines
from streams.feed.media import media_event, media_type_of, read_media
from streams.feed.records import Outgoing


def read(folder: Path, bad: BadLines) -> list[Outgoing]:
    return list(read_media([folder], bad, SystemClock(), "test"))


def test_a_folder_goes_to_the_right_topics_keyed_by_asset(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "wrongly-named.txt").write_bytes((DATA / "pictures" / "cat.jpg").read_bytes())
    (tmp_path / "clip.bin").write_bytes((DATA / "audio" / "digits-2001-theo.wav").read_bytes())
    (tmp_path / "note.md").write_text("fine")
    (tmp_path / "noise.dat").write_bytes(b"\x00\x01\x02\x03" * 50)
    (tmp_path / ".hidden").write_text("not this")
    bad = BadLines()

    records = read(tmp_path, bad)

    assert [(r.topic, r.key) for r in records] == [
        ("audio", b"clip.bin"),
        ("uploads", b"note.md"),
        ("uploads", b"sub/wrongly-named.txt"),
    ]
    assert json.loads(records[1].value)["text"] == "fine"
    assert json.loads(records[2].value)["media_type"] == "image/jpeg"
    assert dict(records[0].headers)["ce_type"] == b"media.asset.v1"
    assert bad.count == 1
    assert "noise.dat" in bad.first[0][1]


def test_a_bad_file_is_told_by_its_name_not_as_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.dat").write_bytes(b"\x00\x01\x02\x03" * 50)

    assert run(["feed", str(tmp_path), "--format", "media"]) == 3
    err = capsys.readouterr().err
    assert "left out 1 bad file:" in err
    assert "noise.dat: neither a recording" in err
    assert "line" not in err.replace(str(tmp_path), "")
    assert run(["feed", str(tmp_path), "--format", "media", "--strict"]) == 2
    assert "line" not in capsys.readouterr().err.replace(str(tmp_path), "")


def test_a_large_file_becomes_a_claim_check_that_a_worker_can_open(tmp_path: Path) -> None:
    path = tmp_path / "a clip.wav"
    path.write_bytes((DATA / "audio" / "digits-2001-theo.wav").read_bytes())

    event = media_event(path, "clip", "audio/wav", 5, inline_bytes=1000)

    assert isinstance(event.payload, ClaimCheck)
    assert event.payload.size == path.stat().st_size
    assert event.payload.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert payload_of(event, roots=[tmp_path], max_bytes=1 << 20).data == path.read_bytes()


def test_ids_follow_from_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("one")
    first = media_event(path, "x", "text/plain", 1)
    again = media_event(path, "x", "text/plain", 2)
    path.write_text("two")
    changed = media_event(path, "x", "text/plain", 1)

    assert first.id == again.id != changed.id


def test_media_types_come_from_content() -> None:
    assert media_type_of(DATA / "pictures" / "cat.jpg") == "image/jpeg"
    assert media_type_of(DATA / "audio" / "digits-2001-theo.wav") == "audio/wav"
    assert media_type_of(DATA / "README.md") == "text/plain"
