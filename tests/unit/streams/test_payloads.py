"""Payloads: from allowed places only, with the promised size and hash; whatever else is a reason, never a crash."""

import os
from pathlib import Path

import msgspec
import pytest

from bad_records import bad_uploads, claim, media
from streams.claims.payloads import payload_of
from streams.errors import Reject, Retry
from streams.events import Media


def _payload(raw: bytes, root: Path, max_bytes: int = 1000) -> bytes:
    return payload_of(msgspec.json.decode(raw, type=Media), roots=[root], max_bytes=max_bytes).data


def test_inline_text_and_claimed_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a b.bin"
    file.write_bytes(b"content")
    assert _payload(media("a", "image/png", b"inline"), tmp_path) == b"inline"
    assert _payload(media("a", "text/plain", title="T", text="words"), tmp_path) == b"T\nwords"
    assert _payload(media("a", "image/png", claim(file.as_uri(), b"content")), tmp_path) == b"content"


def test_every_bad_claim_is_refused_with_its_reason(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    claims = [bad for bad in bad_uploads(b"", root) if bad.name.startswith("claim check")]
    assert len(claims) > 15
    for bad in claims:
        assert bad.value is not None
        passing = bad.name == "claim check: missing file"
        with pytest.raises(Retry if passing else Reject) as refused:
            _payload(bad.value, root)
        assert refused.value.reason in bad.reasons, bad.name


def test_what_may_pass_is_told_from_what_cannot(tmp_path: Path) -> None:
    event = media("a", "image/png", claim((tmp_path / "late").as_uri(), b"content"))
    with pytest.raises(Retry, match="no such file"):
        _payload(event, tmp_path)
    (tmp_path / "late").write_bytes(b"cont")
    with pytest.raises(Retry, match="4 of the promised 7"):
        _payload(event, tmp_path)
    (tmp_path / "late").write_bytes(b"content")
    assert _payload(event, tmp_path) == b"content"
    (tmp_path / "late").write_bytes(b"Content")
    with pytest.raises(Reject, match="sha256"):
        _payload(event, tmp_path)


def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Reject, match="no such file"):
        _payload(media("a", "image/png", claim((tmp_path / "pipe").as_uri(), b"x")), tmp_path)


def test_too_much_inline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Reject) as refused:
        _payload(media("a", "image/png", b"x" * 1001), tmp_path)
    assert refused.value.reason == "too_large"
